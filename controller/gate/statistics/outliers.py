"""Sick hosts: a block far outside its own stratum, named, and never allowed to help the verdict it argues for.

A sick host is measured again once and then quarantined by name. Until and after that its value is not dropped: a
block that is far too *bad* is left out of the lower bound (it must not FAIL a kernel alone) and kept in the upper one
(it must not be hidden from a PASS); one that is far too *good*, as when a control host is sick, the other way round.
Leaving a value out only of the bound that it would push towards a decision can only make that bound more careful.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from controller.gate.statistics.bounds import INFINITE
from controller.gate.statistics.contrasts import median

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sick:
    """Hosts far outside the rest, [rows, hosts]: too bad and too good."""

    bad: Bools
    good: Bools


def sick_hosts(treated: Floats, control: Floats | None, margin: Floats) -> tuple[Sick, Sick | None]:
    """Find hosts whose own change is far from their arm's median, by the spread of both arms together.

    Both arms share their noise, so their quartiles are taken together: four more hosts at an early look. The arms'
    medians are taken off first, because the new kernel may well move all treated hosts.
    """
    first = _centred(treated)
    second = None if control is None else _centred(control)
    together = first if second is None else np.concatenate([first, second], axis=1)
    count = np.count_nonzero(~np.isnan(together), axis=1)
    if together.shape[1] < FEWEST:
        none = np.zeros(together.shape, dtype=np.bool_)
        bad, good = none, none
    else:
        ordered = np.sort(together, axis=1)
        low, high = _quantile(ordered, count, 0.25), _quantile(ordered, count, 0.75)
        spread, limit = FENCE * (high - low), MARGINS * margin
        enough = count >= FEWEST
        bad = _few(together > np.maximum(limit, high + spread)[:, None], count, enough)
        good = _few(together < np.minimum(-limit, low - spread)[:, None], count, enough)
    edge = first.shape[1]
    others = None if second is None else Sick(bad=bad[:, edge:], good=good[:, edge:])
    return Sick(bad=bad[:, :edge], good=good[:, :edge]), others


def _centred(values: Floats) -> Floats:
    finite = np.clip(values, -INFINITE, INFINITE)
    return np.asarray(finite - median(finite)[:, None])


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
    return np.asarray(first + (position - lower) * (second - first))
