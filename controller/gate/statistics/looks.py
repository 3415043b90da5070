"""One look at some cells: what each bound may use, and what the bounds say about 0, κΔ and Δ.

Rows are cells or repetitions. The lower bound (revert) and the upper one (promote) rest on the same blocks, except for
sick hosts and worst ranks, which each bound takes in the way that makes it more careful.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from controller.gate.statistics import tsequence
from controller.gate.statistics.bounds import INFINITE, bounds, counts, harsh, mild
from controller.gate.statistics.outliers import sick_hosts
from controller.gate.statistics.sequential import Spending, rank_look

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Interval = tuple[Floats, Floats, Floats]

# A FAIL also needs its estimate at this share of Δ. Where ranks are far more precise than the σ of the plan (one run in
# twenty an outlier), L > κΔ alone would revert a tolerable Δ/2 in 11–12 % of all cases; with this, in at most 10 %. It
# can only take FAILs away, and at 2Δ it takes none.
NEAR: Final = 0.8
# A bound beyond half of what stands for infinity was made of worst ranks.
_ENDLESS: Final = INFINITE / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The blocks that one bound rests on: contrasts, or treated and control hosts. Finite, or NaN for missing."""

    values: Floats
    control: Floats | None

    def rows(self, which: Bools | Ints) -> "Arms":
        """Return some of the rows."""
        return Arms(values=self.values[which], control=None if self.control is None else self.control[which])

    def present(self) -> Ints:
        """Return how many values each row has: [rows, 1] or [rows, 2]."""
        found = [np.count_nonzero(~np.isnan(self.values), axis=1)]
        if self.control is not None:
            found.append(np.count_nonzero(~np.isnan(self.control), axis=1))
        return np.stack(found, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The blocks of some rows at one look."""

    low: Arms
    high: Arms
    # Rows in which the two differ.
    apart: Bools
    present: Ints
    # Rows in which every value is the same.
    constant: Bools
    sick: Bools
    sick_control: Bools | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of every row."""

    margin: Floats
    kappa: float
    # The last look spends what is left.
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the bounds say: L > κΔ (with the estimate near Δ or beyond), L > 0 and U < Δ; the interval on demand."""

    above_kappa: Bools
    above_zero: Bools
    below_margin: Bools
    # From row numbers to estimate, L, U.
    interval: Callable[[Ints], Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How many values each bound rested on at each look, [rows, looks, arms]: what has been spent follows from it."""

    low: Ints
    high: Ints

    @classmethod
    def blank(cls, rows: int, looks: int, arms: int) -> Self:
        """Return the history before the first look."""
        return cls(
            low=np.zeros((rows, looks, arms), dtype=np.int64), high=np.zeros((rows, looks, arms), dtype=np.int64)
        )

    def record(self, rows: Ints, look: int, sample: Sample) -> None:
        """Write down a look, numbered from 0, at these rows."""
        self.low[rows, look] = sample.low.present()
        self.high[rows, look] = sample.high.present()

    def upto(self, rows: Ints, look: int) -> tuple[Ints, Ints]:
        """Return the looks so far, of the lower and of the upper bound."""
        return self.low[rows, : look + 1], self.high[rows, : look + 1]


def take(values: Floats, control: Floats | None, margin: Floats, own: tuple[Floats, Floats] | None = None) -> Sample:
    """Sort out sick hosts and worst ranks.

    `own`: for matched pairs, the partners' own changes behind the contrasts. A sick *control* host argues the other
    way round: too bad, it hides a regression.
    """
    hosts, others = sick_hosts(values, control, margin) if own is None else sick_hosts(*own, margin)
    bad, good = hosts.bad, hosts.good
    if own is not None and others is not None:
        # One contrast carries the faults of both partners.
        bad, good = bad | others.good, good | others.bad
    low, high = np.where(bad, np.nan, mild(values)), np.where(good, np.nan, harsh(values))
    apart = np.any(bad | good | (np.abs(values) >= INFINITE), axis=1)
    present = np.count_nonzero(~np.isnan(values), axis=1)
    constant = _constant(values)
    low_control = high_control = None
    if control is not None and others is not None:
        low_control = np.where(others.good, np.nan, harsh(control))
        high_control = np.where(others.bad, np.nan, mild(control))
        apart |= np.any(others.bad | others.good | (np.abs(control) >= INFINITE), axis=1)
        present = present + np.count_nonzero(~np.isnan(control), axis=1)
        constant |= _constant(control)
    return Sample(
        low=Arms(values=low, control=low_control),
        high=Arms(values=high, control=high_control),
        apart=apart,
        present=present,
        constant=constant,
        sick=hosts.bad | hosts.good,
        sick_control=None if others is None else others.bad | others.good,
    )


def ask_ranks(
    sample: Sample,
    question: Question,
    seen: tuple[Ints, Ints],
    spending: tuple[Spending, Spending],
    full: tuple[int, ...],
) -> Found:
    """Answer with Hodges–Lehmann bounds at the levels that the looks so far leave (revert's and promote's spending)."""
    low_cut = _cuts(seen[0], full, spending[0], question.final)
    high_cut = _cuts(seen[1], full, spending[1], question.final)
    margin = question.margin
    less, at_most, there = counts(
        sample.low.values,
        sample.low.control,
        below=np.stack([margin, NEAR * margin], axis=1),
        upto=np.stack([question.kappa * margin, np.zeros_like(margin)], axis=1),
    )
    above = at_most < low_cut[:, None]
    below = there - less[:, 0] < high_cut
    near = 2 * less[:, 1] <= there
    if apart := np.flatnonzero(sample.apart).tolist():
        other = sample.high.rows(np.array(apart))
        none = np.zeros((len(apart), 0))
        less, _, there = counts(other.values, other.control, below=margin[apart, None], upto=none)
        below[apart] = there - less[:, 0] < high_cut[apart]
    # What cannot fail has not been tested: no upper bound promotes on fewer blocks than a lower one could revert on.
    below &= low_cut > 0

    def interval(rows: Ints) -> Interval:
        estimate, low, high = bounds(*_arms(sample.low, rows), low_cut[rows], high_cut[rows])
        different = np.flatnonzero(sample.apart[rows])
        if len(different):
            chosen = rows[different]
            none = np.zeros(len(chosen), dtype=np.int64)
            estimate[different], _, high[different] = bounds(*_arms(sample.high, chosen), none, high_cut[chosen])
        return _endless(estimate), _endless(low), _endless(high)

    return Found(above_kappa=above[:, 0] & near, above_zero=above[:, 1], below_margin=below, interval=interval)


def ask_t(sample: Sample, question: Question, g: float, alphas: tuple[float, float]) -> Found:
    """Answer with the t confidence sequence, at the errors of revert and promote; contrasts only."""
    assert sample.low.control is None, "the t sequence is for contrasts"
    count, mean, deviation = tsequence.moments(sample.low.values)
    low = mean - tsequence.half_width(count, deviation, g, alphas[0])
    count, upper, deviation = tsequence.moments(sample.high.values)
    high = upper + tsequence.half_width(count, deviation, g, alphas[1])
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    return Found(
        above_kappa=(low > question.kappa * question.margin) & (mean >= NEAR * question.margin),
        above_zero=low > 0,
        below_margin=(high < question.margin) & np.isfinite(low),
        interval=lambda rows: (_endless(upper[rows]), _endless(low[rows]), _endless(high[rows])),
    )


def _cuts(seen: Ints, full: tuple[int, ...], spending: Spending, final: bool) -> Ints:
    """Return each row's cut; rows with the same history share one calculation."""
    rows, looks, arms = seen.shape
    if not rows:
        return np.zeros(0, dtype=np.int64)
    different, which = np.unique(seen.reshape(rows, looks * arms), axis=0, return_inverse=True)
    cuts = [
        rank_look(tuple(tuple(count) for count in one.reshape(looks, arms).tolist()), full, spending, final).cut
        for one in different
    ]
    return np.array(cuts, dtype=np.int64)[which.reshape(-1)]


def _arms(arms: Arms, rows: Ints) -> tuple[Floats, Floats | None]:
    chosen = arms.rows(rows)
    return chosen.values, chosen.control


def _constant(values: Floats) -> Bools:
    """Return the rows whose values, two or more, are all the same."""
    if values.shape[1] == 0:
        return np.zeros(len(values), dtype=np.bool_)
    present = ~np.isnan(values)
    low = np.where(present, values, np.inf).min(axis=1)
    high = np.where(present, values, -np.inf).max(axis=1)
    return np.asarray((low == high) & (np.count_nonzero(present, axis=1) > 1))


def _endless(values: Floats) -> Floats:
    return np.asarray(np.where(np.abs(values) > _ENDLESS, np.copysign(np.inf, values), values))
