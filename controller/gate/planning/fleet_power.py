"""What a fleet can see, before anything reboots: per cell and design the hosts it takes, and what fewer can detect."""

import math
from dataclasses import dataclass
from typing import Final

from controller.gate.ledger import Boot, Ledger, Noise, learn, learn_host_kernel, log_changes, old_against_new
from controller.gate.ledger import old_against_old as old_pairs
from controller.gate.planning.power import contrast_sigma, design_sigma, detectable, first_fail, plan_cell, rank_floor
from controller.gate.priors import BOOT_SHARE, HOST_KERNEL_SD, Prior
from controller.gate.statistics.cells import CellPlan, Design, Method
from controller.gate.statistics.contrasts import log_margin

# The designs that can decide, cheapest in hosts last.
DESIGNS: Final = (Design.TWO_ARMS, Design.PAIRS, Design.ABBA)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellNoise:
    """What a plan assumes of one cell, in log units."""

    # Of one host's change between two boots of one kernel.
    change: Noise
    # Of the kernel's effect between hosts.
    host_kernel: Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignPower:
    """One cell under one design."""

    design: Design
    # Standard deviation of one contrast (two arms: of a treated host's change), as a share.
    sigma: float
    # The plan that the margin asks for, however many hosts there are.
    plan: CellPlan
    # Hosts the plan takes; control hosts included.
    hosts_needed: int
    # The earliest look that can FAIL, in blocks; None when none can.
    first_fail: int | None
    # Blocks that the stratum's hosts make.
    blocks_there: int
    # The smallest margin, as a share, that these can decide on; None where so few decide nothing.
    detectable: float | None


def cell_noise(ledger: Ledger, stratum: str, prior: Prior, runs: int) -> CellNoise:
    """Return the noise of a cell with `runs` measured runs a boot: from the ledger where it has enough hosts.

    Boots with more runs than these are steadier than the plan's will be, and teach nothing for it.
    """
    own = [boot for boot in cell_boots(ledger, stratum, prior.name) if boot.runs <= runs]
    old = log_changes(old_pairs(own))
    new = [log_changes(changes) for _, changes in sorted(old_against_new(own).items())]
    assumed = contrast_sigma(Design.TWO_ARMS, run_sd=prior.cv, runs=max(1, runs), boot_sd=BOOT_SHARE * prior.cv)
    return CellNoise(change=learn(old, assumed), host_kernel=learn_host_kernel(old, new, HOST_KERNEL_SD))


def cell_boots(ledger: Ledger, stratum: str, metric: str) -> list[Boot]:
    """Return the ledger's rows on one cell."""
    return [boot for boot in ledger.boots if boot.stratum == stratum and boot.metric == metric]


def fleet_power(margin: float, noise: CellNoise, *, cells: int, hosts: int, cycles: int = 1) -> tuple[DesignPower, ...]:
    """Return what every design takes and can see for a margin (a share), with `hosts` hosts in the stratum.

    `cells` critical cells share the error of a false revert; a host that is compared with itself walks `cycles` cycles.
    """
    return tuple(
        _power(design, margin, noise, cells=cells, blocks=hosts * cycles if design is Design.ABBA else hosts // 2)
        for design in DESIGNS
    )


def _power(design: Design, margin: float, noise: CellNoise, *, cells: int, blocks: int) -> DesignPower:
    sigma = design_sigma(design, change_sd=noise.change.sigma, host_kernel_sd=noise.host_kernel.sigma)
    plan = plan_cell(design, margin=log_margin(margin), sigma=sigma, cells=cells)
    full = (plan.n_max, plan.n_max_control) if design is Design.TWO_ARMS else (plan.n_max,)
    per_block = 1 if design is Design.ABBA else 2
    return DesignPower(
        design=design,
        sigma=math.expm1(sigma),
        plan=plan,
        hosts_needed=plan.n_max * per_block,
        first_fail=first_fail(full, plan.revert),
        blocks_there=blocks,
        detectable=_detectable(design, plan, blocks),
    )


def _detectable(design: Design, plan: CellPlan, there: int) -> float | None:
    """Return the margin that ranks can decide on with the blocks there are; None below their floor."""
    floor = rank_floor(plan.revert.alpha, plan.promote.alpha, 1.0 if design is Design.TWO_ARMS else None)
    if there < floor:
        return None
    two = design is Design.TWO_ARMS
    short = CellPlan(
        design=design,
        margin=plan.margin,
        n_max=there,
        n_max_control=there if two else 0,
        looks=(there,),
        sigma=plan.sigma,
        revert=plan.revert,
        promote=plan.promote,
        method=Method.RANKS,
    )
    return math.expm1(detectable(short))
