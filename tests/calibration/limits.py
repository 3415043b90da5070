"""What no judge can do: the score at the margin and at half of it, by Wald's inequality.

A judge that may stop at any time sees block contrasts, normal with known σ. For its decision A and any two effects
a and b apart by Δ/2, E_a[n] · (Δ/2)²/(2σ²) ≥ KL(P_a(A) ‖ P_b(A)) (Wald 1945; data processing). So the share of the
planned blocks that it uses cannot be less than that divergence over N·(Δ/σ)²/8. Deciding well at Δ (where promoting
costs 20) and at Δ/2 (where reverting costs 5) takes them apart, and that takes blocks, which cost as well.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
STEP = 0.02


def out_of_reach(best_at_half: float, best_at_margin: float, information: float) -> bool:
    """Say whether no judge that passes 95 % at θ = 0 can score at most these at Δ/2 and at Δ.

    `information` is N·(Δ/σ)²/8. Minimised on a grid of the decisions' shares.
    """
    half, margin = _scores(round(information, 6))
    return not bool(((half <= best_at_half) & (margin <= best_at_margin)).any())


def least_worst_score(information: float) -> float:
    """Return the smallest worse one of the two scores that such a judge can have."""
    half, margin = _scores(round(information, 6))
    return float(np.maximum(half, margin).min())


def least_promoted(information: float) -> float:
    """Return how often a judge that passes 95 % at θ = 0 must promote at Δ/2, with every planned block."""
    shares = np.linspace(1e-6, 0.95, 100_000)
    divergence = 0.95 * np.log(0.95 / shares) + 0.05 * np.log(0.05 / (1 - shares))
    return float(shares[np.argmax(divergence <= information)])


@lru_cache(maxsize=4)
def _scores(information: float) -> tuple[Floats, Floats]:
    """Return lower bounds of the scores at Δ/2 and Δ for every pair of (promote, revert, undecided) on a grid."""
    few = (0.0, 0.001, 0.002, 0.005, 0.01)
    points = np.array([*few, *np.arange(STEP, 1 + STEP / 2, STEP)])
    shares = np.array([(p, r) for p in points for r in points if p + r <= 1 + 1e-9])
    outcomes = np.column_stack([shares, np.maximum(0.0, 1 - shares.sum(axis=1))])
    # A share of exactly zero would make the divergence infinite: a judge is granted one in a billion.
    kept = np.maximum(outcomes, 1e-9)
    entropy = (kept * np.log(kept)).sum(axis=1)
    cross = kept @ np.log(kept).T  # [a, b]: Σ a·ln b
    divergence = entropy[:, None] - cross  # KL(a ‖ b)
    half = 5 * outcomes[:, 1] + outcomes[:, 2]
    margin = 20 * outcomes[:, 0] + outcomes[:, 2]
    at_half = half[:, None] + divergence / information
    at_half[outcomes[:, 0] < least_promoted(information)] = np.inf
    at_margin = margin[None, :] + divergence.T / information
    return at_half, at_margin
