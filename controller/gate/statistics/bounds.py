"""Hodges–Lehmann estimates and one-sided bounds, by order statistics of Walsh averages or pairwise differences.

Sources: Hodges and Lehmann (1963); Hollander, Wolfe and Chicken (2014), sections 3.2–3.3 and 4.2–4.3. Rows are cells or
repetitions. NaN is missing. ±inf is a worst rank: the run ended without a value because it was too slow. Only the
multiset of a row's values matters, never their order, to the last bit.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.gate.statistics import selection
from controller.gate.statistics.ranks import rank_sum_cut, signed_rank_cut

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Stands for an infinite log ratio, so that a sum of two of them stays a number. No ratio of doubles has a logarithm
# beyond 1500.
INFINITE: Final = 1e6
# Combinations held in memory at once, 8 bytes each.
CHUNK: Final = 4_000_000
# From so many combinations a row on, selecting without making them is faster.
MANY: Final = 40_000


def harsh(values: Floats) -> Floats:
    """Return the values with infinities made finite so that equal worst ranks on both sides count as *worse*."""
    return np.where(np.abs(values) >= INFINITE, np.where(values > 0, 2 * INFINITE, -INFINITE), values)


def mild(values: Floats) -> Floats:
    """Return the values with infinities made finite so that equal worst ranks on both sides count as *better*."""
    return np.where(np.abs(values) >= INFINITE, np.where(values > 0, INFINITE, -2 * INFINITE), values)


def combinations(values: Floats, control: Floats | None) -> Floats:
    """Return every Walsh average (xᵢ + xⱼ)/2, i ≤ j, of each row; with a control, every difference xᵢ − cⱼ."""
    if control is None:
        i, j = np.triu_indices(values.shape[1])
        return np.asarray((values[:, i] + values[:, j]) / 2)
    return (values[:, :, None] - control[:, None, :]).reshape(len(values), -1)


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of rows whose combinations fit into memory."""
    size = max(1, CHUNK // max(1, width))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def bounds(values: Floats, control: Floats | None, low_cut: Ints, high_cut: Ints) -> tuple[Floats, Floats, Floats]:
    """Return estimate, lower and upper bound of each row; the cuts are those of `ranks`, 0 for none.

    Values must be finite or NaN. Rows without a value give NaN, −inf, inf.
    """
    rows = len(values)
    estimate, low, high = np.full(rows, np.nan), np.full(rows, -np.inf), np.full(rows, np.inf)
    width = _width(values, control)
    if width == 0:
        return estimate, low, high
    if width > MANY:
        for row in range(rows):
            estimate[row], low[row], high[row] = _select(*_sorted(values, control, row), low_cut[row], high_cut[row])
        return estimate, low, high
    for part in chunks(rows, width):
        made = combinations(values[part], None if control is None else control[part])
        there = np.count_nonzero(~np.isnan(made), axis=1)
        last = np.maximum(there - 1, 0)
        at_low = np.clip(low_cut[part] - 1, 0, last)
        at_high = np.clip(there - high_cut[part], 0, last)
        _order(made, np.concatenate([at_low, at_high, last // 2, np.minimum(there // 2, last)]))
        each, some = np.arange(len(made)), there > 0
        middle = (made[each, last // 2] + made[each, np.minimum(there // 2, last)]) / 2
        estimate[part] = np.where(some, middle, np.nan)
        low[part] = np.where(some & (low_cut[part] > 0), made[each, at_low], -np.inf)
        high[part] = np.where(some & (high_cut[part] > 0), made[each, at_high], np.inf)
    return estimate, low, high


def describe(values: Floats, control: Floats | None, confidence: float) -> tuple[Floats, Floats, Floats]:
    """Return estimate and two-sided interval of each row at a fixed confidence, to be shown and not decided on."""
    level = (1 - confidence) / 2
    present = np.count_nonzero(~np.isnan(values), axis=1)
    if control is None:
        cuts = np.array([signed_rank_cut(int(n), level)[0] for n in present], dtype=np.int64)
    else:
        others = np.count_nonzero(~np.isnan(control), axis=1)
        cuts = np.array(
            [rank_sum_cut(int(n), int(m), level)[0] for n, m in zip(present, others, strict=True)], dtype=np.int64
        )
    return bounds(values, control, cuts, cuts)


def counts(values: Floats, control: Floats | None, *, below: Floats, upto: Floats) -> tuple[Ints, Ints, Ints]:
    """Return how many combinations of each row are < its limits `below`, ≤ its limits `upto`, and how many there are.

    Limits are [rows, k]. The same answer as comparing `bounds` with them, without sorting anything.
    """
    rows = len(values)
    less, at_most = np.zeros(below.shape, dtype=np.int64), np.zeros(upto.shape, dtype=np.int64)
    there = np.zeros(rows, dtype=np.int64)
    width = _width(values, control)
    if width == 0:
        return less, at_most, there
    if width > MANY:
        for row in range(rows):
            x, y = _sorted(values, control, row)
            there[row] = _total(x, y)
            if there[row]:
                # Walsh averages are halves of the sums, and doubling is exact.
                scale = 2 if y is None else 1
                less[row] = [selection.count(x, y, float(one) * scale, inclusive=False) for one in below[row]]
                at_most[row] = [selection.count(x, y, float(one) * scale, inclusive=True) for one in upto[row]]
        return less, at_most, there
    for part in chunks(rows, width):
        made = combinations(values[part], None if control is None else control[part])
        for k in range(below.shape[1]):
            less[part, k] = np.count_nonzero(made < below[part, k, None], axis=1)
        for k in range(upto.shape[1]):
            at_most[part, k] = np.count_nonzero(made <= upto[part, k, None], axis=1)
        there[part] = np.count_nonzero(~np.isnan(made), axis=1)
    return less, at_most, there


def _order(made: Floats, positions: Ints) -> None:
    """Bring the positions that any row wants into place; NaN goes last."""
    wanted = np.unique(positions)
    if len(wanted) > 8:
        made.sort(axis=1)
    else:
        made.partition(wanted, axis=1)


def _width(values: Floats, control: Floats | None) -> int:
    blocks = int(values.shape[1])
    return blocks * (blocks + 1) // 2 if control is None else blocks * int(control.shape[1])


def _sorted(values: Floats, control: Floats | None, row: int) -> tuple[Floats, Floats | None]:
    """Return a row's values, and its control with the sign changed so that differences become sums; sorted, no NaN."""
    x = values[row]
    x = np.sort(x[~np.isnan(x)])
    if control is None:
        return x, None
    y = control[row]
    return x, np.sort(-y[~np.isnan(y)])


def _total(x: Floats, y: Floats | None) -> int:
    return len(x) * (len(x) + 1) // 2 if y is None else len(x) * len(y)


def _select(x: Floats, y: Floats | None, low_cut: int, high_cut: int) -> tuple[float, float, float]:
    """Return estimate and bounds of one row, by selection; Walsh averages are halves of the sums."""
    total = _total(x, y)
    if not total:
        return np.nan, -np.inf, np.inf
    scale = 2.0 if y is None else 1.0
    last = total - 1
    estimate = (selection.kth(x, y, last // 2) / scale + selection.kth(x, y, min(total // 2, last)) / scale) / 2
    low = selection.kth(x, y, min(low_cut - 1, last)) / scale if low_cut else -np.inf
    high = selection.kth(x, y, max(total - high_cut, 0)) / scale if high_cut else np.inf
    return estimate, low, high
