"""The looks of a trial: as its plan fixes them, cut off at the blocks there are, and in words beforehand."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from controller.gate.planning.description import describe_plan
from controller.gate.planning.power import PROMOTE_SHARE, plan_cell, rank_floor
from controller.gate.statistics.cells import GAMMA_PROMOTE, GAMMA_REVERT, CellPlan, Design, Method
from controller.gate.statistics.contrasts import log_margin
from controller.gate.statistics.sequential import Spending
from controller.gate.trial.blocks import Blocks
from controller.gate.trial.model import Calendar, TrialMetric, TrialPlan
from controller.gate.verdict import MetricRole


def critical_cells(plan: TrialPlan, strata: int) -> int:
    """Return how many cells share the error of a false revert: those with a margin, and completion, per stratum."""
    strata = strata if plan.family_strata is None else plan.family_strata
    return max(1, strata * (1 + sum(one.role is MetricRole.CRITICAL and one.claim is None for one in plan.metrics)))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CellLooks:
    """A cell's plan with the looks that can be taken by now."""

    taken: CellPlan
    # All looks of the plan.
    planned: tuple[int, ...]
    # Whether the last one taken is the last of all.
    final: bool
    # False before the first planned look: then bounds may be shown, and nothing decided.
    due: bool


def cell_looks(plan: TrialPlan, metric: TrialMetric, blocks: Blocks, share: int, stratum: str) -> CellLooks:
    """Return the looks that the plan fixes, cut off at the blocks there are."""
    calendar = calendar_of(plan, stratum)
    if calendar is not None:
        return _by_calendar(plan, calendar, metric, blocks, share)
    # While more may come, a host without a value is one that is being measured.
    there = len(blocks.values) if plan.final else int(np.count_nonzero(~np.isnan(blocks.values)))
    controls = len(blocks.control)
    fixed = _planned(plan, metric, share)
    planned = fixed is not None
    made = fixed or _one_look(plan, metric, share, (max(1, there), max(1, controls)))
    looks = tuple(look for look in made.looks if look <= there)
    due = planned or plan.final
    if len(looks) == len(made.looks):
        return CellLooks(taken=made, planned=made.looks, final=plan.final or made.n_max <= there, due=due)
    if plan.final and (not looks or looks[-1] < there):
        # No more will come: what is there is the last look.
        looks = (*looks, max(1, there))
    taken = dataclasses.replace(made, looks=looks or (max(1, there),))
    return CellLooks(taken=taken, planned=made.looks, final=plan.final, due=bool(looks))


def calendar_of(plan: TrialPlan, stratum: str) -> Calendar | None:
    """Return when the stratum is looked at, where the plan says so by time."""
    return next((one for one in plan.calendars if one.stratum == stratum), None)


def calendar_plan(plan: TrialPlan, calendar: Calendar, metric: TrialMetric, share: int) -> CellPlan:
    """Return the cell's plan with all looks of the calendar, as if nothing will be missing."""
    full = calendar.blocks[-1], calendar.controls[-1] if calendar.controls else 0
    made = dataclasses.replace(_by_hand(plan, metric, share, calendar.blocks, full[1]), looks_control=calendar.controls)
    sigma = dict(calendar.sigmas).get(metric.name)
    if sigma is None or metric.margin is None or plan.design is Design.BEFORE_AFTER:
        return made
    # Few blocks of a steady metric: what the planner of cells chooses for such a budget.
    chosen = plan_cell(
        plan.design,
        margin=made.margin,
        sigma=log_margin(sigma),
        cells=share,
        alpha_revert=plan.alpha_revert,
        alpha_promote=plan.alpha_promote,
        budget=full[0],
    )
    method = chosen.method if chosen.n_max == full[0] else Method.RANKS
    return dataclasses.replace(made, sigma=chosen.sigma, method=method)


def _by_calendar(plan: TrialPlan, calendar: Calendar, metric: TrialMetric, blocks: Blocks, share: int) -> CellLooks:
    """Return the looks whose time has come, with the blocks that are there by then, missing values among them."""
    made = calendar_plan(plan, calendar, metric, share)
    two = plan.design is Design.TWO_ARMS
    looks: dict[int, int] = {}
    for until in calendar.until:
        count = int(np.count_nonzero(blocks.times <= until))
        others = int(np.count_nonzero(blocks.control_times <= until))
        # A time at which nothing has come since the one before is no look.
        if until <= plan.due and count and (others or not two):
            looks.setdefault(count, others)
    final = plan.final or calendar.until[-1] <= plan.due
    none = not looks
    taken = dataclasses.replace(
        made,
        looks=tuple(looks) or (max(1, len(blocks.values)),),
        looks_control=(tuple(looks.values()) or (max(1, len(blocks.control)),)) if two else (),
    )
    return CellLooks(taken=taken, planned=calendar.blocks, final=final, due=final or not none)


def plan_sentences(plan: TrialPlan) -> Iterator[str]:
    """Yield what the plan can decide, before anything is measured: blocks, looks, errors."""
    strata = max(1, len(plan.strata))
    for metric in plan.metrics:
        if metric.claim is not None:
            errors = f"{metric.claim.sigma_run:g} {metric.unit} a run, {metric.claim.sigma_host:g} {metric.unit} a host"
            yield f"{metric.name}: a claim, decided from one host on by its declared errors ({errors})."
        elif metric.role is MetricRole.EXPLAIN:
            yield f"{metric.name}: told, decides nothing."
        else:
            yield from _metric_sentences(plan, metric, strata)


def _metric_sentences(plan: TrialPlan, metric: TrialMetric, strata: int) -> Iterator[str]:
    share = critical_cells(plan, strata) if metric.role is MetricRole.CRITICAL else 1
    made = _planned(plan, metric, share)
    if plan.design is Design.BEFORE_AFTER:
        yield f"{metric.name}: before and after decides nothing: the kernel is confounded with time."
    elif made is not None and metric.sigma is not None:
        yield from describe_plan(metric.name, made)
    else:
        two = plan.design is Design.TWO_ARMS
        least = rank_floor(plan.alpha_revert / share, plan.alpha_promote, 1.0 if two else None)
        looks = (
            "one look at everything there is" if made is None else f"looks at {', '.join(map(str, made.looks))} blocks"
        )
        yield (
            f"{metric.name}: {looks}; below {least} blocks a stratum ranks cannot decide. How many it takes to see "
            f"{_margin(metric)} depends on the noise: write it as sigma."
        )


def _planned(plan: TrialPlan, metric: TrialMetric, share: int) -> CellPlan | None:
    """Return the looks fixed beforehand; None when there are none and everything is looked at once."""
    if plan.looks:
        n_max = plan.looks[-1]
        return _by_hand(plan, metric, share, plan.looks, n_max)
    if metric.sigma is None or metric.margin is None or plan.design is Design.BEFORE_AFTER:
        return None
    return plan_cell(
        plan.design,
        margin=log_margin(metric.margin),
        sigma=log_margin(metric.sigma),
        cells=share,
        alpha_revert=plan.alpha_revert,
        alpha_promote=plan.alpha_promote,
        budget=plan.budget_blocks,
    )


def _one_look(plan: TrialPlan, metric: TrialMetric, share: int, there: tuple[int, int]) -> CellPlan:
    return _by_hand(plan, metric, share, (there[0],), there[1])


def _by_hand(plan: TrialPlan, metric: TrialMetric, share: int, looks: tuple[int, ...], controls: int) -> CellPlan:
    assert metric.margin is not None, "only for metrics with a margin"
    # One look is exact; several spend the share that `power` explains.
    promote = plan.alpha_promote * (PROMOTE_SHARE if len(looks) > 1 else 1)
    return CellPlan(
        design=plan.design,
        margin=log_margin(metric.margin),
        n_max=looks[-1],
        n_max_control=controls if plan.design is Design.TWO_ARMS else 0,
        looks=looks,
        sigma=math.nan if metric.sigma is None else log_margin(metric.sigma),
        revert=Spending(alpha=plan.alpha_revert / share, gamma=GAMMA_REVERT),
        promote=Spending(alpha=promote, gamma=GAMMA_PROMOTE),
    )


def _margin(metric: TrialMetric) -> str:
    assert metric.margin is not None, "only for metrics with a margin"
    return f"{metric.margin * 100:g} %"
