"""Sick hosts: a block far outside its own stratum, named, and never allowed to help the verdict it argues for.

A sick host is measured again once and then quarantined by name. Until and after that its value is not dropped: a
block that is far too *bad* is left out of the lower bound (it must not FAIL a kernel alone) and kept in the upper one
(it must not be hidden from a PASS); one that is far too *good*, as when a control host is sick, the other way round.
Leaving a value out only of the bound that it would push towards a decision can only make that bound more careful.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# Beyond so many margins: less would not matter to the verdict.
MARGINS: Final = 3.0
# Tukey's outer fence.
FENCE: Final = 3.0
# Quartiles of fewer blocks say nothing about the rest.
FEWEST: Final = 5
# More than this share (and more than one) is not a sick host any more: it is the kernel.
MOST: Final = 0.1


def sick(values: Floats, margin: Floats) -> tuple[Bools, Bools]:
    """Return which blocks of each row are far too bad, and which are far too good; [rows, blocks] each."""
    if values.shape[1] < FEWEST:
        return np.zeros(values.shape, dtype=np.bool_), np.zeros(values.shape, dtype=np.bool_)
    count = np.count_nonzero(~np.isnan(values), axis=1)
    ordered = np.sort(values, axis=1)
    low, high = _quantile(ordered, count, 0.25), _quantile(ordered, count, 0.75)
    with np.errstate(invalid="ignore"):
        spread = FENCE * (high - low)
        above = (values > MARGINS * margin[:, None]) & (values > (high + spread)[:, None])
        beneath = (values < -MARGINS * margin[:, None]) & (values < (low - spread)[:, None])
    enough = count >= FEWEST
    return _few(above, count, enough), _few(beneath, count, enough)


def _few(found: Bools, count: NDArray[np.int64], enough: Bools) -> Bools:
    number = np.count_nonzero(found, axis=1)
    alone = enough & (number <= np.maximum(1, np.floor(MOST * count)))
    return np.asarray(found & alone[:, None])


def _quantile(ordered: Floats, count: NDArray[np.int64], share: float) -> Floats:
    """Return the quantile of each sorted row, linear between order statistics (type 7)."""
    position = share * np.maximum(count - 1, 0)
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(count - 1, 0))
    row = np.arange(len(ordered))
    first, second = ordered[row, lower], ordered[row, upper]
    with np.errstate(invalid="ignore"):
        between = first + (position - lower) * (second - first)
    return np.asarray(np.where(first == second, first, between))
