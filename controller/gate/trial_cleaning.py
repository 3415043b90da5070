"""What a trial's measurements may not be: values that are none, and runs that were reported twice.

A reader of files refuses such data with its line. Whoever calls the judge directly gets a defined verdict instead: what
cannot be used counts as missing, and is told; it never helps a pass.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from controller.gate.evidence import Outcome
from controller.gate.trial import Measurement, TrialPlan

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
    grouped: dict[tuple[str | int, ...], set[Measurement]] = defaultdict(set)
    spoiled: set[str] = set()
    for one in measurements:
        if one.metric not in known:
            continue
        usable = one.outcome is not Outcome.OK or _usable(one.value, positive=one.metric in ratios)
        if not usable:
            spoiled.add(one.host)
        # Logs have been asked before; two of them do not make one run two.
        kept = (
            replace(one, kernel_log=())
            if usable
            else replace(one, outcome=Outcome.CANCELLED, value=None, kernel_log=())
        )
        grouped[_run(one)].add(kept)
    contradicting = sorted({key for key, same in grouped.items() if len(same) > 1})
    runs = [
        one if len(same) == 1 else replace(one, outcome=Outcome.CANCELLED, value=None)
        for same in grouped.values()
        for one in (min(same, key=_order),)
    ]
    remarks = []
    if spoiled:
        remarks.append(f"Values that are no measurement count as missing: {_names(spoiled)}.")
    if contradicting:
        hosts = {str(key[0]) for key in contradicting}
        remarks.append(f"Runs that were reported with different values count as missing: {_names(hosts)}.")
    return Cleaned(runs=tuple(sorted(runs, key=_order)), remarks=tuple(remarks))


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
