"""The gate's answers as they are recorded."""

from collections.abc import Mapping
from dataclasses import replace

from controller.domain.record.verdicts import JudgedCell
from controller.gate.trial.model import TrialCell
from controller.gate.verdict import CellVerdict

# A sentence names so many hosts and counts the others.
_NAMED = 5
CRITICAL = "critical"
TOLD = "told"


def judged_cell(cell: CellVerdict, role: str = CRITICAL) -> JudgedCell:
    """Return a cell of a rollout's judgement."""
    return JudgedCell(
        stratum=cell.stratum,
        metric=cell.metric,
        verdict=cell.verdict.name,
        claim=cell.claim.value if cell.claim else "",
        sentence=cell.sentence,
        unit=cell.unit,
        hosts=cell.hosts,
        low=cell.low,
        estimate=cell.estimate,
        high=cell.high,
        bound=cell.bound,
        role=role,
    )


def told_cell(cell: TrialCell, unfit: Mapping[str, str]) -> JudgedCell:
    """Return a cell of a trial that decides nothing here, as it is recorded; its numbers are percent for the worse.

    `unfit` are the hosts that were left out before anything was compared, and why.
    """
    return replace(trial_cell(cell, unfit), role=TOLD)


def trial_cell(cell: TrialCell, unfit: Mapping[str, str]) -> JudgedCell:
    """Return a cell of a trial as it is recorded; its numbers are percent for the worse. `unfit` as for told ones."""
    left_out = "".join(f" Not qualified: {host}, {why}." for host, why in sorted(unfit.items())[:_NAMED])
    if len(unfit) > _NAMED:
        left_out += f" And {len(unfit) - _NAMED} more hosts."
    return JudgedCell(
        stratum=cell.stratum,
        metric=cell.metric,
        verdict=cell.verdict.name,
        claim="",
        sentence=f"{cell.sentence}{left_out}",
        unit="%" if cell.bound is not None else "",
        hosts=cell.blocks,
        low=cell.low,
        estimate=cell.estimate,
        high=cell.high,
        bound=cell.bound,
        role=cell.role.value,
        controls=cell.controls,
        look=cell.look,
        looks=cell.looks,
        outliers=cell.sick,
    )
