"""What a fleet can see of a performance metric, in numbers and one sentence a design."""

import math

from controller.gate.planning.fleet_power import CellNoise, DesignPower, fleet_power
from controller.gate.priors import Prior
from controller.gate.statistics.cells import Design
from controller.gate.trial.model import FEWEST_RUNS
from controller.views.plan_models import PlannedCellView, PlannedDesignView
from controller.words import count_text

_PERCENT = 100
_BLOCKS = {Design.TWO_ARMS: "treated host", Design.PAIRS: "pair", Design.ABBA: "cycle"}
_NAMES = {Design.TWO_ARMS: "two_arms", Design.PAIRS: "matched_pairs", Design.ABBA: "abba"}


def planned_cell(
    stratum: str,
    prior: Prior,
    /,
    *,
    margin: float,
    noise: CellNoise,
    hosts: tuple[int, int],
    runs: int,
    cells: int,
    suspended: str,
) -> PlannedCellView:
    """Return what hosts with `runs` runs a boot can see of a metric.

    `margin` is a share; `hosts` their number and the cycles of one that is compared with itself; `cells` critical cells
    share the error of a false revert.
    """
    share = cells if prior.role.value == "critical" else 1
    return PlannedCellView(
        stratum=stratum,
        metric=prior.name,
        role=prior.role.value,
        margin=margin * _PERCENT,
        noise=math.expm1(noise.change.sigma) * _PERCENT,
        noise_hosts=noise.change.hosts,
        hosts=hosts[0],
        suspended=suspended,
        runs=runs,
        fewest_runs=FEWEST_RUNS,
        designs=tuple(
            _design(power) for power in fleet_power(margin, noise, cells=share, hosts=hosts[0], cycles=hosts[1])
        ),
    )


def _design(power: DesignPower) -> PlannedDesignView:
    return PlannedDesignView(
        design=_NAMES[power.design],
        hosts_needed=power.hosts_needed,
        blocks_needed=power.plan.n_max,
        blocks_there=power.blocks_there,
        first_fail=power.first_fail or 0,
        detectable=0.0 if power.detectable is None else power.detectable * _PERCENT,
        sentence=_sentence(power),
    )


def _sentence(power: DesignPower) -> str:
    block = _BLOCKS[power.design]
    controls = f" and {power.plan.n_max_control} control hosts" if power.design is Design.TWO_ARMS else ""
    told = f"takes {count_text(power.plan.n_max, block)}{controls}"
    if power.first_fail is not None:
        told += f", can fail from {power.first_fail}"
    there = count_text(power.blocks_there, block)
    if power.detectable is None:
        return f"{told}; {there} can decide nothing"
    if power.blocks_there >= power.plan.n_max:
        return f"{told}; {there} are enough"
    return f"{told}; {there} can decide on {power.detectable * _PERCENT:.1f} % at best"
