"""A whole trial judged: cells, then strata, then one action with its reason.

A stratum passes only when every critical cell does. A failing guard holds it; a moving negative control makes it
undecided, because then the rig moved and not the kernel. Strata are never pooled.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from controller.gate.statistics.completion import blocks_pass
from controller.gate.statistics.family import FamilyCell, holm_fails
from controller.gate.statistics.heterogeneity import fleet_line
from controller.gate.trial.blocks import run_counts
from controller.gate.trial.cells import COMPLETION, claim_cell, completion_cell
from controller.gate.trial.changes import change_cell, fail_by_holm, median_change
from controller.gate.trial.cleaning import cleaned
from controller.gate.trial.model import Measurement, StratumVerdict, TrialDecision, TrialPlan
from controller.gate.trial.plans import critical_cells
from controller.gate.trial.survival import SURVIVAL, survival_cells
from controller.gate.verdict import Action, Cell, MetricRole, Verdict

_PASSING: Final = (Verdict.PASS, Verdict.MARGINAL)
_FAILING: Final = (Verdict.FAIL, Verdict.FATAL)
# A remark names so many hosts.
_NAMED: Final = 5
_Key = tuple[str, str]


@dataclasses.dataclass(slots=True, kw_only=True)
class _Found:
    cells: list[Cell]
    # (stratum, metric) -> what Holm's procedure needs.
    family: dict[_Key, FamilyCell]
    # metric -> the strata's effects with their standard errors, in log units.
    effects: defaultdict[str, list[tuple[float, float]]]
    # Reasons to stop measuring now, whatever the verdict.
    warnings: list[str] = dataclasses.field(default_factory=list)


def judge_trial(plan: TrialPlan, measurements: Iterable[Measurement]) -> TrialDecision:
    """Judge what was measured against the plan. The order of the measurements changes nothing."""
    quarantined = frozenset(plan.quarantined)
    brought = tuple(measurements)
    survival = survival_cells(plan, brought)
    clean = cleaned(plan, brought)
    kept = [one for one in clean.runs if one.host not in quarantined]
    by_stratum: dict[str, list[Measurement]] = defaultdict(list)
    for one in kept:
        by_stratum[one.stratum].append(one)
    strata = sorted({*plan.strata, *by_stratum, *survival.cells})
    family = critical_cells(plan, len(strata))
    found = _Found(cells=[], family={}, effects=defaultdict(list))
    told: list[str] = []
    warnings: list[tuple[str, str]] = []
    for stratum in strata:
        part = _stratum_cells(plan, stratum, by_stratum.get(stratum, []), family)
        found.cells.extend(filter(None, (survival.cells.get(stratum), *part.cells)))
        found.family.update(part.family)
        for name, effects in part.effects.items():
            found.effects[name] += effects
        told += part.warnings
        warnings += [(stratum, warning) for warning in part.warnings]
        told += _explained(plan, stratum, by_stratum.get(stratum, []))
    cells = _with_holm(plan, found.cells, found.family, plan.alpha_revert * len(found.family) / family)
    verdicts = [_stratum_verdict(name, [cell for cell in cells if cell.stratum == name]) for name in strata]
    told += _fleet_lines(found.effects)
    action, verdict, sentence = _decide(verdicts)
    return TrialDecision(
        action=action,
        verdict=verdict,
        sentence=sentence,
        strata=tuple(verdicts),
        cells=tuple(cells),
        remarks=(*clean.remarks, *_remarks(plan, clean.runs), *survival.remarks, *told),
        warnings=tuple(warnings),
    )


def _stratum_cells(plan: TrialPlan, stratum: str, runs: Sequence[Measurement], critical_cells: int) -> _Found:
    by_metric: dict[str, list[Measurement]] = defaultdict(list)
    for one in runs:
        by_metric[one.metric].append(one)
    judged = [metric for metric in plan.metrics if metric.role is not MetricRole.EXPLAIN]
    old, new = run_counts(plan.design, [one for metric in judged for one in by_metric[metric.name]])
    completion = completion_cell(plan, stratum, old, new, plan.alpha_revert / critical_cells)
    found = _Found(cells=[completion], family={}, effects=defaultdict(list))
    for metric in sorted(judged, key=lambda metric: metric.name):
        own = by_metric.get(metric.name, [])
        if metric.claim is not None:
            found.cells.append(claim_cell(plan, metric, stratum, own))
            continue
        change = change_cell(plan, metric, stratum, own, critical_cells)
        if why := plan.suspended.get((stratum, metric.name), ""):
            found.cells.append(_suspended(plan, change.cell, why))
            continue
        if change.catastrophe and change.cell.verdict not in _FAILING:
            names = ", ".join(change.catastrophe[:_NAMED]) + (" and others" if len(change.catastrophe) > _NAMED else "")
            found.warnings.append(
                f"{stratum} {metric.name}: {names} got worse by more than ten margins; stop here and look at them."
            )
        if change.effect is not None:
            found.effects[metric.name].append(change.effect)
        if change.family is not None:
            found.family[stratum, metric.name] = change.family
        found.cells.append(_unless_missing(plan, change.cell, own))
    return found


def _suspended(plan: TrialPlan, cell: Cell, why: str) -> Cell:
    """Take its decision from a cell that was wrong too often where it should have found nothing."""
    verdict = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    told = cell.sentence.partition(f" {cell.verdict.name}")[0]
    return dataclasses.replace(
        cell, verdict=verdict, sentence=f"{told} {verdict.name}: the cell is suspended and decides nothing: {why}."
    )


def _with_holm(plan: TrialPlan, cells: Sequence[Cell], family: Mapping[_Key, FamilyCell], alpha: float) -> list[Cell]:
    """Fail the undecided critical cells that Holm's procedure rejects, once nothing more will come."""
    keys = sorted(family)
    if not plan.final or len(keys) < 2:
        return list(cells)
    failed = {key for key, bad in zip(keys, holm_fails([family[key] for key in keys], alpha), strict=True) if bad}
    return [
        fail_by_holm(cell) if cell.verdict is Verdict.INCONCLUSIVE and (cell.stratum, cell.metric) in failed else cell
        for cell in cells
    ]


def _explained(plan: TrialPlan, stratum: str, runs: Sequence[Measurement]) -> Iterable[str]:
    for metric in sorted(plan.metrics, key=lambda metric: metric.name):
        if metric.role is not MetricRole.EXPLAIN:
            continue
        own = [one for one in runs if one.metric == metric.name]
        changed = median_change(plan.design, metric, own)
        if changed is not None:
            yield f"{stratum} {metric.name}: median change {changed:+.1f} % (explains, decides nothing)."


def _unless_missing(plan: TrialPlan, cell: Cell, runs: Sequence[Measurement]) -> Cell:
    """Take back a pass that may only be owed to runs that did not end, or are not there."""
    if cell.verdict not in _PASSING or cell.role is not MetricRole.CRITICAL:
        return cell
    old, new = run_counts(plan.design, runs)
    blocked = blocks_pass(
        old.bad,
        old.total - old.missing,
        new.bad,
        new.total - new.missing,
        old_missing=old.missing,
        new_missing=new.missing,
    )
    if not bool(blocked):
        return cell
    verdict = Verdict.INCONCLUSIVE if plan.final else Verdict.NEED_MORE_DATA
    text = (
        f"{cell.sentence.removesuffix(f' {cell.verdict.name}.')} {verdict.name}: of {old.total} runs on the old kernel "
        f"{old.bad} ended badly and {old.missing} are missing, of {new.total} on the new {new.bad} and {new.missing}; "
        "what is left is not comparable."
    )
    return dataclasses.replace(cell, verdict=verdict, sentence=text)


def _stratum_verdict(stratum: str, cells: Sequence[Cell]) -> StratumVerdict:
    critical = [cell for cell in cells if cell.role is MetricRole.CRITICAL]
    worst = max(critical, key=lambda cell: cell.verdict)
    moved = [cell for cell in cells if cell.role is MetricRole.NEGATIVE_CONTROL and cell.verdict in _FAILING]
    broken = [cell for cell in cells if cell.role is MetricRole.GUARD and cell.verdict in _FAILING]
    # A kernel that breaks runs or hosts is not excused by a rig that moved.
    broke = any(cell.metric in (SURVIVAL, COMPLETION) and cell.verdict in _FAILING for cell in critical)
    if moved and not broke:
        text = f"{stratum}: {moved[0].metric} moved, which the kernel cannot move: the rig did. INCONCLUSIVE."
        return StratumVerdict(stratum=stratum, verdict=Verdict.INCONCLUSIVE, sentence=text)
    if worst.verdict in _PASSING and broken:
        return StratumVerdict(
            stratum=stratum,
            verdict=Verdict.INCONCLUSIVE,
            sentence=f"{broken[0].sentence} It is a guard: hold {stratum}.",
        )
    if worst.verdict is Verdict.PASS:
        text = f"{stratum}: all {len(critical)} critical cells pass. PASS."
        return StratumVerdict(stratum=stratum, verdict=Verdict.PASS, sentence=text)
    return StratumVerdict(stratum=stratum, verdict=worst.verdict, sentence=worst.sentence)


def _fleet_lines(effects: Mapping[str, Sequence[tuple[float, float]]]) -> Iterable[str]:
    """Tell the mean change over strata, or that they differ; it decides nothing."""
    for name, parts in sorted(effects.items()):
        line = fleet_line([mean for mean, _ in parts], [error for _, error in parts])
        if line is None or line.strata < 2:
            continue
        told = f"Over {line.strata} strata, {name}:"
        if line.shown:
            low, mean, high = (math.expm1(value) * 100 for value in (line.low, line.mean, line.high))
            yield f"{told} {mean:+.2f} % (95 % interval {low:+.2f} … {high:+.2f}, + is worse)."
        else:
            yield f"{told} they differ (Cochran's Q, p = {line.p:.2g}), so no mean is told."


def _decide(strata: Sequence[StratumVerdict]) -> tuple[Action, Verdict, str]:
    if not strata:
        return Action.HOLD, Verdict.INCONCLUSIVE, "HOLD: there is nothing to judge."
    worst = max(strata, key=lambda one: one.verdict)
    if worst.verdict in _PASSING:
        names = ", ".join(one.stratum for one in strata)
        return Action.PROMOTE, worst.verdict, f"PROMOTE: every critical cell passes in {names}."
    action = Action.REVERT if worst.verdict in _FAILING else Action.HOLD
    return action, worst.verdict, f"{action.value.upper()}: {worst.sentence}"


def _remarks(plan: TrialPlan, runs: Sequence[Measurement]) -> Iterable[str]:
    hosts = {one.host for one in runs}
    for host in sorted(set(plan.quarantined)):
        yield f"{host} is quarantined" + (" and was left out." if host in hosts else "; it has no runs.")
    rig = sorted({one.host for one in runs if one.outcome.value == "infrastructure"})
    if rig:
        others = f" and {len(rig) - 5} more" if len(rig) > 5 else ""
        yield f"The rig, not the kernel, broke runs on {', '.join(rig[:5])}{others}."
