"""What no judge can do: the least score at the margin, and at half of it, that the design's own bars leave possible.

A judge sees block contrasts that are normal with known σ: their sum is a Brownian motion S(t) with drift D·θ/Δ, D =
√N·Δ/σ, at share t of the N planned blocks. It may look at most five times, at whichever of `MOMENTS` equally spaced
moments it likes best given what it has seen, and then promote, revert or go on; at the end it may also leave the
question open. The best one for any prices of its mistakes follows by backward induction. By weak duality, for every
set of prices λ ≥ 0 of the bars, the least priced cost minus Σ λ·bar is a lower bound of the score that any judge
within the bars can have; the prices that give the highest bound are searched for.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]

MOMENTS = 12
LOOKS = 5
# S(t) is followed on this many points, this far from its middle.
POINTS, REACH = 221, 8.0
# θ ÷ Δ of everything that a bar or a score speaks of.
EFFECTS = np.array([0.0, 0.25, 0.5, 1.0, 2.0])
NOTHING, KAPPA, HALF, MARGIN, TWICE = range(len(EFFECTS))
PROMOTE, REVERT, OPEN, TIME = range(4)
# Nelder–Mead steps per round, and rounds.
STEPS, ROUNDS = 500, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """At most `limit` of an outcome (or of the planned blocks) at one effect."""

    effect: int
    # Weights of promote, revert, open and the share of blocks used.
    weights: tuple[float, float, float, float]
    limit: float


# The error rates of rows 1 and 2 of the referee. What is 95 % PASS there is at most 5 % of anything else here.
BARS = (
    Bar(effect=NOTHING, weights=(0, 1, 0, 0), limit=0.01),
    Bar(effect=KAPPA, weights=(0, 1, 0, 0), limit=0.01),
    Bar(effect=NOTHING, weights=(0, 1, 1, 0), limit=0.05),
    Bar(effect=HALF, weights=(0, 1, 0, 0), limit=0.10),
    Bar(effect=MARGIN, weights=(1, 0, 0, 0), limit=0.05),
    Bar(effect=TWICE, weights=(1, 0, 1, 0), limit=0.01),
)
# The shares of blocks in row 3, of those of the smallest t-test with the same errors.
BLOCK_BARS = (
    Bar(effect=NOTHING, weights=(0, 0, 0, 1), limit=0.65),
    Bar(effect=MARGIN, weights=(0, 0, 0, 1), limit=0.95),
    Bar(effect=TWICE, weights=(0, 0, 0, 1), limit=0.60),
)
# Row 12: 20·P(false promote) + 5·P(false revert) + P(inconclusive) + ASN/N.
SCORE = {HALF: (0.0, 5.0, 1.0, 1.0), MARGIN: (20.0, 0.0, 1.0, 1.0)}
# A judge that always promotes, or always reverts, scores 1 in one of the two; twice that is the most row 12 allows.
MOST_ELSEWHERE = 2.0


def least_score_of(effect: int, *, information: float, planned_over_t: float) -> float:
    """Return the lower bound of the score at `HALF` or `MARGIN`; `information` is D²/8.

    `planned_over_t` is the planned number of blocks over that of the smallest t-test with the same errors. The judge
    keeps rows 1 to 3 and scores at most `MOST_ELSEWHERE` at the other of the two. Both numbers are rounded to the
    judge's advantage, so that scenarios that are nearly alike are searched once.
    """
    return _least_score(effect, np.ceil(information * 50) / 50, np.floor(planned_over_t * 50) / 50)


@lru_cache(maxsize=256)
def _least_score(effect: int, information: float, planned_over_t: float) -> float:
    # The searched bound is from below whatever prices the search ends at; a longer search could only raise it.
    other = MARGIN if effect == HALF else HALF
    blocks = tuple(replace(bar, limit=bar.limit / planned_over_t) for bar in BLOCK_BARS)
    bars = (*BARS, *blocks, Bar(effect=other, weights=SCORE[other], limit=MOST_ELSEWHERE))
    limits = np.array([bar.limit for bar in bars])
    walk = Walk(np.sqrt(8 * information))

    def priced(prices: Floats) -> float:
        costs = np.zeros((len(EFFECTS), 4))
        costs[effect] += SCORE[effect]
        for price, bar in zip(prices, bars, strict=True):
            costs[bar.effect] += price * np.array(bar.weights)
        return walk.least_cost(costs) - float(prices @ limits)

    # Searched in logarithms, so that no price is negative.
    point = np.log(np.array([0.1, 5.0, 2.0, 0.1, 1.0, 0.5, 0.3, 0.1, 0.1, 0.3]))
    for _ in range(ROUNDS):
        found = minimize(
            lambda x: -priced(np.exp(x)), point, method="Nelder-Mead", options={"maxfev": STEPS, "adaptive": True}
        )
        point = found.x
    return priced(np.exp(point))


class Walk:
    """The Brownian motion between the moments, under a drift of half the margin's; other drifts by likelihood."""

    def __init__(self, drift: float) -> None:
        self.times = np.arange(1, MOMENTS + 1) / MOMENTS
        middle = drift / 2
        self.x = np.linspace(middle - REACH, middle + REACH, POINTS)
        means = drift * EFFECTS
        # [moment, effect, x]
        self.likelihood = np.exp(
            (means[:, None] - middle) * self.x[None, None, :]
            - (means[:, None] ** 2 - middle**2) / 2 * self.times[:, None, None]
        )
        self.kernels = [self._kernel(self.x, middle, steps / MOMENTS) for steps in range(1, MOMENTS)]
        self.starts = [self._kernel(np.zeros(1), middle, t)[0] for t in self.times]

    def _kernel(self, origin: Floats, drift: float, step: float) -> Floats:
        weights = np.exp(-((self.x[None, :] - origin[:, None] - drift * step) ** 2) / (2 * step))
        # Where all of it leaves the grid the motion stays at its edge, where everything is decided anyway.
        return np.asarray(weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300))

    def least_cost(self, costs: Floats) -> float:
        """Return the least expected cost over all judges; `costs` is [effect, (promote, revert, open, blocks)]."""
        # What stopping at each moment costs, and what one moment more of waiting does: [moment, x].
        stop = np.min([np.einsum("tex,e->tx", self.likelihood, costs[:, a]) for a in (PROMOTE, REVERT, OPEN)], axis=0)
        wait = np.einsum("tex,e->tx", self.likelihood, costs[:, TIME]) / MOMENTS
        value = stop.copy()
        for _ in range(LOOKS - 1):
            later = value
            value = stop.copy()
            for now in range(MOMENTS - 1):
                for step in range(1, MOMENTS - now):
                    onward = self.kernels[step - 1] @ later[now + step] + step * wait[now]
                    np.minimum(value[now], onward, out=value[now])
        first = [
            float(self.starts[now] @ value[now]) + (now + 1) / MOMENTS * costs[:, TIME].sum() for now in range(MOMENTS)
        ]
        return min(first)
