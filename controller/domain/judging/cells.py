"""The gate's answers as they are recorded."""

from collections.abc import Mapping
from dataclasses import replace

from controller.domain.record.verdicts import JudgedCell
from controller.gate.verdict import Cell

# A sentence names so many hosts and counts the others.
_NAMED = 5
CRITICAL = "critical"
TOLD = "told"


def judged_cell(cell: Cell, role: str = "") -> JudgedCell:
    """Return a cell as it is recorded; `role` in place of its own."""
    return JudgedCell(
        stratum=cell.stratum,
        metric=cell.metric,
        verdict=cell.verdict.name,
        claim=cell.claim.value if cell.claim else "",
        sentence=cell.sentence,
        unit=cell.unit,
        hosts=cell.blocks,
        low=cell.low,
        estimate=cell.estimate,
        high=cell.high,
        bound=cell.bound,
        role=role or cell.role.value,
        controls=cell.controls,
        look=cell.look,
        looks=cell.looks,
        outliers=cell.sick,
    )


def trial_cell(cell: Cell, unfit: Mapping[str, str], role: str = "") -> JudgedCell:
    """Return a cell of a trial as it is recorded; its numbers are percent for the worse.

    `unfit` are the hosts that were left out before anything was compared, and why.
    """
    left_out = "".join(f" Not qualified: {host}, {why}." for host, why in sorted(unfit.items())[:_NAMED])
    if len(unfit) > _NAMED:
        left_out += f" And {len(unfit) - _NAMED} more hosts."
    unit = "%" if cell.bound is not None else ""
    return replace(judged_cell(cell, role), unit=unit, sentence=f"{cell.sentence}{left_out}")
