"""The judges in use today, restated on arrays, so that they can be run on the same draws as the gate.

Every judge takes the old and the new samples as arrays [reps, n] and [reps, m] (raw values, higher is worse, no
missing values) and answers with an int8 array [reps] of PROMOTE, REVERT or UNDECIDED. What each does was read in its
source; the differences that matter are in its docstring. None knows hosts, boots, strata or looks: they pool.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
Calls = NDArray[np.int8]
Judge = Callable[[Floats, Floats], Calls]

PROMOTE, UNDECIDED, REVERT = 0, 1, 2

# Pairwise differences kept in memory at once: 64 MB of doubles.
MAX_PAIRS = 8_000_000
# Beyond this many pairs of one repetition, order statistics are found by bisection instead of partition.
EXACT_PAIRS = 5_000


def kayenta(old: Floats, new: Floats, *, confidence: float = 0.98, tolerance: float = 0.25) -> Calls:
    """Kayenta's metric classifier: a Mann–Whitney interval whose lower end exceeds a share of the estimated shift.

    The interval is R's asymptotic one with continuity correction, found there by root search, here as the order
    statistic of the pairwise differences at which that function changes sign. Everything that is not High is Pass.
    """
    n, m = new.shape[1], old.shape[1]
    quantile = float(stats.norm.ppf(0.5 + confidence / 2))
    sigma = np.sqrt(n * m * (n + m + 1) / 12)
    # The largest difference has rank 1; the corrected count reaches the quantile at this rank.
    # Where no separation is enough, the interval ends at the smallest difference, as the root search does.
    rank = min(n * m, int(np.ceil(n * m / 2 + 0.5 + quantile * sigma)))
    result = np.empty(len(old), np.int8)
    for part in _chunks(len(old), n * m):
        lower, estimate = _shift_order(old[part], new[part], rank)
        result[part] = np.where(lower > tolerance * np.abs(estimate), REVERT, PROMOTE)
    return result


def benchstat(old: Floats, new: Floats, *, alpha: float = 0.05) -> Calls:
    """benchstat: a two-sided Mann–Whitney test per cell, no correction for the number of cells or looks.

    Exact without ties up to 50 samples a side, the normal approximation with continuity correction above, as there.
    """
    n, m = new.shape[1], old.shape[1]
    u = _u_of_new(old, new)
    p = _u_p_exact(n, m)[np.rint(u).astype(int)] if max(n, m) <= 50 else _u_p_normal(u, n, m)
    return np.where((p < alpha) & (u > n * m / 2), REVERT, PROMOTE).astype(np.int8)


def flagger(old: Floats, new: Floats, *, threshold: float = 0.02) -> Calls:
    """Flagger: a fixed threshold on the mean, here 2 % above the mean of the old kernel; no variance."""
    return np.where(new.mean(axis=1) > (1 + threshold) * old.mean(axis=1), REVERT, PROMOTE).astype(np.int8)


def pinpoint(old: Floats, new: Floats, *, low: float = 0.01, magnitude_iqr: float = 1.0) -> Calls:
    """Pinpoint: the smaller of the Mann–Whitney and the Kolmogorov–Smirnov p, compared with two thresholds.

    Below 1 % the sides differ, above a threshold that falls with the sample size they are the same, between the two
    it is unknown. The upper threshold is the 99th percentile of p when the shift is one interquartile range.
    """
    n, m = new.shape[1], old.shape[1]
    u = _u_of_new(old, new)
    p = np.minimum(_u_p_normal(u, n, m), _ks_p(old, new))
    high = pinpoint_high_threshold((n + m) // 2, magnitude_iqr)
    different = np.where(u > n * m / 2, REVERT, PROMOTE)
    return np.where(p <= low, different, np.where(p <= high, UNDECIDED, PROMOTE)).astype(np.int8)


def lkp(old: Floats, new: Floats, *, gap_distance: float = 2.0) -> Calls:
    """LKP compare: the ranges of the two sides must be apart, by more than half the difference of the means."""
    gap = new.min(axis=1) - old.max(axis=1)
    worse = (gap > 0) & (gap > (new.mean(axis=1) - old.mean(axis=1)) / gap_distance)
    return np.where(worse, REVERT, PROMOTE).astype(np.int8)


JUDGES: dict[str, Judge] = {
    "Kayenta": kayenta,
    "benchstat": benchstat,
    "Flagger": flagger,
    "Pinpoint": pinpoint,
    "LKP": lkp,
}


@lru_cache(maxsize=256)
def pinpoint_high_threshold(n: int, magnitude_iqr: float = 1.0) -> float:
    """Return the p above which Pinpoint calls n samples a side the same, by simulation with a fixed seed."""
    rng = np.random.default_rng(20181)
    reps = 8_000
    iqr = float(2 * stats.norm.ppf(0.75))
    old = rng.standard_normal((reps, n))
    new = rng.standard_normal((reps, n)) + magnitude_iqr * iqr
    return float(np.quantile(_u_p_normal(_u_of_new(old, new), n, n), 0.99))


def _chunks(reps: int, cost: int) -> Iterator[slice]:
    step = max(1, MAX_PAIRS // max(1, cost))
    for start in range(0, reps, step):
        yield slice(start, min(reps, start + step))


def _shift_order(old: Floats, new: Floats, rank: int) -> tuple[Floats, Floats]:
    """Return per repetition the pairwise difference of descending rank `rank`, and the median of all of them."""
    pairs = old.shape[1] * new.shape[1]
    if pairs <= EXACT_PAIRS:
        differences = (new[:, :, None] - old[:, None, :]).reshape(len(old), -1)
        middle = [(pairs - 1) // 2, pairs // 2]
        differences.partition(sorted({pairs - rank, *middle}), axis=1)
        return differences[:, pairs - rank], differences[:, middle].mean(axis=1)
    return _shift_at(old, new, rank), _shift_at(old, new, pairs // 2)


def _shift_at(old: Floats, new: Floats, rank: int) -> Floats:
    """Return the shift at which exactly `rank` pairwise differences are larger, by bisection on the counts."""
    old, new = np.sort(old, axis=1), np.sort(new, axis=1)
    low, high = new[:, 0] - old[:, -1], new[:, -1] - old[:, 0]
    for _ in range(40):  # the interval shrinks to 1e-12 of the range
        middle = (low + high) / 2
        many = _u_of_new(old, new - middle[:, None]) >= rank
        low, high = np.where(many, middle, low), np.where(many, high, middle)
    return (low + high) / 2


def _u_of_new(old: Floats, new: Floats) -> Floats:
    """Return U of the new side: the pairs in which it is larger, ties counting one half."""
    both = np.concatenate([new, old], axis=1)
    n = new.shape[1]
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    if bool((ordered[:, 1:] == ordered[:, :-1]).any()):
        ranks = stats.rankdata(both, axis=1)
        total = ranks[:, :n].sum(axis=1)
    else:
        total = np.where(order < n, np.arange(1, both.shape[1] + 1), 0).sum(axis=1)
    return np.asarray(total - n * (n + 1) / 2, np.float64)


@lru_cache(maxsize=64)
def _u_p_exact(n: int, m: int) -> Floats:
    """Return the two-sided exact p for every value of U, by the counts of partitions of U (no ties)."""
    counts = np.zeros(n * m + 1)
    counts[0] = 1
    # The Gaussian binomial: multiply by (1 - q^(m+i)), divide by (1 - q^i).
    for i in range(1, n + 1):
        step = m + i
        grown = counts.copy()
        grown[step:] -= counts[: max(0, len(counts) - step)]
        for offset in range(i):
            grown[offset::i] = np.cumsum(grown[offset::i])
        counts = grown
    share = counts / counts.sum()
    tail = np.minimum(np.cumsum(share), np.cumsum(share[::-1])[::-1])
    return np.asarray(np.minimum(1.0, 2 * tail), np.float64)


def _u_p_normal(u: Floats, n: int, m: int) -> Floats:
    """Return the two-sided p of U by the normal approximation with continuity correction, without ties."""
    sigma = np.sqrt(n * m * (n + m + 1) / 12)
    z = np.maximum(np.abs(u - n * m / 2) - 0.5, 0) / sigma
    return np.asarray(2 * stats.norm.sf(z), np.float64)


def _ks_p(old: Floats, new: Floats) -> Floats:
    """Return the two-sided Kolmogorov–Smirnov p with the small-sample correction that Pinpoint uses."""
    n, m = new.shape[1], old.shape[1]
    order = np.argsort(np.concatenate([new, old], axis=1), axis=1, kind="stable")
    distance = np.abs(np.cumsum(np.where(order < n, 1 / n, -1 / m), axis=1)).max(axis=1)
    effective = np.sqrt(n * m / (n + m))
    return np.asarray(special.kolmogorov((effective + 0.12 + 0.11 / effective) * distance), np.float64)
