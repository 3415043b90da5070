"""What a trial's measurements may not be: values that are none, and runs that were reported twice.

A reader of files refuses such data with its line. Whoever calls the judge directly gets a defined verdict instead: what
cannot be used counts as missing, and is told; it never helps a pass.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from controller.gate.evidence.seen import Outcome
from controller.gate.trial.model import Measurement, TrialPlan

# A sentence names so many hosts and counts the others.
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """Measurements in an order of their own, each run once, and what was remarkable."""

    runs: tuple[Measurement, ...]
    remarks: tuple[str, ...]


def cleaned(plan: TrialPlan, measurements: Iterable[Measurement]) -> Cleaned:
    """Return the measurements of the plan's metrics, sorted; unusable ones as missing. The given order is forgotten."""
    ratios = {metric.name for metric in plan.metrics if metric.claim is None}
    known = {metric.name for metric in plan.metrics}
    kept: dict[tuple[str | int, ...], Measurement] = {}
    contradicting: set[tuple[str | int, ...]] = set()
    spoiled: set[str] = set()
    for brought in measurements:
        if brought.metric not in known:
            continue
        # Logs have been asked before; two of them do not make one run two.
        one = replace(brought, kernel_log=()) if brought.kernel_log else brought
        if one.outcome is Outcome.OK and not _usable(one.value, positive=one.metric in ratios):
            spoiled.add(one.host)
            one = replace(one, outcome=Outcome.CANCELLED, value=None)
        key = _run(one)
        other = kept.setdefault(key, one)
        if other is not one and other != one:
            contradicting.add(key)
            kept[key] = min(one, other, key=_order)
    for key in contradicting:
        kept[key] = replace(kept[key], outcome=Outcome.CANCELLED, value=None)
    runs = sorted(kept.values(), key=lambda one: (one.stratum, *_run(one)))
    remarks = []
    if spoiled:
        remarks.append(f"Values that are no measurement count as missing: {_names(spoiled)}.")
    if contradicting:
        hosts = {str(key[0]) for key in contradicting}
        remarks.append(f"Runs that were reported with different values count as missing: {_names(hosts)}.")
    return Cleaned(runs=tuple(runs), remarks=tuple(remarks))


def _usable(value: float | None, *, positive: bool) -> bool:
    return value is not None and math.isfinite(value) and (value > 0 or not positive)


def _run(one: Measurement) -> tuple[str | int, ...]:
    return (one.host, one.cycle, one.position, one.boot, one.run, one.metric)


def _order(one: Measurement) -> tuple[str | int | float, ...]:
    where = (one.stratum, *_run(one), one.arm.value, one.pair, one.outcome.value, one.warmup)
    return (*where, -math.inf if one.value is None else one.value, -math.inf if one.time is None else one.time)


def _names(hosts: Iterable[str]) -> str:
    ordered = sorted(hosts)
    others = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(ordered[:_NAMED]) + others
