"""Looking more than once: spending functions, boundaries, and the rank levels that follow from them.

Sources: Lan and DeMets (1983) for spending; Hwang, Shih and DeCani (1990) and O'Brien and Fleming (1979) for the
functions; Armitage, McPherson and Rowe (1969) for the recursion; Jennison and Turnbull, Group Sequential Methods
(2000), chapters 7 and 19.

The statistic at information t is a Brownian motion, S(t) = Z(t)·√t. What has been spent counts by the information
reached and not by the plan's calendar, so a look nobody planned costs what it should. A rank test cannot have every
level: the level that it really attains at a look is what the recursion charges, and the rest stays for later looks.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from controller.gate.statistics.ranks import rank_sum_cut, signed_rank_cut

Floats = NDArray[np.float64]

# Where the normal density is cut off: Φ(−8) is 6e-16, below anything that is ever spent.
TAIL: Final = 8.0
# Looks closer together than this share of the planned information are one look: the second spends nothing.
LEAST_STEP: Final = 1e-6
# Gauss–Legendre rules in use. Few, because making one costs more than using it; 1024 resolve steps of 1/450 of t.
NODES: Final = (64, 128, 256, 512, 1024)


class Shape(StrEnum):
    """The form of a spending function."""

    HWANG_SHIH_DECANI = "hwang_shih_decani"
    OBRIEN_FLEMING = "obrien_fleming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """How much of a one-sided error may be spent by which share of the information."""

    alpha: float
    shape: Shape = Shape.HWANG_SHIH_DECANI
    # Of Hwang, Shih and DeCani; negative spends late, −4 is near O'Brien and Fleming, 1 near Pocock.
    gamma: float = -2.0

    def spent(self, t: float) -> float:
        """Return the error that may be spent up to information share t; beyond 1 all of it."""
        t = min(max(t, 0.0), 1.0)
        if t == 0:
            return 0.0
        if self.shape is Shape.OBRIEN_FLEMING:
            return float(2 * ndtr(ndtri(self.alpha / 2) / np.sqrt(t)))
        if self.gamma == 0:
            return self.alpha * t
        return float(self.alpha * np.expm1(-self.gamma * t) / np.expm1(-self.gamma))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Path:
    """Where the statistic can be, not having crossed its upper boundary at any look so far."""

    # Information of the last look.
    t: float
    spent: float
    # Nodes, with weight x density of S(t); at t = 0 one atom at zero.
    nodes: Floats
    mass: Floats

    def solve(self, t: float, target: float) -> float:
        """Return the boundary z at information t that brings the error spent to `target`; inf when none is left."""
        allowance = target - self.spent
        # What a double cannot tell from zero is not spent.
        if allowance <= 1e-14 or t - self.t < LEAST_STEP:
            return float("inf")
        low, high = -TAIL, TAIL
        for _ in range(48):
            middle = (low + high) / 2
            if self._crossing(t, middle) > allowance:
                low = middle
            else:
                high = middle
        return high

    def advance(self, t: float, z: float) -> "Path":
        """Take the look at information t with boundary z: charge what it spends, keep what has not crossed."""
        if t - self.t < LEAST_STEP:
            return self
        spent = self.spent + (self._crossing(t, z) if np.isfinite(z) else 0.0)
        step = np.sqrt(t - self.t)
        # Enough nodes for the kernel of width `step` on an interval of 2·TAIL·√t.
        count = next(size for size in NODES if size >= 6 * TAIL * np.sqrt(t) / step or size == NODES[-1])
        x, weight = _legendre(count)
        low, high = -TAIL * np.sqrt(t), min(z, TAIL) * np.sqrt(t)
        nodes = low + (high - low) * (x + 1) / 2
        scaled = (nodes[:, None] - self.nodes[None, :]) / step
        density = np.exp(-scaled * scaled / 2) @ self.mass / (step * np.sqrt(2 * np.pi))
        return Path(t=t, spent=spent, nodes=nodes, mass=density * weight * (high - low) / 2)

    def _crossing(self, t: float, z: float) -> float:
        return float(ndtr((self.nodes - z * np.sqrt(t)) / np.sqrt(t - self.t)) @ self.mass)


START: Final = Path(t=0.0, spent=0.0, nodes=np.zeros(1), mass=np.ones(1))


# What a rank test rests on: its contrasts, or its treated and control hosts.
Count = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look's boundary in rank form."""

    # Order statistic for the bound; 0 when no bound can be had.
    cut: int
    # Nominal one-sided level that was asked for, and the one the rank test really has.
    level: float
    attained: float


@lru_cache(maxsize=65_536)
def rank_look(counts: tuple[Count, ...], n_max: Count, spending: Spending, final: bool) -> Look:
    """Return the boundary of the last of these looks; a `final` one spends all that is left.

    A look that adds no information replaces the one before it instead of following it.
    """
    full = information(n_max)
    t = max(information(count) for count in counts) / full
    earlier = counts
    while earlier and max(information(count) for count in earlier) / full > t - LEAST_STEP:
        earlier = earlier[:-1]
    path = _path(earlier, n_max, spending)
    return _look(path, counts[-1], t, spending.alpha if final else spending.spent(t))


def information(count: Count) -> float:
    """Return what a count is worth: n for contrasts, nm/(n + m) for two arms."""
    if len(count) == 1:
        return float(count[0])
    n, m = count
    return n * m / (n + m) if n and m else 0.0


# A path holds up to 1024 nodes, 16 kB; usually a tenth of that.
@lru_cache(maxsize=8_192)
def _path(counts: tuple[Count, ...], n_max: Count, spending: Spending) -> Path:
    if not counts:
        return START
    path = _path(counts[:-1], n_max, spending)
    t = information(counts[-1]) / information(n_max)
    look = _look(path, counts[-1], t, spending.spent(t))
    return path.advance(t, float(-ndtri(look.attained)) if look.attained else float("inf"))


def _look(path: Path, count: Count, t: float, target: float) -> Look:
    level = float(ndtr(-path.solve(t, target)))
    cut, attained = signed_rank_cut(count[0], level) if len(count) == 1 else rank_sum_cut(count[0], count[1], level)
    return Look(cut=cut, level=level, attained=attained)


@lru_cache(maxsize=64)
def _legendre(count: int) -> tuple[Floats, Floats]:
    x, weight = np.polynomial.legendre.leggauss(count)
    return x, weight
