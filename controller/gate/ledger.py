"""What old-vs-old measurements teach: the noise of a host's change, and whether the gate keeps its promise on a cell.

Pure arithmetic on the ledger's rows; where they are kept is somebody else's business.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from scipy.stats import binom, chi2

# With fewer changes than this the prior stands.
FEWEST_CHANGES: Final = 8
# A difference of two variances is known badly: below so many hosts it does not lower what a plan assumes.
FIRM_CHANGES: Final = 30
# A plan takes the upper end of what σ can be, at this confidence: half of all plans on the plain estimate would be too
# small.
UPPER_CONFIDENCE: Final = 0.80
# A cell is suspended when its count of false reverts would be this improbable at the promised rate.
SUSPENSION: Final = 0.001
# Only the newest judgements of a cell count, so that a rig that was mended can show it.
NEWEST_JUDGEMENTS: Final = 100
# Makes the median absolute deviation a standard deviation under normal errors: 1/Φ⁻¹(3/4).
MAD_SCALE: Final = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What one host showed of one metric under one boot."""

    host: str
    stratum: str
    metric: str
    # Of the rollout that measured it: unique for ever.
    rollout: str
    # The kernel's digest: a release may be built twice.
    kernel: str
    # Tells what was run: only equal orders are compared.
    order: str
    boot_id: str
    # Seconds since the Unix epoch.
    at: float
    # Median of the measured runs, in the metric's unit, and their number.
    value: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How one old-vs-old comparison of a cell was judged."""

    stratum: str
    metric: str
    rollout: str
    at: float
    # The promised rate of false reverts.
    alpha: float
    # Whether it was called worse, which old against old never is.
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What is known so far, in any order."""

    boots: tuple[Boot, ...] = ()
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """A standard deviation of one host's change: in log units, or in the metric's unit where differences are taken."""

    sigma: float
    # Hosts it was learned from; 0 for a prior.
    hosts: int


def old_against_old(boots: Iterable[Boot]) -> Mapping[str, tuple[float, float]]:
    """Return each host's newest two neighbouring boots under one kernel: host -> (earlier value, later value)."""
    pairs = _newest(boots, lambda first, second: first.kernel == second.kernel)
    return {host: (first.value, second.value) for host, (first, second) in pairs}


def old_against_new(boots: Iterable[Boot]) -> Mapping[str, Mapping[str, tuple[float, float]]]:
    """Return each host's newest change of kernel: rollout -> host -> (value before, value after)."""
    found: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    changed = _newest(boots, lambda first, second: first.kernel != second.kernel and first.rollout == second.rollout)
    for host, (first, second) in changed:
        found[second.rollout][host] = first.value, second.value
    return found


def log_changes(pairs: Mapping[str, tuple[float, float]]) -> tuple[float, ...]:
    """Return the hosts' log ratios; a value that is not positive gives none."""
    return tuple(math.log(second / first) for first, second in pairs.values() if first > 0 and second > 0)


def differences(pairs: Mapping[str, tuple[float, float]]) -> tuple[float, ...]:
    """Return the hosts' differences in the metric's unit."""
    return tuple(second - first for first, second in pairs.values())


def learn(changes: Sequence[float], prior: float) -> Noise:
    """Return the noise to plan with: from finite old-vs-old changes if there are enough, else the prior.

    The larger of the ordinary and the robust deviation, at the upper end of its chi-square interval. Each host must be
    given once. Reboots of one host that are given separately would pass for independent hosts.
    """
    usable = sorted(change for change in changes if math.isfinite(change))
    count = len(usable)
    if count < FEWEST_CHANGES:
        return Noise(sigma=prior, hosts=0)
    middle = _median(usable)
    robust = MAD_SCALE * _median(sorted(abs(one - middle) for one in usable))
    wide = math.sqrt((count - 1) / float(chi2.ppf(1 - UPPER_CONFIDENCE, count - 1)))
    sigma = max(_deviation(usable), robust) * wide
    # A meter that never moves is no meter; the prior stands.
    return Noise(sigma=sigma, hosts=count) if sigma > 0 else Noise(sigma=prior, hosts=0)


def learn_host_kernel(old: Sequence[float], new: Sequence[Sequence[float]], prior: float) -> Noise:
    """Return by how much a kernel's effect differs between hosts: what changes of kernel vary more than reboots do.

    `new` holds one sequence a rollout: what kernels do on the whole is no difference between hosts. At the upper end of
    the chi-square interval, and never below the prior until `FIRM_CHANGES` hosts were seen.
    """
    usable_old = [change for change in old if math.isfinite(change)]
    groups = [[change for change in group if math.isfinite(change)] for group in new]
    groups = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if len(usable_old) < FEWEST_CHANGES or freedom < FEWEST_CHANGES - 1:
        return Noise(sigma=prior, hosts=0)
    squares = math.fsum(_deviation(group) ** 2 * (len(group) - 1) for group in groups)
    highest = squares / float(chi2.ppf(1 - UPPER_CONFIDENCE, freedom))
    sigma = math.sqrt(max(0.0, highest - _deviation(usable_old) ** 2))
    hosts = sum(map(len, groups))
    return Noise(sigma=sigma if hosts >= FIRM_CHANGES else max(sigma, prior), hosts=hosts)


def suspended(false_reverts: int, judgements: int, alpha: float) -> str:
    """Return why a cell must not decide any more; empty while its old-vs-old false reverts are as promised."""
    assert 0 <= false_reverts <= judgements, "false reverts are judgements"
    if not false_reverts or float(binom.sf(false_reverts - 1, judgements, alpha)) >= SUSPENSION:
        return ""
    return (
        f"{false_reverts} of {judgements} old-vs-old judgements failed, {false_reverts / judgements:.1%} where "
        f"{alpha:.2%} was promised"
    )


def suspensions(judgements: Iterable[Judgement]) -> Mapping[tuple[str, str], str]:
    """Return why cells must not decide any more: (stratum, metric) -> sentence."""
    cells: dict[tuple[str, str], list[Judgement]] = defaultdict(list)
    for one in judgements:
        cells[one.stratum, one.metric].append(one)
    found = {}
    for cell, own in sorted(cells.items()):
        newest = sorted(own, key=lambda one: (one.at, one.rollout))[-NEWEST_JUDGEMENTS:]
        # The promise may have changed over time; the loosest one is what the others are held against.
        why = suspended(sum(one.failed for one in newest), len(newest), max(one.alpha for one in newest))
        if why:
            found[cell] = why
    return found


_Wanted = Callable[[Boot, Boot], bool]


def _newest(boots: Iterable[Boot], wanted: _Wanted) -> Iterator[tuple[str, tuple[Boot, Boot]]]:
    by_host: dict[tuple[str, str], list[Boot]] = defaultdict(list)
    for boot in boots:
        by_host[boot.host, boot.order].append(boot)
    newest: dict[str, tuple[Boot, Boot]] = {}
    for (host, _), own in sorted(by_host.items()):
        ordered = sorted(own, key=lambda boot: (boot.at, boot.boot_id))
        for first, second in reversed(list(pairwise(ordered))):
            # Two measurements of one boot say nothing about what a boot changes.
            if first.boot_id != second.boot_id and wanted(first, second):
                if host not in newest or newest[host][1].at < second.at:
                    newest[host] = first, second
                break
    yield from sorted(newest.items())


def _deviation(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((one - mean) ** 2 for one in values) / (len(values) - 1))


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
