"""Hosts that are panicked on purpose, on trial, to prove that they come back by themselves."""

import pytest
from simulated_fleet import NEW, OLD, SPEC, UID, Faults, Simulation

from controller.domain.record.control import Verb
from controller.domain.record.events import FailureKind, FatalLogged, Moved
from controller.domain.record.journey import Step, Trigger
from controller.domain.record.names import Key
from controller.domain.state.rollout import State

DRILLS = SPEC.replace("  claim:", "  drill: {per_stratum: 1, revert_slo: 40s}\n  claim:")


def drilled(faults: Faults | None = None, spec: str = DRILLS) -> Simulation:
    """A host that is drilled, then a second wave."""
    return Simulation([["a", "b"], ["c"]], {"a": faults or Faults()}, spec=spec, drilled=("a",))


def test_a_drilled_host_comes_back_and_is_then_measured_like_the_others() -> None:
    simulation = drilled()
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    attempt = simulation.world.attempts[UID]["a"]
    assert attempt.drill_s == 12.0
    assert attempt.failure is None
    # Baseline, the drill, the way back, the new kernel.
    assert (simulation.hosts["a"].boots, simulation.hosts["b"].boots) == (4, 2)
    assert simulation.hosts["a"].default == NEW
    steps = [event.step for key, event in simulation.log if isinstance(event, Moved) and key.host == "a"]
    again = [Step.ARM, Step.REBOOT, Step.VERIFY, Step.PROBATION]
    assert steps[3 : 3 + 8] == [Step.STAGE, Step.ARM, Step.REBOOT, Step.VERIFY, Step.DRILL, *again[:3]]


def test_commands_after_the_drill_are_not_taken_for_those_before_it() -> None:
    simulation = drilled()
    simulation.run()
    arms = {command for command in simulation.hosts["a"].done if ".arm." in command}
    assert arms == {f"{UID}/a/1.arm.0", f"{UID}/a/d.1.arm.0"}


def test_the_panic_that_was_asked_for_condemns_nobody() -> None:
    simulation = drilled()
    simulation.run(until=lambda: simulation.step("a") is Step.DRILL)
    boot = simulation.hosts["a"].boot_id
    fatal = FatalLogged(at=simulation.now, report_id="f", boot_id=boot, signature="panic", line="Kernel panic: sysrq")
    simulation.run(until=lambda: simulation.step("a") is Step.PROBATION)
    simulation.record(Key(UID, "a"), fatal)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


@pytest.mark.parametrize(
    ("drill", "why"),
    [
        ("refused", "could not be panicked on purpose: there is no /proc/sysrq-trigger"),
        ("ignored", "s after being told to panic"),
        ("hangs", "did not come back by itself within"),
        ("stays", "which was armed for one boot only"),
    ],
)
def test_a_host_that_does_not_come_back_by_itself_stops_the_rollout(drill: str, why: str) -> None:
    simulation = drilled(Faults(drill=drill), DRILLS.replace("hosts: 0", "hosts: 5"))
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert why in simulation.rollout.reason
    # Nobody says of a host that never went away that it did not come back.
    assert ("was still up" in simulation.rollout.reason) == (drill == "ignored")
    assert "no further host is risked" in simulation.rollout.reason
    failure = simulation.world.attempts[UID]["a"].failure
    assert failure is not None
    assert failure.kind is FailureKind.DRILL
    assert simulation.step("c") is Step.PENDING
    assert (Step.DRILL, Trigger.FAIL) in simulation.taken


def test_a_slow_way_back_pauses_before_the_next_wave_and_a_person_may_go_on() -> None:
    simulation = drilled(Faults(returns_after_s=45.0))
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert simulation.rollout.reason == (
        "a took 47 s to come back from a panic on purpose; drill.revert_slo allows 40 s"
    )
    simulation.ask(Verb.RESUME)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_an_operator_may_revert_in_the_middle_of_a_drill() -> None:
    simulation = drilled()
    simulation.run(until=lambda: simulation.step("a") is Step.DRILL)
    simulation.ask(Verb.REVERT)
    simulation.run()
    assert simulation.rollout.state is State.REVERTED
    assert (simulation.hosts["a"].default, simulation.hosts["a"].running) == (OLD, OLD)
