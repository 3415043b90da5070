"""Null distributions of the signed-rank and rank-sum statistics, and the order statistics that make bounds of them.

Exact and cached where samples are small, Edgeworth beyond. Sources: Wilcoxon (1945); Mann and Whitney (1947);
Hollander, Wolfe and Chicken, Nonparametric Statistical Methods (2014), sections 3.1, 3.3, 4.1 and 4.3 (distributions
and the bounds by ordered Walsh averages and ordered pairwise differences); Fellingham and Stoker (1964) and Fix and
Hodges (1955) for the Edgeworth terms.

A *cut* c says: the c-th smallest Walsh average (or pairwise difference) is a lower bound of the shift, the c-th
largest an upper one. c = 0 means that so few observations can give no bound at this level. Ties and zeros need no
correction: the bounds stay valid (conservative) for any symmetric distribution, because a tie at the tested value
counts against rejecting it.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

# Exact below and at these sizes. Beyond, the Edgeworth form is within 2 % of the exact tail at a level of 1e-3, and
# errs to the safe side by the continuity correction's half step.
EXACT_SIGNED_RANK: Final = 100
EXACT_RANK_SUM: Final = 50
# A tail further out than this is not computed by Edgeworth: the expansion is no approximation there.
SMALLEST_LEVEL: Final = 1e-9

Floats = NDArray[np.float64]


@lru_cache(maxsize=512)
def signed_rank_cdf(n: int) -> Floats:
    """Return P(W ≤ w) for w = 0 … n(n+1)/2, exactly: every one of 2ⁿ sign patterns is equally likely."""
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[:-rank]
        probability = 0.5 * (probability + shifted)
    return _cumulated(probability)


@lru_cache(maxsize=2048)
def rank_sum_cdf(n: int, m: int) -> Floats:
    """Return P(U ≤ u) for u = 0 … nm, exactly: the Gaussian binomial coefficient, in whole numbers.

    Multiplying by (1 − q^(m+i)) and dividing by (1 − q^i), i = 1 … n, keeps every coefficient an integer.
    """
    if n > m:
        return rank_sum_cdf(m, n)
    size = n * m + 1
    counts = [0] * size
    counts[0] = 1
    for i in range(1, n + 1):
        for u in range(size - 1, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, size):
            counts[u] += counts[u - i]
    total = sum(counts)
    return _cumulated(np.array([count / total for count in counts]))


@lru_cache(maxsize=65536)
def signed_rank_cut(n: int, level: float) -> tuple[int, float]:
    """Return the cut for n contrasts at a one-sided level, and the level it really has (0.0 with a cut of 0)."""
    if n < 1 or level <= 0:
        return 0, 0.0
    if n <= EXACT_SIGNED_RANK:
        return _exact_cut(signed_rank_cdf(n), level)
    mean, variance = n * (n + 1) / 4, n * (n + 1) * (2 * n + 1) / 24
    # Fourth cumulant of Σ i·B(1/2): −1/8 Σ i⁴.
    fourth = -n * (n + 1) * (2 * n + 1) * (3 * n * n + 3 * n - 1) / 240
    return _edgeworth_cut(mean, variance, fourth, level)


@lru_cache(maxsize=65536)
def rank_sum_cut(n: int, m: int, level: float) -> tuple[int, float]:
    """Return the cut for samples of n and m at a one-sided level, and the level it really has."""
    if n < 1 or m < 1 or level <= 0:
        return 0, 0.0
    if max(n, m) <= EXACT_RANK_SUM:
        return _exact_cut(rank_sum_cdf(min(n, m), max(n, m)), level)
    mean, variance = n * m / 2, n * m * (n + m + 1) / 12
    fourth = -n * m * (n + m + 1) * (n * n + m * m + n * m + n + m) / 120
    return _edgeworth_cut(mean, variance, fourth, level)


def _cumulated(probability: Floats) -> Floats:
    cdf = np.minimum(np.cumsum(probability), 1.0)
    cdf.flags.writeable = False
    return cdf


def _exact_cut(cdf: Floats, level: float) -> tuple[int, float]:
    # The relative allowance keeps a level that *is* an attainable one from being missed by its last bit.
    cut = int(np.searchsorted(cdf, level * (1 + 1e-12), side="right"))
    return cut, float(cdf[cut - 1]) if cut else 0.0


def _edgeworth_cut(mean: float, variance: float, fourth: float, level: float) -> tuple[int, float]:
    deviation = float(np.sqrt(variance))
    # All cuts that can matter: from ten standard deviations below the mean to the mean.
    values = np.arange(max(0, int(mean - 10 * deviation)), int(mean) + 1)
    x = (values + 0.5 - mean) / deviation
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    tails = ndtr(x) - density * fourth / (24 * variance**2) * (x**3 - 3 * x)
    tails = np.where(ndtr(x) < SMALLEST_LEVEL, ndtr(x), np.clip(tails, 0.0, 1.0))
    tails = np.maximum.accumulate(tails)
    index = int(np.searchsorted(tails, level, side="right"))
    return (int(values[index - 1]) + 1, float(tails[index - 1])) if index else (0, 0.0)
