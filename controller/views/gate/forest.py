"""The forest of a judgement: cells, intervals and the lines they are held against, for text and picture alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.gate.trial.model import TrialDecision
from controller.gate.verdict import Cell, MetricRole
from controller.views.gate.replayed import ReplayView
from controller.views.models import RolloutView, VerdictView

# A reader who sees no colours tells verdicts apart by these.
SYMBOLS: Final[Mapping[str, str]] = {
    "PASS": "✓",
    "MARGINAL": "~",
    "NEED_MORE_DATA": "…",
    "INCONCLUSIVE": "?",
    "FAIL": "✗",
    "FATAL": "✗✗",
}
_WORST: Final = tuple(SYMBOLS)
_CHANGE: Final = "change for the worse, %"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestLine:
    """A value that an interval is held against."""

    # "zero", "tolerated" (κΔ), "margin" (Δ) or "claim".
    kind: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One cell."""

    stratum: str
    metric: str
    # "critical", "guard" or "negative_control".
    role: str
    verdict: str
    symbol: str
    # "confirmed", "refuted", "open", or empty when the cell judges no claim.
    claim: str
    # None: there is none. A missing bound is endless in its direction.
    estimate: float | None
    low: float | None
    high: float | None
    # Lines of this row, ascending.
    lines: tuple[ForestLine, ...]
    # Blocks or hosts that it rests on.
    blocks: int
    planned_blocks: int
    look: int
    looks: int
    sick: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestPanel:
    """Rows that share one scale."""

    # What the scale shows, with its unit; empty for rows that have no numbers.
    scale: str
    # Whether more is better on this scale (savings) or worse (changes).
    more_is_better: bool
    rows: tuple[ForestRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumLine:
    """What a stratum's cells amount to."""

    stratum: str
    verdict: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestView:
    """A whole judgement."""

    title: str
    # "promote", "hold" or "revert"; a rollout's own state for rollouts.
    action: str
    # The worst of the cells that decide.
    verdict: str
    sentence: str
    strata: tuple[StratumLine, ...]
    panels: tuple[ForestPanel, ...]
    remarks: tuple[str, ...]


def forest_of_trial(decision: TrialDecision, title: str, remarks: Sequence[str] = ()) -> ForestView:
    """Return the forest of a judged trial; `remarks` of the files come before those of the gate."""
    return ForestView(
        title=title,
        action=decision.action.value,
        verdict=decision.verdict.name,
        sentence=decision.sentence,
        strata=tuple(
            StratumLine(stratum=one.stratum, verdict=one.verdict.name, sentence=one.sentence) for one in decision.strata
        ),
        panels=_panels((_trial_scale(cell), cell.claim is not None, _trial_row(cell)) for cell in decision.cells),
        remarks=(*remarks, *decision.remarks),
    )


def forest_of_rollout(view: RolloutView) -> ForestView:
    """Return the forest of a rollout's newest verdicts."""
    return _forest(view.name, view.state, view.blocking_reason, view.verdicts)


def forest_of_replay(view: ReplayView) -> ForestView:
    """Return the forest of the newest verdicts of a replay."""
    newest = {(one.stratum, one.metric): one for wave in view.waves for one in wave.verdicts}
    action = view.waves[-1].decision if view.waves else "hold"
    return _forest(f"{view.name}, replayed", action, view.sentence, [newest[key] for key in sorted(newest)])


def _forest(title: str, action: str, sentence: str, verdicts: Sequence[VerdictView]) -> ForestView:
    # What is only told decides over no stratum.
    deciding = [one for one in verdicts if one.role == MetricRole.CRITICAL.value]
    strata = sorted({one.stratum for one in deciding})
    worst = {name: max((one for one in deciding if one.stratum == name), key=_rank) for name in strata}
    return ForestView(
        title=title,
        action=action,
        verdict=max(deciding, key=_rank).verdict if deciding else "NEED_MORE_DATA",
        sentence=sentence,
        strata=tuple(
            StratumLine(stratum=name, verdict=one.verdict, sentence=one.sentence) for name, one in worst.items()
        ),
        panels=_panels((_verdict_scale(one), bool(one.claim), _verdict_row(one)) for one in verdicts),
        remarks=(),
    )


def _rank(one: VerdictView) -> int:
    return _WORST.index(one.verdict) if one.verdict in _WORST else -1


def _trial_scale(cell: Cell) -> str:
    if cell.claim is not None:
        return f"saving, {cell.unit}"
    return _CHANGE if cell.bound is not None else ""


def _trial_row(cell: Cell) -> ForestRow:
    lines = [ForestLine(kind="zero", value=0.0)]
    if cell.claim is not None and cell.bound is not None:
        lines.append(ForestLine(kind="claim", value=cell.bound))
    elif cell.bound is not None and cell.tolerated is not None:
        lines.append(ForestLine(kind="margin", value=cell.bound))
        # A negative control may move to neither side.
        two_sided = cell.role is MetricRole.NEGATIVE_CONTROL
        other = ("margin", -cell.bound) if two_sided else ("tolerated", cell.tolerated)
        lines.append(ForestLine(kind=other[0], value=other[1]))
    return ForestRow(
        stratum=cell.stratum,
        metric=cell.metric,
        role=cell.role.value,
        verdict=cell.verdict.name,
        symbol=SYMBOLS[cell.verdict.name],
        claim=cell.claim.value if cell.claim else "",
        estimate=cell.estimate,
        low=cell.low,
        high=cell.high,
        lines=tuple(sorted(lines, key=lambda line: line.value)) if cell.bound is not None else (),
        blocks=cell.blocks,
        planned_blocks=cell.planned_blocks,
        look=cell.look,
        looks=cell.looks,
        sick=cell.sick,
        sentence=cell.sentence,
    )


def _verdict_scale(one: VerdictView) -> str:
    if one.claim:
        return f"saving, {one.unit}"
    if one.interval is None:
        return ""
    return _CHANGE if one.unit in ("", "%") else f"change for the worse, {one.unit}"


def _verdict_row(one: VerdictView) -> ForestRow:
    lines = [ForestLine(kind="zero", value=0.0)]
    if one.bound:
        lines.append(ForestLine(kind="claim" if one.claim else "margin", value=one.bound))
    return ForestRow(
        stratum=one.stratum,
        metric=one.metric,
        role=one.role,
        verdict=one.verdict,
        symbol=SYMBOLS.get(one.verdict, "?"),
        claim=one.claim,
        estimate=one.interval.estimate if one.interval else None,
        low=one.interval.low if one.interval else None,
        high=one.interval.high if one.interval else None,
        lines=tuple(sorted(lines, key=lambda line: line.value)) if _verdict_scale(one) else (),
        blocks=one.hosts,
        planned_blocks=0,
        look=0,
        looks=0,
        sick=(),
        sentence=one.sentence,
    )


def _panels(scaled: Iterable[tuple[str, bool, ForestRow]]) -> tuple[ForestPanel, ...]:
    """Group rows by scale: changes first, then savings, rows without numbers last."""
    grouped: dict[tuple[str, bool], list[ForestRow]] = {}
    for scale, is_claim, row in scaled:
        grouped.setdefault((scale, is_claim), []).append(row)
    order = sorted(grouped, key=lambda key: (not key[0], key[0]))
    return tuple(
        ForestPanel(scale=scale, more_is_better=is_claim, rows=tuple(grouped[scale, is_claim]))
        for scale, is_claim in order
    )
