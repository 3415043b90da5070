"""The last resort: a host that neither boots nor falls back has its power cut once, if the spec says so."""

from dataclasses import replace

import pytest
from power_cut import ONCE, SEEN, UNHEARD, PowerCut
from simulated_fleet import SPEC, UID, Faults, Simulation

from controller.domain.deciding.advance import advance
from controller.domain.deciding.power_cycles import Due, due
from controller.domain.delivery import BootEnd
from controller.domain.record.actions.power_cycles import CycleOutcome
from controller.domain.record.deadlines import longest_walk_s
from controller.domain.record.effects import CyclePower
from controller.domain.record.events import CommandState, FailureKind, Moved, PlannedHost, TrialEnded
from controller.domain.record.journey import Step, Trigger
from controller.domain.record.names import Key, power_cycling
from controller.domain.state.attempt import evolve
from controller.domain.state.power_cycles import PowerCycle
from controller.domain.state.rollout import State

STEPS = list(UNHEARD)
COMMAND = power_cycling(Key(UID, "a"))


def moves(simulation: Simulation) -> list[Moved]:
    return [event for _, event in simulation.log if isinstance(event, Moved)]


@pytest.mark.parametrize("step", STEPS)
def test_nobody_asked_for_it(step: Step) -> None:
    simulation = PowerCut(UNHEARD[step], spec=SPEC)
    simulation.run()
    assert simulation.orders == []
    assert simulation.step("a") in (Step.LOST, Step.REVERTED)
    assert all(move.trigger is not Trigger.POWER_CYCLE for move in moves(simulation))


@pytest.mark.parametrize("step", STEPS)
def test_a_host_comes_back_after_its_power_was_cut(step: Step) -> None:
    simulation = PowerCut(UNHEARD[step])
    simulation.run()
    assert simulation.orders == [CyclePower(command_id=COMMAND, host="a")]
    assert (step, Trigger.POWER_CYCLE) in simulation.taken
    assert simulation.step("a") is Step.REVERTED
    assert simulation.rollout.state is State.REVERTED
    assert simulation.attempt.power == PowerCycle(
        command_id=COMMAND,
        decided_at=simulation.attempt.power.decided_at,
        allowed_s=simulation.attempt.power.allowed_s,
        seen=SEEN,
        outcome=CycleOutcome.DONE,
    )
    # What brought it there is what counts.
    assert simulation.attempt.failure.kind in (FailureKind.HANG, FailureKind.SILENCE)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (CycleOutcome.DONE, ", nor after its power was cut and given again"),
        (CycleOutcome.REFUSED, "; its power could not be cut: as simulated"),
        (CycleOutcome.UNKNOWN, "; whether its power was cut is not known"),
        (CycleOutcome.SPARED, ""),
    ],
)
def test_a_host_that_stays_away_is_lost_and_not_cut_again(step: Step, outcome: CycleOutcome, told: str) -> None:
    faults = Faults(**{**vars(UNHEARD[step]), "never_returns": True})
    simulation = PowerCut(faults, outcome=outcome, helps=False)
    simulation.run()
    assert len(simulation.orders) == 1
    assert simulation.step("a") is Step.LOST
    assert simulation.rollout.state is State.REVERT_INCOMPLETE
    assert simulation.attempt.failure.sentence == f"did not come back on its old kernel by the revert deadline{told}"


@pytest.mark.parametrize("step", STEPS)
def test_its_time_counts_from_when_its_power_is_back(step: Step) -> None:
    simulation = PowerCut(UNHEARD[step], after_s=30.0, helps=False)
    simulation.run(until=lambda: bool(simulation.orders))
    decided = simulation.now
    allowed_s = simulation.attempt.deadline - decided
    simulation.run(until=lambda: simulation.attempt.power.outcome is not None)
    assert simulation.attempt.deadline == decided + 30.0 + allowed_s


@pytest.mark.parametrize("step", STEPS)
def test_what_could_not_be_cut_is_not_waited_for(step: Step) -> None:
    simulation = PowerCut(UNHEARD[step], outcome=CycleOutcome.REFUSED)
    simulation.run(until=lambda: simulation.attempt.power is not None and simulation.attempt.power.outcome is not None)
    now = simulation.now
    simulation.settle()
    assert moves(simulation)[-1].at == now
    assert moves(simulation)[-1].trigger is Trigger.DEADLINE


def test_a_host_that_is_heard_keeps_its_power() -> None:
    """It talks, and does not go back: nothing that power could mend."""
    measurements = [CommandState.COMPLETED, CommandState.FAILED]
    simulation = PowerCut(Faults(measurements=measurements, unanswered="revert"))
    simulation.run()
    assert simulation.step("a") is Step.LOST
    assert simulation.orders == []


def test_another_way_back_is_no_second_cut() -> None:
    simulation = PowerCut(UNHEARD[Step.REVERTING], helps=False)
    simulation.run()
    assert simulation.attempt.power is not None
    key, now = Key(UID, "a"), simulation.now
    lost = replace(simulation.attempt, step=Step.REVERTING, since=now - 90.0, deadline=now, silent_since=0.0)
    for attempt, trigger in ((lost, Trigger.DEADLINE), (replace(lost, power=None), Trigger.POWER_CYCLE)):
        decision = advance(replace(simulation.world.snapshot(key), attempt=attempt), now)
        assert isinstance(decision.events[0], Moved)
        assert decision.events[0].trigger is trigger
        assert any(isinstance(one, CyclePower) for one in decision.effects) is (trigger is Trigger.POWER_CYCLE)


def test_a_host_that_begins_anew_has_had_its_cut() -> None:
    simulation = PowerCut(UNHEARD[Step.FALLBACK])
    simulation.run()
    again = Moved(at=simulation.now, trigger=Trigger.AGAIN, step=Step.PENDING, deadline=None, leg=0, tries=0)
    anew = evolve(simulation.attempt, again)
    assert (anew.round, anew.step) == (1, Step.PENDING)
    assert anew.power == simulation.attempt.power


def test_a_boot_that_we_ended_did_not_end_by_itself() -> None:
    simulation = PowerCut(UNHEARD[Step.FALLBACK])
    simulation.run(until=lambda: simulation.attempt.power is not None and simulation.attempt.power.outcome is not None)
    command = simulation.attempt.trial_command_id
    simulation.record(Key(UID, "a"), TrialEnded(at=simulation.now, command_id=command, end=BootEnd.RESET, line=""))
    assert simulation.attempt.failure.kind is FailureKind.HANG


def test_a_plan_counts_with_it() -> None:
    planned = PlannedHost(host="a", stratum="x86_64/vm", architecture="x86_64")
    spec = ONCE.replace("{hosts: 0, share: 0 %}", "{hosts: 1, share: 0 %}")
    once, never = (
        longest_walk_s(PowerCut(Faults(), spec=text).rollout.policy, planned, 100.0)
        for text in (spec, spec.replace("power_cycle: once", "power_cycle: never"))
    )
    assert once == never + 90.0


CYCLE = PowerCycle(command_id=COMMAND, decided_at=0.0, allowed_s=60.0)


@pytest.mark.parametrize(
    ("power", "silent_since", "expected"),
    [
        (None, 0.0, Due.NOTHING),
        (replace(CYCLE, command_id="another"), 0.0, Due.NOTHING),
        (replace(CYCLE, outcome=CycleOutcome.DONE), 0.0, Due.NOTHING),
        (replace(CYCLE, seen=SEEN), 0.0, Due.UNKNOWN),
        (CYCLE, None, Due.SPARE),
        (CYCLE, 81.0, Due.WAIT),
        (CYCLE, 80.0, Due.CYCLE),
    ],
)
def test_what_is_due(power: PowerCycle | None, silent_since: float | None, expected: Due) -> None:
    attempt = replace(PowerCut(Faults()).attempt, power=power, silent_since=silent_since)
    assert due(attempt, COMMAND, 20.0, 100.0) is expected
