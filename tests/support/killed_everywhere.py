"""Kills the controller at every commit and at every effect of a rollout, one run for each, and compares the ends."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sim_cases import case

from controller.sim.case import Case
from controller.sim.run import simulated
from controller.sim.simulation import Simulation
from controller.views.simulation import SimulationView


@dataclass(frozen=True, slots=True, kw_only=True)
class Killed:
    """One run in which the controller was killed once."""

    # The place in its work, counted from 1.
    point: int
    # How the run differs from the one in which nobody was killed; empty when it does not.
    difference: str


def kill_everywhere(whole: Case) -> Iterator[Killed]:
    """Yield a run for every place where the controller can die: before and after each commit and each effect."""
    view, world = simulated(whole)
    wanted, ending = view.state, world.fleet.ending()
    for point in range(1, world.points + 1):
        killed, after = simulated(replace(whole, die_at=point))
        yield Killed(point=point, difference=_difference(killed, after, wanted, ending))


def cut_and_killed(more: str = "") -> Iterator[tuple[SimulationView, Simulation]]:
    """Yield a run of a host that comes back only once its power was cut: of nobody killed, then one for each place.

    `more` is what else is wrong with hosts, in a fault file's words.
    """
    faults = f"  new_kernel: {{resets_at_boot: {{share: 100 %}}}}\n  hosts: {{never_return: {{share: 100 %}}{more}}}\n"
    cut = case(faults, hosts=1, more="    power_cycle: once\n")
    view, world = simulated(cut)
    yield view, world
    for point in range(1, world.points + 1):
        yield simulated(replace(cut, die_at=point))


def _difference(
    view: SimulationView, world: Simulation, state: str, ending: dict[str, tuple[str, str, str, int]]
) -> str:
    if view.breaches:
        return view.breaches[0]
    if view.incidents.get("crash") != 1:
        return f"the controller was killed {view.incidents.get('crash', 0)} times"
    if view.state != state:
        return f"the rollout is {view.state} instead of {state}: {view.reason}"
    for host, now in world.fleet.ending().items():
        if now != ending[host]:
            return f"{host} ends as {now} instead of {ending[host]}: (step, default kernel, running, boots)"
    return ""
