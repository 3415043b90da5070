"""A host's own measured saving, by the gate's benefit criterion."""

import math
from dataclasses import dataclass
from functools import lru_cache

from controller.domain.attempt import Attempt, Run
from controller.domain.events import RunState
from controller.domain.journey import Side
from controller.domain.rollout import Rollout
from controller.gate.benefit import HostValues, Saving, implausible, judge_benefit
from controller.gate.metrics import METRICS, Metric
from controller.views.models import IntervalView

# Shown when the rollout claims nothing.
DEFAULT_METRIC = "swap_mount.cost"
CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class HostSaving:
    """A host's saving and the unit it is in."""

    interval: IntervalView
    unit: str


def host_saving(rollout: Rollout, attempt: Attempt) -> HostSaving | None:
    """Return what the host saves on the first claimed metric; None until both kernels were measured on it."""
    claims = rollout.policy.claims
    metric = METRICS.get(claims[0].metric if claims else DEFAULT_METRIC)
    if metric is None or not attempt.runs:
        return None
    saving = saving_of(metric, values_of(attempt, metric, Side.OLD), values_of(attempt, metric, Side.NEW))
    return None if saving is None else HostSaving(interval=interval_view(saving), unit=metric.unit)


def values_of(attempt: Attempt, metric: Metric, side: Side) -> tuple[float, ...]:
    """Return the metric's values of all good runs on one kernel, warm-ups left out, in the order of the runs."""
    return tuple(
        value for run in attempt.runs if attempt.legs[run.leg] is side and (value := run_value(run, metric)) is not None
    )


def run_value(run: Run, metric: Metric) -> float | None:
    """Return the run's value of the metric; None when it is a warm-up, not good, or no measurement."""
    value = run.values.get(metric.name)
    if run.warmup or run.state is not RunState.OK or value is None or implausible(value, metric.sigma_run):
        return None
    return value


@lru_cache(maxsize=65_536)
def saving_of(
    metric: Metric, old: tuple[float, ...], new: tuple[float, ...], confidence: float = CONFIDENCE
) -> Saving | None:
    """Return the saving that the runs of one host show; None when a side has none.

    Kept, because a watched rollout asks again for every host after every change of one.
    """
    values = HostValues(host="", old=old, new=new, sigma_run=metric.sigma_run)
    judged = judge_benefit((values,), claim=-math.inf, sigma_host=metric.sigma_host, confidence=confidence)
    return judged.saving


def interval_view(saving: Saving) -> IntervalView:
    """Return the saving as readers see it."""
    return IntervalView(low=saving.low, estimate=saving.estimate, high=saving.high)
