"""The cells of a trial that are held against a margin: looks, bounds, sick hosts, and the sentence."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from controller.gate.planning.power import sample_size
from controller.gate.precautions import catastrophe
from controller.gate.statistics.bounds import describe
from controller.gate.statistics.cells import CellPlan, CellResults, Design, Method, judge_cells
from controller.gate.statistics.contrasts import log_margin, median
from controller.gate.statistics.family import FamilyCell
from controller.gate.statistics.sequential import information
from controller.gate.trial.blocks import Blocks, blocks_of
from controller.gate.trial.model import Measurement, TrialMetric, TrialPlan
from controller.gate.trial.plans import CellLooks, calendar_of, cell_looks
from controller.gate.verdict import Cell, MetricRole, Verdict

Floats = NDArray[np.float64]

# How a cell without a design ends, always.
CONFOUNDED: Final = f"{Verdict.INCONCLUSIVE.name} (confounded with time)"
# What one block is called, one and several.
_BLOCK_WORDS: Final = {
    Design.TWO_ARMS: ("treated host", "treated hosts"),
    Design.PAIRS: ("pair", "pairs"),
    Design.ABBA: ("cycle", "cycles"),
    Design.BEFORE_AFTER: ("host", "hosts"),
}
# A sentence names so many blocks and counts the others.
_NAMED: Final = 5
# A ratio beyond e^50 is no change of a workload but the mark of runs that did not end.
_LARGEST_LOG: Final = 50.0
# The level of the interval that a standard error is read from.
_EFFECT_CONFIDENCE: Final = 0.9
# Nobody measures more blocks than this.
_MOST_NEEDED: Final = 1e6


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A judged cell, and what the family of critical cells needs of it at the last look."""

    cell: Cell
    # None before the last look, without blocks, and for cells that are not critical.
    family: FamilyCell | None
    # The effect with its standard error, in log units; None when there is none to tell.
    effect: tuple[float, float] | None
    # Hosts (pairs, cycles) that are worse by more than ten margins, if there are two or more.
    catastrophe: tuple[str, ...]


def change_cell(
    plan: TrialPlan, metric: TrialMetric, stratum: str, runs: Sequence[Measurement], critical_cells: int
) -> Change:
    """Judge a metric against its margin; `critical_cells` share the error of a false revert."""
    assert metric.margin is not None, "only for metrics with a margin"
    in_place = calendar_of(plan, stratum) is not None
    blocks = blocks_of(plan.design, metric, runs, plan.runs, in_place=in_place)
    share = critical_cells if metric.role is MetricRole.CRITICAL else 1
    looks = cell_looks(plan, metric, blocks, share, stratum)
    cell_plan, final = looks.taken, looks.final
    result = _judged(cell_plan, blocks, final=final)
    # Between planned looks nothing may be decided: a look of its own after every host would be one look too many.
    verdict = Verdict(int(result.verdict[0])) if looks.due else Verdict.NEED_MORE_DATA
    if metric.role is MetricRole.NEGATIVE_CONTROL and len(blocks.values):
        # It may move to neither side, so it is asked a second time with the sides exchanged.
        other = _judged(cell_plan, _mirrored(blocks), final=final)
        verdict = max(verdict, Verdict(int(other.verdict[0]))) if looks.due else verdict
        result.low[0] = -other.high[0]
    used = _used(blocks, cell_plan, result)
    cell = _cell(plan, metric, stratum, looks=looks, blocks=used, result=result, verdict=verdict)
    unseen = len(blocks.values) - len(used.values)
    following = next((look for look in looks.planned if look > len(used.values)), None)
    why = ""
    if verdict in (Verdict.NEED_MORE_DATA, Verdict.INCONCLUSIVE):
        constant = bool(result.constant[0])
        why = _why_open(plan, metric, cell, blocks=used, constant=constant, following=following)
    cell = dataclasses.replace(cell, sentence=_sentence(plan, cell, used, unseen, why))
    return Change(
        cell=cell,
        family=_family(cell, cell_plan, blocks),
        effect=_effect(metric, cell_plan, used),
        catastrophe=_catastrophe(plan, metric, blocks),
    )


def fail_by_holm(cell: Cell) -> Cell:
    """Return an undecided cell as failed, because other cells that failed left it their share of the error."""
    text = (
        f"{cell.sentence.partition(f' {cell.verdict.name}')[0]} FAIL by the error that other failing cells left (Holm)."
    )
    return dataclasses.replace(cell, verdict=Verdict.FAIL, sentence=text)


def _effect(metric: TrialMetric, cell_plan: CellPlan, blocks: Blocks) -> tuple[float, float] | None:
    two = cell_plan.design is Design.TWO_ARMS
    endless = np.isinf(blocks.values).any() or np.isinf(blocks.control).any()
    if metric.role is MetricRole.NEGATIVE_CONTROL or cell_plan.design is Design.BEFORE_AFTER or endless:
        return None
    if not len(blocks.values):
        return None
    control = blocks.control[None, :] if two else None
    estimate, low, high = (float(one[0]) for one in describe(blocks.values[None, :], control, _EFFECT_CONFIDENCE))
    error = (high - low) / (2 * float(ndtri(0.5 + _EFFECT_CONFIDENCE / 2)))
    return (estimate, error) if math.isfinite(estimate) and math.isfinite(error) else None


def _catastrophe(plan: TrialPlan, metric: TrialMetric, blocks: Blocks) -> tuple[str, ...]:
    """Return the blocks far beyond the margin, whether a look is due or not: a warning spends no error."""
    assert metric.margin is not None, "only for metrics with a margin"
    if plan.design is Design.BEFORE_AFTER or metric.role is MetricRole.NEGATIVE_CONTROL:
        return ()
    return catastrophe(dict(zip(blocks.names, blocks.values.tolist(), strict=True)), log_margin(metric.margin))


def _family(cell: Cell, cell_plan: CellPlan, blocks: Blocks) -> FamilyCell | None:
    ranked = cell_plan.method is Method.RANKS and cell_plan.design is not Design.BEFORE_AFTER
    waiting = cell.verdict is Verdict.NEED_MORE_DATA
    if cell.role is not MetricRole.CRITICAL or waiting or not ranked or not cell.blocks:
        return None
    two = cell_plan.design is Design.TWO_ARMS
    return FamilyCell(plan=cell_plan, values=blocks.values, control=blocks.control if two else None)


def median_change(design: Design, metric: TrialMetric, runs: Sequence[Measurement]) -> float | None:
    """Return the hosts' median change of a metric in percent, up is +; None without a host that has both sides."""
    blocks = blocks_of(design, metric, runs, 1)
    return _percent(float(median(blocks.values))) if len(blocks.values) else None


def _used(blocks: Blocks, cell_plan: CellPlan, result: CellResults) -> Blocks:
    """Return the blocks that the deciding look saw; what came later was never looked at."""
    look = int(result.look[0])
    if not look:
        return blocks
    n, m = cell_plan.looks[look - 1], cell_plan.control_looks[look - 1]
    names = {*blocks.names[:n], *(blocks.control_names[:m])}
    later = {*blocks.names[n:], *blocks.control_names[m:]} - names
    return dataclasses.replace(
        blocks,
        names=blocks.names[:n],
        hosts=blocks.hosts[:n],
        values=blocks.values[:n],
        times=blocks.times[:n],
        control_names=blocks.control_names[:m],
        control=blocks.control[:m],
        control_times=blocks.control_times[:m],
        own=None if blocks.own is None else (blocks.own[0][:n], blocks.own[1][:n]),
        partners=blocks.partners[:n],
        incomplete=tuple(one for one in blocks.incomplete if one[0] not in later),
    )


def _judged(cell_plan: CellPlan, blocks: Blocks, *, final: bool) -> CellResults:
    control = blocks.control[None, :] if cell_plan.design is Design.TWO_ARMS else None
    own = None if blocks.own is None else (blocks.own[0][None, :], blocks.own[1][None, :])
    return judge_cells(blocks.values[None, :], cell_plan, control=control, own=own, final=final)


def _mirrored(blocks: Blocks) -> Blocks:
    own = None if blocks.own is None else (-blocks.own[0], -blocks.own[1])
    return dataclasses.replace(blocks, values=-blocks.values, control=-blocks.control, own=own)


def _cell(
    plan: TrialPlan,
    metric: TrialMetric,
    stratum: str,
    /,
    *,
    looks: CellLooks,
    blocks: Blocks,
    result: CellResults,
    verdict: Verdict,
) -> Cell:
    assert metric.margin is not None
    cell_plan = looks.taken
    sick = [name for name, bad in zip(blocks.names, result.sick[0], strict=False) if bad]
    others = blocks.partners or blocks.control_names
    sick += [name for name, bad in zip(others, result.sick_control[0], strict=False) if bad]
    return Cell(
        stratum=stratum,
        metric=metric.name,
        role=metric.role,
        verdict=verdict,
        estimate=_percent(_estimate(plan, blocks, result)),
        low=_percent(float(result.low[0])),
        high=_percent(float(result.high[0])),
        bound=metric.margin * 100,
        tolerated=_percent(cell_plan.kappa * cell_plan.margin),
        unit=metric.unit,
        blocks=int(np.count_nonzero(~np.isnan(blocks.values))),
        controls=int(np.count_nonzero(~np.isnan(blocks.control))),
        planned_blocks=cell_plan.n_max,
        look=int(result.look[0]) if looks.due else 0,
        looks=len(looks.planned),
        sick=tuple(sorted(sick)),
        sentence="",
    )


def _estimate(plan: TrialPlan, blocks: Blocks, result: CellResults) -> float:
    """Return the estimate; before and after without a design only has the hosts' median change."""
    if plan.design is Design.BEFORE_AFTER and len(blocks.values):
        return float(median(blocks.values))
    return float(result.estimate[0])


def _percent(change: float) -> float | None:
    """Return a log ratio in percent; None for none, and for one that runs which did not end made endless."""
    return None if not math.isfinite(change) or change > _LARGEST_LOG else math.expm1(change) * 100


def _sentence(plan: TrialPlan, cell: Cell, blocks: Blocks, unseen: int, why: str) -> str:
    parts = [_change_text(cell), _count_text(plan, cell, blocks)]
    if cell.looks > 1 and cell.look:
        parts.append(f"look {cell.look} of {cell.looks}")
        if unseen:
            parts.append(f"{unseen} more not looked at yet" if why else f"{unseen} later ones not looked at")
    told = ", ".join(parts)
    for clause in (_majority_text(cell, blocks), _control_text(blocks), _incomplete_text(blocks), _sick_text(cell)):
        if clause:
            told += f"; {clause}"
    return f"{cell.stratum} {cell.metric}: {told}. {cell.verdict.name}{why}."


def _change_text(cell: Cell) -> str:
    if cell.estimate is None:
        return f"no estimate (margin {cell.bound:g} %)"
    low = "no lower bound" if cell.low is None else f"{cell.low:+.2f}"
    high = "no upper bound" if cell.high is None else f"{cell.high:+.2f} %"
    # A negative control has no better direction.
    up, down = ("higher", "lower") if cell.role is MetricRole.NEGATIVE_CONTROL else ("worse", "better")
    side = up if cell.estimate >= 0 else down
    if cell.low is None and cell.high is None:
        return f"{abs(cell.estimate):.2f} % {side} (no bounds, margin {cell.bound:g} %)"
    return f"{abs(cell.estimate):.2f} % {side} (bounds {low} … {high}, + is {up}, margin {cell.bound:g} %)"


def _count_text(plan: TrialPlan, cell: Cell, blocks: Blocks) -> str:
    one, several = _BLOCK_WORDS[plan.design]
    text = f"{cell.blocks} {one if cell.blocks == 1 else several}"
    if plan.design is Design.TWO_ARMS:
        controls = int(np.count_nonzero(~np.isnan(blocks.control)))
        text += f" against {controls} control host{'' if controls == 1 else 's'}"
    hosts = {host for host, value in zip(blocks.hosts, blocks.values, strict=True) if not math.isnan(value)}
    if 0 < len(hosts) < cell.blocks:
        # Repetitions on a few hosts are about these hosts.
        text += f" on {len(hosts)} host{'' if len(hosts) == 1 else 's'} (says nothing of others)"
    return text


def _majority_text(cell: Cell, blocks: Blocks) -> str:
    present = blocks.values[~np.isnan(blocks.values)]
    if cell.role is MetricRole.NEGATIVE_CONTROL:
        return ""
    return f"{int(np.count_nonzero(present > 0))} of {len(present)} got worse" if len(present) > 1 else ""


def _control_text(blocks: Blocks) -> str:
    moved = _percent(float(median(blocks.control))) if len(blocks.control) else None
    return "" if moved is None else f"controls moved {moved:+.2f} % (removed)"


def _incomplete_text(blocks: Blocks) -> str:
    if not blocks.incomplete:
        return ""
    name, reason = blocks.incomplete[0]
    others = f" and {len(blocks.incomplete) - 1} more" if len(blocks.incomplete) > 1 else ""
    return f"left out: {name} ({reason}){others}"


def _sick_text(cell: Cell) -> str:
    if not cell.sick:
        return ""
    names = ", ".join(cell.sick[:_NAMED]) + (f" and {len(cell.sick) - _NAMED} more" if len(cell.sick) > _NAMED else "")
    return f"far outside the others: {names} (measure again, then quarantine by name)"


def _why_open(
    plan: TrialPlan, metric: TrialMetric, cell: Cell, /, *, blocks: Blocks, constant: bool, following: int | None
) -> str:
    """Return why a cell is not decided, and what more data would do."""
    one, several = _BLOCK_WORDS[plan.design]
    if plan.design is Design.BEFORE_AFTER:
        return (
            f"{CONFOUNDED.removeprefix(Verdict.INCONCLUSIVE.name)}: without control hosts, pairs or old–new–new–old "
            "boots nobody can tell the kernel from the hour"
        )
    if not len(blocks.values):
        return f": no {one} was measured"
    if plan.design is Design.TWO_ARMS and not len(blocks.control):
        return ": no control host was measured"
    if constant and cell.blocks:
        return ": every value is the same, which is no measurement"
    need = _needed(plan, metric, blocks)
    if cell.verdict is Verdict.NEED_MORE_DATA and following is not None:
        return f": the {'next' if cell.look else 'first'} look is at {following} {several}"
    if cell.verdict is Verdict.NEED_MORE_DATA and not cell.look:
        return ": more is to come, and no look before the last is planned"
    if need is not None and need > cell.blocks:
        controls = " and as many control hosts" if plan.design is Design.TWO_ARMS else ""
        reach = _reach(plan, blocks)
        best = "" if reach is None else f"; what there is can decide on a margin of {reach:.2g} % at best"
        return f": with this spread it takes about {need} {several}{controls}{best}"
    if cell.blocks < 2:
        return f": one {one} cannot tell"
    return ": the change lies too near the margin to tell on which side"


def _needed(plan: TrialPlan, metric: TrialMetric, blocks: Blocks) -> int | None:
    """Return how many blocks would decide at the spread seen; None when there is none to go by."""
    assert metric.margin is not None
    sigma = _spread(blocks)
    if sigma is None:
        return None
    factor = 2 if plan.design is Design.TWO_ARMS else 1
    need = factor * sample_size(log_margin(metric.margin), sigma, plan.alpha_revert, plan.alpha_promote)
    return math.ceil(need) if need < _MOST_NEEDED else None


def _reach(plan: TrialPlan, blocks: Blocks) -> float | None:
    """Return the margin in percent that the blocks there are could decide on; None where they decide nothing."""
    sigma = _spread(blocks)
    counts = [int(np.count_nonzero(np.isfinite(blocks.values)))]
    if plan.design is Design.TWO_ARMS:
        counts.append(int(np.count_nonzero(np.isfinite(blocks.control))))
    known = information(tuple(counts))
    if sigma is None or not known:
        return None
    return _percent(math.sqrt(sample_size(1.0, sigma, plan.alpha_revert, plan.alpha_promote) / known))


def _spread(blocks: Blocks) -> float | None:
    """Return the standard deviation of the contrasts; None of fewer than three."""
    finite = np.sort(blocks.values[np.isfinite(blocks.values)])
    return float(np.std(finite, ddof=1)) if len(finite) >= 3 else None
