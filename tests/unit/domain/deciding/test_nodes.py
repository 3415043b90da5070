"""A host that serves in a place is taken out of service before it goes down, and put back wherever its way ends."""

import pytest
from simulated_fleet import SPEC, UID, Simulation
from simulated_host import Faults

from controller.domain.delivery import BootEnd
from controller.domain.record.control import Verb
from controller.domain.record.deadlines import DRAIN_TIMEOUT_S, UNCORDON_TIMEOUT_S
from controller.domain.record.effects import DrainHost, UncordonHost
from controller.domain.record.events import FailureKind, Moved
from controller.domain.record.fleet import FleetFrozen, FleetThawed
from controller.domain.record.journey import Step, Trigger
from controller.domain.record.names import FLEET, Key, uncordoning
from controller.domain.state.attempt import Attempt
from controller.domain.state.rollout import State
from controller.services.state.waiting import held_up
from controller.views.rollouts.status import rollout_view

DRAIN = f"{UID}/a/0.drain.0"


def node(faults: Faults | None = None, *, spec: str = SPEC, waves: list[list[str]] | None = None) -> Simulation:
    return Simulation(waves or [["a"]], {"a": faults or Faults()}, spec=spec, nodes=("a",))


def of(simulation: Simulation, host: str = "a") -> Attempt:
    return simulation.world.attempts[UID][host]


def finished(simulation: Simulation) -> Simulation:
    """Let what is outstanding come in after the rollout's end."""
    simulation.run()
    simulation.run_out()
    return simulation


def steps(simulation: Simulation, host: str = "a") -> list[Step]:
    return [event.step for key, event in simulation.log if isinstance(event, Moved) and key.host == host]


def test_a_node_is_drained_before_it_goes_down_and_uncordoned_once_its_kernel_is_blessed() -> None:
    simulation = node()
    simulation.run(until=lambda: simulation.step("a") is Step.DRAIN)
    assert list(simulation.outstanding["a"].values()) == [DrainHost(command_id=DRAIN, host="a")]
    assert of(simulation).deadline == simulation.now + DRAIN_TIMEOUT_S
    simulation.run(until=lambda: simulation.step("a") is Step.UNCORDON)
    assert of(simulation).drained_by == DRAIN
    back = UncordonHost(command_id=uncordoning(DRAIN), host="a", drained_by=DRAIN)
    assert list(simulation.outstanding["a"].values()) == [back]
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert of(simulation).drained_by == ""
    assert steps(simulation)[1:4] == [Step.HELD, Step.DRAIN, Step.STAGE]


def test_a_host_that_serves_nowhere_passes_at_once() -> None:
    simulation = Simulation([["a"]])
    simulation.run()
    assert not any("drain" in command or "uncordon" in command for command in simulation.hosts["a"].done)
    moved = {event.step: event for _, event in simulation.log if isinstance(event, Moved)}
    for step in (Step.HELD, Step.DRAIN, Step.UNCORDON):
        assert (moved[step].command_id, moved[step].deadline) == ("", None)


@pytest.mark.parametrize(
    ("faults", "kind", "sentence"),
    [
        (Faults(refused="drain"), FailureKind.INFRASTRUCTURE, "could not be taken out of service: drain was refused"),
        (Faults(unanswered="drain"), FailureKind.DEADLINE, "taking it out of service took longer than 1800 s"),
    ],
)
def test_a_node_that_cannot_be_drained_is_left_as_it_is(faults: Faults, kind: FailureKind, sentence: str) -> None:
    simulation = node(faults)
    simulation.run()
    failure = of(simulation).failure
    assert failure is not None
    assert (simulation.step("a"), failure.kind, failure.sentence) == (Step.SKIPPED, kind, sentence)
    assert simulation.rollout.reason == f"a: {sentence}; this does not speak against the kernel"
    # Half a draining is taken back as well.
    assert uncordoning(DRAIN) in simulation.hosts["a"].done
    assert simulation.hosts["a"].boots == 1


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        (Faults(refused="uncordon"), "could not be put back into service: uncordon was refused"),
        (Faults(unanswered="uncordon"), f"putting it back into service took longer than {UNCORDON_TIMEOUT_S:.0f} s"),
    ],
)
def test_a_good_kernel_stays_when_its_node_cannot_be_put_back(faults: Faults, sentence: str) -> None:
    simulation = node(faults)
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert simulation.rollout.reason == f"a: {sentence}; this does not speak against the kernel"
    assert simulation.step("a") is Step.DONE
    # It is asked for again, until it is done.
    assert of(simulation).drained_by == DRAIN
    assert uncordoning(DRAIN) in simulation.outstanding["a"]


@pytest.mark.parametrize(
    "faults", [Faults(trial_end=BootEnd.PANIC), Faults(fatal_in=Step.PROBATION), Faults(refused="stage")]
)
def test_wherever_its_way_ends_a_node_serves_again(faults: Faults) -> None:
    simulation = finished(node(faults))
    assert simulation.step("a") in (Step.REVERTED, Step.SKIPPED)
    assert of(simulation).drained_by == ""


def test_a_lost_node_stays_out_of_service_until_it_is_back() -> None:
    simulation = node(Faults(unanswered="revert", fatal_in=Step.PROBATION))
    simulation.run()
    assert simulation.rollout.state is State.REVERT_INCOMPLETE
    assert uncordoning(DRAIN) not in simulation.hosts["a"].done
    simulation.hosts["a"].faults.unanswered = ""
    simulation.now += 3600.0
    simulation.revert()
    finished(simulation)
    assert simulation.step("a") is Step.REVERTED
    assert of(simulation).drained_by == ""


def test_a_draining_that_nobody_wants_any_more_is_taken_back() -> None:
    simulation = node(Faults(unanswered="drain"), waves=[["a"], ["b"]])
    simulation.run(until=lambda: simulation.step("a") is Step.DRAIN)
    simulation.ask(Verb.ABORT, remark="enough")
    finished(simulation)
    assert simulation.step("a") is Step.SKIPPED
    assert uncordoning(DRAIN) in simulation.hosts["a"].done
    assert of(simulation).drained_by == ""


def test_a_fleet_that_is_frozen_while_a_node_is_drained_puts_it_back_until_the_thaw() -> None:
    simulation = node(Faults(unanswered="drain"))
    simulation.run(until=lambda: simulation.step("a") is Step.DRAIN)
    view = rollout_view(simulation.rollout, simulation.world.attempts[UID], {}, simulation.now)
    assert view.blocking_reason == "a is taken out of service"
    assert view.next_deadline_name == "a: it must be out of service"
    simulation.record(FLEET, FleetFrozen(at=simulation.now, by="ada"))
    simulation.run(until=lambda: simulation.step("a") is Step.HELD and not of(simulation).drained_by)
    stopped = held_up(simulation.world, UID, simulation.now)
    view = rollout_view(simulation.rollout, simulation.world.attempts[UID], {}, simulation.now, held_up=stopped)
    assert view.blocking_reason == "a is measured and waits: the fleet is frozen by ada"
    simulation.hosts["a"].faults.unanswered = ""
    simulation.record(FLEET, FleetThawed(at=simulation.now, by="ada"))
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert f"{UID}/a/0.drain.1" in simulation.hosts["a"].done
    assert of(simulation).drained_by == ""


def test_the_next_round_drains_anew() -> None:
    simulation = node(Faults(refused="stage"))
    simulation.run()
    simulation.hosts["a"].faults.refused = ""
    simulation.ask(Verb.RETRY)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert f"{UID}/a/r2.0.drain.0" in simulation.hosts["a"].done
    assert of(simulation).drained_by == ""


def test_a_host_that_an_older_controller_left_in_drain_goes_on() -> None:
    """There was no other step to wait in, and no command."""
    older = Simulation([["a"]])
    older.run(until=lambda: older.step("a") is Step.BASELINE and len(of(older).runs) == 3)
    older.record(FLEET, FleetFrozen(at=older.now, by="ada"))
    moved = Moved(at=older.now, trigger=Trigger.MEASURED, step=Step.DRAIN, deadline=None, leg=0, tries=0)
    older.record(Key(UID, "a"), moved)
    older.settle()
    assert older.step("a") is Step.HELD
    stopped = held_up(older.world, UID, older.now)
    assert stopped.hosts["a"].why == "the fleet is frozen by ada"
    older.record(FLEET, FleetThawed(at=older.now, by="ada"))
    older.run()
    assert older.rollout.state is State.PROMOTED
