"""The gate's answers as they are recorded."""

from controller.domain.events import JudgedCell
from controller.gate.trial import TrialCell
from controller.gate.verdict import CellVerdict

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


def told_cell(cell: TrialCell) -> JudgedCell:
    """Return a cell of a trial that decides nothing here, as it is recorded; its numbers are percent for the worse."""
    return JudgedCell(
        stratum=cell.stratum,
        metric=cell.metric,
        verdict=cell.verdict.name,
        claim="",
        sentence=cell.sentence,
        unit="%",
        hosts=cell.blocks,
        low=cell.low,
        estimate=cell.estimate,
        high=cell.high,
        bound=cell.bound,
        role=TOLD,
    )
