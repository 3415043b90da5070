"""The benefit criterion: is a claimed saving confirmed, refuted or open?

The metrics it judges are nearly deterministic, so the error of a run is declared beforehand and not estimated: the
interval is valid from one host and one run a side. The observed spread is only asked whether it contradicts the
declaration (a chi-square test); when it does, nothing is decided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy import stats

from controller.gate.verdict import ClaimState

# How improbable an observed spread must be under the declared error before the declaration is called wrong.
SPREAD_SIGNIFICANCE: Final = 1e-3
# A cost this many declared errors below zero is no measurement.
IMPLAUSIBLE_ERRORS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostValues:
    """One metric on one host: its runs on the old and on the new kernel, in the metric's unit."""

    host: str
    old: tuple[float, ...]
    new: tuple[float, ...]
    # Declared standard deviation of one run on this host.
    sigma_run: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """An estimated saving with its interval; positive is better."""

    estimate: float
    low: float
    high: float
    # Standard error behind the interval.
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """A claim's state in one stratum."""

    state: ClaimState
    # None when no host has a usable run on both sides.
    saving: Saving | None
    # (host, its own saving), by host name.
    hosts: tuple[tuple[str, Saving], ...]
    old_runs: int
    new_runs: int
    # Why the claim is open although there are numbers; empty otherwise.
    doubt: str


def judge_benefit(values: Sequence[HostValues], *, claim: float, sigma_host: float, confidence: float) -> Benefit:
    """Judge one stratum: confirmed when the whole interval reaches `claim`, refuted when all of it lies below.

    Values must be finite; see `implausible`. Hosts weigh the same whatever their number of runs. The order of hosts
    and runs changes nothing, not even the last digit.
    """
    usable = sorted((one for one in values if one.old and one.new), key=lambda one: one.host)
    old_runs, new_runs = sum(len(one.old) for one in usable), sum(len(one.new) for one in usable)
    if not usable:
        return Benefit(state=ClaimState.OPEN, saving=None, hosts=(), old_runs=0, new_runs=0, doubt="")
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    estimates = [math.fsum(one.old) / len(one.old) - math.fsum(one.new) / len(one.new) for one in usable]
    errors = [_error(one, sigma_host) for one in usable]
    hosts = tuple(
        (one.host, _saving(estimate, error, z)) for one, estimate, error in zip(usable, estimates, errors, strict=True)
    )
    count = len(usable)
    saving = _saving(math.fsum(estimates) / count, math.sqrt(math.fsum(e * e for e in errors)) / count, z)
    doubt = _run_doubt(usable) or _host_doubt(usable, estimates, errors)
    if doubt:
        state = ClaimState.OPEN
    elif saving.low >= claim:
        state = ClaimState.CONFIRMED
    elif saving.high < claim:
        state = ClaimState.REFUTED
    else:
        state = ClaimState.OPEN
    return Benefit(state=state, saving=saving, hosts=hosts, old_runs=old_runs, new_runs=new_runs, doubt=doubt)


def fleet_total(savings: Sequence[tuple[Saving, float]], confidence: float) -> Saving | None:
    """Return Σ saving x TiB over (host's saving, its swap in TiB); None when there is nothing to add up.

    The hosts' errors are independent. This is a sum, not a verdict: strata that differ are not averaged.
    """
    weighted = [(saving, tib) for saving, tib in savings if math.isfinite(tib) and tib > 0]
    if not weighted:
        return None
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    estimate = math.fsum(saving.estimate * tib for saving, tib in weighted)
    return _saving(estimate, math.sqrt(math.fsum((saving.error * tib) ** 2 for saving, tib in weighted)), z)


def implausible(value: float, sigma_run: float, maximum: float) -> bool:
    """Return whether a reported cost cannot be a measurement: not finite, far below zero, or above `maximum`."""
    return not (math.isfinite(value) and -IMPLAUSIBLE_ERRORS * sigma_run <= value <= maximum)


def _saving(estimate: float, error: float, z: float) -> Saving:
    return Saving(estimate=estimate, low=estimate - z * error, high=estimate + z * error, error=error)


def _error(one: HostValues, sigma_host: float) -> float:
    return math.sqrt(one.sigma_run**2 * (1 / len(one.old) + 1 / len(one.new)) + sigma_host**2)


def _run_doubt(usable: Sequence[HostValues]) -> str:
    """Return why the runs of single hosts spread more than declared; empty when they do not."""
    squares, freedom = 0.0, 0
    worst, worst_spread = "", 0.0
    for one in usable:
        for side in (one.old, one.new):
            if len(side) < 2:
                continue
            mean = math.fsum(side) / len(side)
            own = math.fsum(((value - mean) / one.sigma_run) ** 2 for value in side)
            squares, freedom = squares + own, freedom + len(side) - 1
            if own > worst_spread:
                worst, worst_spread = one.host, own
    if freedom == 0 or float(stats.chi2.sf(squares, freedom)) >= SPREAD_SIGNIFICANCE:
        return ""
    ratio = math.sqrt(squares / freedom)
    return f"runs on one kernel spread {ratio:.1f} times as much as declared, most on {worst}"


def _host_doubt(usable: Sequence[HostValues], estimates: Sequence[float], errors: Sequence[float]) -> str:
    """Return why the hosts' savings differ more than declared (Cochran's Q); empty when they do not."""
    if len(usable) < 2:
        return ""
    weights = [1 / error**2 if error else 0.0 for error in errors]
    if not all(weights):
        return ""
    centre = math.fsum(w * d for w, d in zip(weights, estimates, strict=True)) / math.fsum(weights)
    parts = [w * (d - centre) ** 2 for w, d in zip(weights, estimates, strict=True)]
    if float(stats.chi2.sf(math.fsum(parts), len(usable) - 1)) >= SPREAD_SIGNIFICANCE:
        return ""
    worst = max(range(len(usable)), key=lambda index: parts[index])
    return f"hosts differ more than declared: {usable[worst].host} saves {estimates[worst]:.1f} against {centre:.1f}"
