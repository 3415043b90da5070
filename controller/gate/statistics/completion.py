"""Runs that did not end, and runs that are not there: what may be held against a kernel, and what blocks a PASS.

A run that died or timed out is an outcome and is compared by Fisher's exact test. A run that is missing says nothing
of the kernel, unless the kernels miss differently many. Broken rigs are neither and are not counted here.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import hypergeom

# Shares of missing runs that differ by more than 10 points were not missing at random.
MISSING_POINTS: Final = 0.10


def completion_p(
    old_bad: ArrayLike, old_total: ArrayLike, new_bad: ArrayLike, new_total: ArrayLike
) -> NDArray[np.float64]:
    """Return the one-sided p of Fisher's exact test that runs end badly more often on the new kernel.

    Totals include the bad runs. Without runs on either side the p is 1.
    """
    old_bad, old_total = np.asarray(old_bad), np.asarray(old_total)
    new_bad, new_total = np.asarray(new_bad), np.asarray(new_total)
    everything, bad = old_total + new_total, old_bad + new_bad
    p = hypergeom.sf(new_bad - 1, np.maximum(everything, 1), bad, new_total)
    return np.asarray(np.where((old_total > 0) & (new_total > 0), p, 1.0), dtype=np.float64)


def blocks_pass(
    old_bad: ArrayLike,
    old_total: ArrayLike,
    new_bad: ArrayLike,
    new_total: ArrayLike,
    *,
    old_missing: ArrayLike = 0,
    new_missing: ArrayLike = 0,
) -> NDArray[np.bool_]:
    """Return where PASS and MARGINAL must become INCONCLUSIVE.

    A larger share of bad runs on the new kernel, by however little: runs cut off hide the slow tail, and a difference
    that is not significant yet has not been shown to be harmless (run them again). Shares of missing runs that differ
    by more than 10 points either way. Missing runs come on top of the totals.
    """
    more = _share(new_bad, new_total) > _share(old_bad, old_total)
    lost_old = _share(old_missing, np.asarray(old_total) + np.asarray(old_missing))
    lost_new = _share(new_missing, np.asarray(new_total) + np.asarray(new_missing))
    return np.asarray(more | (np.abs(lost_new - lost_old) > MISSING_POINTS))


def _share(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    whole = np.asarray(whole, dtype=np.float64)
    return np.asarray(np.asarray(part, dtype=np.float64) / np.maximum(whole, 1.0))
