"""A kernel that evidence spoke against stays denied until a person clears it; a denied one reaches no further host."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from simulated_fleet import SPEC, Simulation
from simulated_host import NEW, NEW_RELEASE, Faults

from controller.domain.delivery import BootEnd
from controller.domain.fleet.denials import denial_of, subject
from controller.domain.judging.condemned import condemned
from controller.domain.record.control import StratumHeld
from controller.domain.record.events import Event, PlannedHost, RolloutPlanned
from controller.domain.record.fleet import FleetEvent, KernelCleared, KernelDenied
from controller.domain.record.journey import Role, Step
from controller.domain.record.names import FLEET, Key
from controller.domain.state.rollout import State
from controller.services.state.world import folded

PANICS = Faults(trial_end=BootEnd.PANIC)
HOLD = SPEC + "  on_stratum_failure: hold\n"


def refolded(simulation: Simulation) -> object:
    """What a controller that restarts remembers."""
    return folded([(key.stream, event) for key, event in simulation.log], simulation.world.hosts).fleet


def planned(simulation: Simulation) -> RolloutPlanned:
    return next(event for _, event in simulation.log if isinstance(event, RolloutPlanned))


def decide(simulation: Simulation, event: FleetEvent) -> None:
    simulation.record(FLEET, event)


def denied_hosts(simulation: Simulation) -> set[str]:
    world, kernel = simulation.world, simulation.rollout.kernels["x86_64"]
    return {
        name
        for name, host in world.hosts.items()
        if denial_of(world.fleet.denials, kernel, subject(host, world.fleet)) is not None
    }


def test_a_kernel_that_panicked_is_denied_until_it_is_cleared() -> None:
    simulation = Simulation([["a"], ["b"]], {"a": PANICS})
    simulation.run()
    assert simulation.rollout.state is State.REVERTED
    (denial,) = simulation.world.fleet.denials
    assert (denial.kernel, denial.where, denial.by, denial.rollout) == (NEW, "", "controller", "trial")
    assert denial.reason.startswith("rollout trial reverted it: a: the kernel panicked")
    assert refolded(simulation) == simulation.world.fleet
    # It is no event of the fleet's own stream: the next one takes the next revision there.
    assert simulation.world.revision(FLEET) == 0
    decide(simulation, KernelCleared(at=simulation.now, by="olga", kernel=NEW, remark="was the firmware"))
    assert simulation.world.fleet.denials == ()
    assert refolded(simulation) == simulation.world.fleet


def test_a_judgement_that_reverts_condemns_too() -> None:
    simulation = Simulation([["a", "b"]], {name: Faults(new_cost=819.0) for name in "ab"}, on_refuted="revert")
    simulation.run()
    assert simulation.rollout.state is State.REVERTED
    (denial,) = simulation.world.fleet.denials
    assert denial.kernel == NEW
    assert "refuted" in denial.reason.lower()


@pytest.mark.parametrize("how", [Simulation.revert, Simulation.abort])
def test_what_an_operator_reverts_or_aborts_is_not_condemned(how: Callable[[Simulation], None]) -> None:
    simulation = Simulation([["a"], ["b"]])
    simulation.run(until=lambda: simulation.step("a") is Step.BAKE)
    how(simulation)
    simulation.run()
    assert simulation.rollout.ended
    assert simulation.world.fleet.denials == ()


def test_hosts_that_keep_their_kernel_condemn_none() -> None:
    simulation = Simulation([["a"], ["b"]], {"a": Faults(fatal_in=Step.PROBATION)}, role=Role.CONTROL)
    simulation.run()
    assert simulation.world.fleet.denials == ()


def strata(simulation_waves: Iterable[Iterable[tuple[str, str]]]) -> tuple[tuple[PlannedHost, ...], ...]:
    return tuple(
        tuple(PlannedHost(host=name, stratum=stratum, architecture="x86_64") for name, stratum in wave)
        for wave in simulation_waves
    )


def test_a_stratum_that_is_held_condemns_the_kernel_there_alone() -> None:
    simulation = Simulation([["a", "b"]], {"a": PANICS}, spec=HOLD, max_in_flight=4)
    # The same rollout over two strata by label.
    first = planned(simulation)
    replanned = {"a": "x86_64/vm/zone=a", "b": "x86_64/vm/zone=?"}
    waves = strata([[(name, replanned[name]) for name in ("a", "b")]])
    log: list[tuple[Key, Event]] = simulation.log
    simulation.log = []
    simulation.world = type(simulation.world)()
    simulation.labels = {"a": {"zone": "a"}}
    for name in simulation.hosts:
        simulation.world.see(simulation._host(name))
    for key, event in log:
        simulation.record(key, event if event is not first else _with_waves(first, waves))
    simulation.run()
    assert simulation.rollout.held.keys() == {"x86_64/vm/zone=a"}
    (denial,) = simulation.world.fleet.denials
    assert denial.where == 'stratum == "x86_64/vm" && "zone" in labels && labels["zone"] == "a"'
    assert denied_hosts(simulation) == {"a"}


def _with_waves(event: RolloutPlanned, waves: tuple[tuple[PlannedHost, ...], ...]) -> RolloutPlanned:
    values = {name: getattr(event, name) for name in event.__slots__}
    return RolloutPlanned(**{**values, "waves": waves})


def deny(where: str = "") -> KernelDenied:
    return KernelDenied(at=1001.0, by="olga", kernel=NEW_RELEASE, reason="hangs", where=where)


def test_a_kernel_denied_meanwhile_reaches_no_further_host_until_it_is_allowed() -> None:
    simulation = Simulation([["a"], ["b"]], max_in_flight=1)
    simulation.run(until=lambda: simulation.step("a") is Step.BAKE)
    decide(simulation, deny())
    simulation.run(until=lambda: simulation.rollout.wave == 1)
    for _ in range(5):
        simulation.settle()
    assert simulation.step("b") is Step.PENDING
    decide(simulation, KernelCleared(at=simulation.now, by="olga", kernel=NEW_RELEASE))
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert simulation.step("b") is Step.DONE


def test_a_host_that_has_not_rebooted_yet_waits_for_an_allowance() -> None:
    simulation = Simulation([["a"]])
    simulation.run(until=lambda: simulation.step("a") is Step.BASELINE)
    decide(simulation, deny())
    simulation.run(until=lambda: simulation.step("a") is Step.HELD)
    simulation.settle()
    assert simulation.step("a") is Step.HELD
    assert simulation.hosts["a"].running != NEW
    decide(simulation, KernelCleared(at=simulation.now, by="olga", kernel=NEW_RELEASE))
    simulation.run()
    assert simulation.step("a") is Step.DONE


@pytest.mark.parametrize("where", ['host == "b"', 'host == "b" && labels.tier == "db"'])
def test_a_host_that_the_kernel_is_denied_on_meanwhile_is_skipped(where: str) -> None:
    simulation = Simulation([["a"], ["b", "c"]], max_in_flight=1)
    simulation.run(until=lambda: simulation.step("a") is Step.BAKE)
    decide(simulation, deny(where))
    simulation.run()
    assert (simulation.step("b"), simulation.step("c")) == (Step.SKIPPED, Step.DONE)
    assert simulation.hosts["b"].boots == 1


@pytest.mark.parametrize("label", ["k/v=w", "a=x/a=y", "zone=a=b"])
def test_labels_that_nobody_can_tell_any_more_deny_the_whole_platform(label: str) -> None:
    simulation = Simulation([["a"]], spec=HOLD)
    # Planned before the labels of strata were kept.
    rollout = simulation.rollout
    former = replace(rollout, policy=replace(rollout.policy, strata_labels=None))
    held = StratumHeld(at=1.0, stratum=f"x86_64/vm/{label}", reason="hangs")
    (denial,) = condemned(former, {}, held)
    assert denial.where == 'stratum == "x86_64/vm"'
