"""Counting and selecting among the sums of two sorted samples without making all of them.

For large samples: all Walsh averages of 1000 values are half a million numbers, a bound is one of them. The counts and
order statistics are the same, to the last bit, as those of the sums x + y rounded to double. Source of the idea:
Johnson and Mizoguchi (1978), selecting the k-th element in X + Y; here with a bracket from a thinned sample.
"""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Values of each sample that make the first bracket.
THIN: Final = 64
# Half of the bracket's width as a share of all sums; thinning by systematic sampling errs by less than 2/THIN.
BRACKET: Final = 0.02


def positions(x: Floats, y: Floats, limit: float, *, inclusive: bool) -> Ints:
    """Return for every x how many of the sorted y have x + y < limit (or ≤ limit), as doubles add."""
    side: Literal["left", "right"] = "right" if inclusive else "left"
    found: Ints = np.searchsorted(y, limit - x, side=side).astype(np.int64)
    # limit − x is rounded, and so is x + y: step over the neighbours that the rounding put on the wrong side.
    while True:
        value = x + y[np.minimum(found, len(y) - 1)]
        more = (found < len(y)) & ((value <= limit) if inclusive else (value < limit))
        if not more.any():
            break
        found += more
    while True:
        value = x + y[np.maximum(found - 1, 0)]
        fewer = (found > 0) & ((value > limit) if inclusive else (value >= limit))
        if not fewer.any():
            return found
        found -= fewer


def count(x: Floats, y: Floats | None, limit: float, *, inclusive: bool) -> int:
    """Return how many sums xᵢ + yⱼ are below (or at) the limit; without y the sums xᵢ + xⱼ, i ≤ j. All sorted."""
    return int(_lengths(x, y, limit, inclusive=inclusive)[1].sum())


def kth(x: Floats, y: Floats | None, k: int) -> float:
    """Return the k-th smallest sum, k from 0."""
    total = len(x) * (len(x) + 1) // 2 if y is None else len(x) * len(y)
    low, high = _bracket(x, y, k, total)
    start, under = _lengths(x, y, low, inclusive=False)
    _, upto = _lengths(x, y, high, inclusive=True)
    before, width = int(under.sum()), upto - under
    # Row i contributes the sums with y[start+under … start+upto).
    offsets = np.repeat(start + under - np.concatenate([[0], np.cumsum(width)[:-1]]), width)
    columns = offsets + np.arange(int(width.sum()))
    sums = np.repeat(x, width) + (x if y is None else y)[columns]
    return float(np.partition(sums, k - before)[k - before])


def _lengths(x: Floats, y: Floats | None, limit: float, *, inclusive: bool) -> tuple[Ints, Ints]:
    """Return for each x the first partner that counts, and how many partners from there have a sum up to the limit."""
    if y is not None:
        return np.zeros(len(x), dtype=np.int64), positions(x, y, limit, inclusive=inclusive)
    first, lengths = np.arange(len(x)), np.zeros(len(x), dtype=np.int64)
    # From xᵢ on, 2xᵢ is beyond the limit, and so are all sums with larger ones.
    half = int(np.searchsorted(x, limit / 2, side="right" if inclusive else "left"))
    lengths[:half] = np.maximum(positions(x[:half], x, limit, inclusive=inclusive) - first[:half], 0)
    return first, lengths


def _bracket(x: Floats, y: Floats | None, k: int, total: int) -> tuple[float, float]:
    """Return two sums with the k-th between them (inclusive)."""
    other = x if y is None else y
    thin = [values[np.linspace(0, len(values) - 1, min(THIN, len(values))).astype(np.int64)] for values in (x, other)]
    sums = np.sort((thin[0][:, None] + thin[1][None, :]).ravel())
    share, wide = (k + 0.5) / total, BRACKET
    while True:
        low = float(sums[max(0, int((share - wide) * len(sums)))])
        high = float(sums[min(len(sums) - 1, int((share + wide) * len(sums)))])
        # The thinned samples contain both extremes, so that a wide enough bracket holds everything.
        if count(x, y, low, inclusive=False) <= k < count(x, y, high, inclusive=True):
            return low, high
        wide *= 3
