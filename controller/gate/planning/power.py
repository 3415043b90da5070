"""How many blocks it takes to see an effect, when to look, and what can be seen with fewer.

Matched pairs and ABBA: N = ⌈1.15 · 1.05 · σ²(z₁₋αR + z₁₋αP)²/Δ²⌉ with σ of one contrast. Two arms: the same with σ of a
single host's change, times (1 + 1/r) for r control hosts a treated one; r = 1 gives twice that *per arm*.
"""

import math
from functools import lru_cache
from typing import Final

from scipy.special import ndtri

from controller.gate.statistics import tsequence
from controller.gate.statistics.cells import (
    ALPHA_PROMOTE,
    ALPHA_REVERT,
    GAMMA_PROMOTE,
    GAMMA_REVERT,
    CellPlan,
    Design,
    Method,
)
from controller.gate.statistics.sequential import Spending, information, rank_look

# Looking up to five times with these spending functions costs up to 15 % more than one look.
SEQUENTIAL_INFLATION: Final = 1.15
# Normal errors: the rank tests' asymptotic relative efficiency is 3/π = 0.955; any other shape needs less.
RANK_INFLATION: Final = 1.05
LOOKS: Final = 5
# Of the promised false promotions a plan spends only this share; its size is that for the full error. Rank statistics
# at several looks are jointly normal only nearly (the referee measured 5.05 % on average where 5 % were spent), and a
# false promotion is the dearest mistake of all: 3 % cost a thirtieth of the sample and still PASS 98 of 100 good cells.
PROMOTE_SHARE: Final = 0.6
# A first look at less than this share finds too little to be worth what it spends.
FIRST_SHARE: Final = 0.2
# A plan beyond this is not a plan; the effect cannot be seen.
LARGEST: Final = 100_000


def sample_size(margin: float, sigma: float, alpha_revert: float, alpha_promote: float) -> float:
    """Return σ²(z₁₋αR + z₁₋αP)²/Δ² with both inflations, not rounded."""
    z = float(ndtri(1 - alpha_revert) + ndtri(1 - alpha_promote))
    return SEQUENTIAL_INFLATION * RANK_INFLATION * (sigma * z / margin) ** 2


def plan_cell(
    design: Design,
    *,
    margin: float,
    sigma: float,
    cells: int = 1,
    alpha_revert: float = ALPHA_REVERT,
    alpha_promote: float = ALPHA_PROMOTE,
    control_ratio: float = 1.0,
    budget: int | None = None,
) -> CellPlan:
    """Plan one cell; margin and sigma in log units, sigma of one contrast (two arms: of one host's change).

    `cells` critical cells share alpha_revert; each keeps alpha_promote, of which `PROMOTE_SHARE` is spent. A budget
    below the sample size plans what it allows; when ranks cannot FAIL on so few blocks but the t sequence is finite
    there, the plan takes the t sequence.
    """
    assert margin > 0 and sigma > 0, "a margin and a standard deviation are positive"
    share = alpha_revert / cells
    revert = Spending(alpha=share, gamma=GAMMA_REVERT)
    promote = Spending(alpha=PROMOTE_SHARE * alpha_promote, gamma=GAMMA_PROMOTE)
    two = design is Design.TWO_ARMS
    need = sample_size(margin, sigma, share, alpha_promote) * ((1 + 1 / control_ratio) if two else 1)
    floor = rank_floor(share, alpha_promote, control_ratio if two else None)
    n_max = min(max(math.ceil(need - 1e-9), floor), LARGEST)
    method = Method.RANKS
    if budget is not None and budget < n_max:
        n_max = max(1, budget)
        finite = tsequence.smallest_count((margin / sigma) ** 2, share, n_max)
        if n_max < floor and finite is not None and not two:
            method = Method.T_SEQUENCE
    controls = max(1, math.ceil(n_max * control_ratio)) if two else 0
    full = (n_max, controls) if two else (n_max,)
    looks = (
        tuple(range(2, n_max + 1)) or (n_max,)
        if method is Method.T_SEQUENCE
        else look_times(full, first_fail(full, revert))
    )
    return CellPlan(
        design=design,
        margin=margin,
        n_max=n_max,
        n_max_control=controls,
        looks=looks,
        sigma=sigma,
        revert=revert,
        promote=promote,
        method=method,
    )


def look_times(full: tuple[int, ...], first: int | None) -> tuple[int, ...]:
    """Return up to five looks: the first where a FAIL is possible, the others evenly up to the planned number."""
    n_max = full[0]
    start = min(n_max, max(first or 1, math.ceil(FIRST_SHARE * n_max)))
    steps = min(LOOKS - 1, n_max - start)
    return tuple(sorted({start + round((n_max - start) * k / max(1, steps)) for k in range(steps + 1)}))


@lru_cache(maxsize=4096)
def first_fail(full: tuple[int, ...], revert: Spending) -> int | None:
    """Return the number of blocks at which a first look can FAIL; None when not even the last can."""
    n_max = full[0]
    for n in range(1, n_max + 1):
        count = (n,) if len(full) == 1 else (n, max(1, round(n * full[1] / n_max)))
        if rank_look((count,), full, revert, n == n_max).cut:
            return n
    return None


@lru_cache(maxsize=4096)
def rank_floor(alpha_revert: float, alpha_promote: float, control_ratio: float | None = None) -> int:
    """Return the fewest blocks on which ranks can give either bound: p is never below 2⁻ⁿ, or 1/C(n + m, n)."""
    alpha = min(alpha_revert, alpha_promote)
    for n in range(1, LARGEST):
        m = 0 if control_ratio is None else max(1, math.ceil(n * control_ratio))
        smallest = 2.0**-n if control_ratio is None else 1 / math.comb(n + m, n)
        if smallest <= alpha:
            return n
    return LARGEST


def contrast_sigma(
    design: Design,
    *,
    run_sd: float,
    runs: int,
    boots: int = 1,
    boot_sd: float = 0.0,
    host_kernel_sd: float = 0.0,
) -> float:
    """Return σ of one contrast from its parts, in log units: medians of runs in a boot, of boots, differences.

    For two arms that of one *treated* host's change. The parts of boots and runs are independent on each side.
    """
    side = (boot_sd**2 + run_sd**2 * median_variance(runs)) * median_variance(boots)
    return design_sigma(design, change_sd=math.sqrt(2 * side), host_kernel_sd=host_kernel_sd)


def design_sigma(design: Design, *, change_sd: float, host_kernel_sd: float) -> float:
    """Return σ of one contrast from that of a host's old-vs-old change and of a kernel's effect between hosts.

    A pair subtracts the partner's change; an ABBA cycle averages two boots on each side.
    """
    share = {Design.PAIRS: 2.0, Design.ABBA: 0.5}.get(design, 1.0)
    return math.sqrt(share * change_sd**2 + host_kernel_sd**2)


def median_variance(n: int) -> float:
    """Return the variance of the median of n standard normal values, exact to n = 8, then π/2n corrected.

    An even number averages the two middle values and is a little better.
    """
    exact = (1.0, 0.5, 0.4487, 0.2982, 0.2868, 0.2147, 0.2104, 0.1682)
    return exact[n - 1] if n <= len(exact) else math.pi / (2 * n + (0.9 if n % 2 else 2.6))


def detectable(plan: CellPlan) -> float:
    """Return the margin (log units) that the plan's number of blocks can decide on with the same errors."""
    n = float(plan.n_max)
    if plan.design is Design.TWO_ARMS:
        n = information((plan.n_max, plan.n_max_control))
    return math.sqrt(sample_size(1.0, plan.sigma, plan.revert.alpha, plan.promote.alpha / PROMOTE_SHARE) / n)
