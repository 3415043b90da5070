"""Every verb in every state: done, or refused with a reason that helps."""

from collections.abc import Callable

import pytest
from simulated_fleet import NEW, OLD, SPEC, UID, Faults, Simulation

from controller.domain.deciding.advance import advance
from controller.domain.deciding.verbs import ANSWERS
from controller.domain.delivery import BootEnd
from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.record.control import RolloutResumed, Verb
from controller.domain.record.events import CommandState
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.record.policy import WavePolicy
from controller.domain.state.rollout import State

BROKEN_RIG = [CommandState.INFRASTRUCTURE] * 2
_DAY_S = 86_400.0


def running() -> Simulation:
    """The first of three waves measures."""
    simulation = Simulation([["a"], ["b", "c"], ["d", "e"]])
    simulation.run(until=lambda: simulation.step("a") is Step.PROBATION)
    return simulation


def paused() -> Simulation:
    """Paused by an operator while the first wave measures."""
    simulation = running()
    simulation.ask(Verb.PAUSE)
    return simulation


def held() -> Simulation:
    """The gate held the first wave: its claim is refuted."""
    simulation = Simulation([["a"], ["b", "c"]], {"a": Faults(new_cost=800.0)})
    simulation.run()
    assert simulation.rollout.held_wave
    return simulation


def broken() -> Simulation:
    """A rig failed, and the error budget is none."""
    simulation = Simulation([["a", "b"]], {"a": Faults(measurements=list(BROKEN_RIG))})
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    return simulation


def awaiting(persons: int = 1) -> Simulation:
    """The second wave needs approval."""
    waves = (WavePolicy(max_duration_s=_DAY_S), WavePolicy(max_duration_s=_DAY_S, approvals=persons))
    simulation = Simulation([["a"], ["b"]], wave_policies=waves)
    simulation.run()
    return simulation


def aborting() -> Simulation:
    """A host in flight is brought back."""
    simulation = running()
    simulation.ask(Verb.ABORT)
    simulation.settle()
    return simulation


def reverting() -> Simulation:
    """Finished hosts are on their way back."""
    simulation = Simulation([["a", "b", "c", "d"], ["e"]], max_in_flight=1)
    simulation.run(until=lambda: simulation.rollout.wave == 1)
    simulation.ask(Verb.REVERT)
    simulation.settle()
    return simulation


def ended(state: State) -> Simulation:
    """A rollout in its end state."""
    faults = {
        State.REVERTED: Faults(trial_end=BootEnd.PANIC),
        State.REVERT_INCOMPLETE: Faults(trial_end=BootEnd.PANIC, never_returns=True),
    }.get(state, Faults())
    simulation = Simulation([["a"]], {"a": faults}, aa=state is State.COMPLETED)
    if state is State.ABORTED:
        simulation.ask(Verb.ABORT)
    simulation.run()
    return simulation


_AT: dict[State, Callable[[], Simulation]] = {
    State.RUNNING: running,
    State.PAUSED: paused,
    State.AWAITING_APPROVAL: awaiting,
    State.ABORTING: aborting,
    State.REVERTING: reverting,
    **{
        state: lambda state=state: ended(state)  # type: ignore[misc]  # bound now
        for state in (State.PROMOTED, State.COMPLETED, State.ABORTED, State.REVERTED, State.REVERT_INCOMPLETE)
    },
}


@pytest.mark.parametrize("state", sorted(_AT))
def test_each_state_is_really_reached(state: State) -> None:
    assert _AT[state]().rollout.state is state


def test_every_pair_has_an_answer() -> None:
    assert set(ANSWERS) == {(verb, state) for verb in Verb for state in State}


@pytest.mark.parametrize("state", sorted(_AT))
@pytest.mark.parametrize("verb", sorted(Verb))
def test_every_verb_ends_well_or_says_why_not(verb: Verb, state: State) -> None:
    """Whatever is asked at whatever moment, the rollout comes to an end or rests with one stated reason."""
    simulation = _AT[state]()
    options = {"hosts": ("a",)} if verb is Verb.SKIP else {}
    try:
        simulation.ask(verb, **options)
    except Conflict as refused:
        assert len(str(refused)) > 30, refused
        assert simulation.rollout.name in str(refused) or "a " in str(refused)
    simulation.run(horizon_s=40 * _DAY_S)
    rollout = simulation.rollout
    assert rollout.ended or rollout.state in (State.PAUSED, State.AWAITING_APPROVAL)
    assert rollout.state is not State.PAUSED or rollout.reason
    for name, host in simulation.hosts.items():
        if simulation.step(name) in (Step.REVERTED, Step.SKIPPED):
            assert (host.default, host.running) == (OLD, OLD)


def test_a_pause_admits_nobody_and_a_resume_goes_on() -> None:
    simulation = paused()
    simulation.run()
    assert simulation.step("a") is Step.DONE
    assert simulation.step("b") is Step.PENDING
    assert simulation.rollout.reason == "paused by test"
    simulation.ask(Verb.RESUME)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_a_held_wave_is_passed_only_with_a_remark_that_stays_on_record() -> None:
    simulation = held()
    with pytest.raises(Conflict, match="promote trial --skip"):
        simulation.ask(Verb.RESUME)
    with pytest.raises(InvalidInput, match="--remark"):
        simulation.ask(Verb.PROMOTE, skip=True)
    simulation.ask(Verb.PROMOTE, skip=True, remark="measured by hand", by="ada")
    assert simulation.rollout.passed
    assert [one.by for one in simulation.rollout.overridden] == ["ada"]
    simulation.run()
    assert simulation.step("b") is Step.DONE


def test_skip_needs_something_that_was_held() -> None:
    simulation = paused()
    with pytest.raises(Conflict, match="nothing to skip"):
        simulation.ask(Verb.PROMOTE, skip=True, remark="go")


def test_full_opens_all_waves_after_the_first_verdict_and_within_the_budget() -> None:
    simulation = running()
    with pytest.raises(Conflict, match="without a canary"):
        simulation.ask(Verb.PROMOTE, full=True, remark="hurry")
    simulation.run(until=lambda: simulation.rollout.wave == 1)
    simulation.ask(Verb.PROMOTE, full=True, remark="hurry")
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, simulation.world.tallies[UID].slots)
        return False

    simulation.run(until=look)
    assert simulation.rollout.state is State.PROMOTED
    assert most == 2
    assert [judged.wave for judged in simulation.rollout.judged] == [0, 2]


def test_full_and_skip_exclude_each_other() -> None:
    with pytest.raises(InvalidInput, match="not both"):
        held().ask(Verb.PROMOTE, full=True, skip=True, remark="go")


def test_two_persons_must_approve_and_the_same_one_counts_once() -> None:
    simulation = awaiting(2)
    simulation.ask(Verb.APPROVE, by="ada")
    with pytest.raises(Conflict, match="ada has approved"):
        simulation.ask(Verb.APPROVE, by="ada")
    simulation.run(horizon_s=1000.0)
    assert simulation.step("b") is Step.PENDING
    simulation.ask(Verb.APPROVE, by="grace")
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_nobody_approves_in_time() -> None:
    simulation = awaiting()
    simulation.run(horizon_s=8 * _DAY_S)
    assert simulation.rollout.state is State.PAUSED
    assert "0 of 1 approvals" in simulation.rollout.reason
    simulation.ask(Verb.RESUME)
    simulation.settle()
    assert simulation.rollout.state is State.AWAITING_APPROVAL


def test_a_retry_sends_the_host_on_a_new_round_under_new_command_ids() -> None:
    simulation = broken()
    before = set(simulation.hosts["a"].done)
    simulation.ask(Verb.RETRY)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    fresh = simulation.hosts["a"].done - before
    assert fresh
    assert all(command.startswith(f"{UID}/a/r2.") for command in fresh)


def test_a_resume_goes_on_without_the_host_that_failed() -> None:
    simulation = broken()
    simulation.ask(Verb.RESUME)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert (simulation.step("a"), simulation.step("b")) == (Step.SKIPPED, Step.DONE)
    assert simulation.hosts["a"].default == OLD


def test_a_wave_whose_rigs_all_failed_is_not_a_pass() -> None:
    simulation = Simulation([["a"], ["b"]], {"a": Faults(measurements=list(BROKEN_RIG))})
    simulation.run()
    simulation.ask(Verb.RESUME)
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert simulation.rollout.held_wave
    assert simulation.step("b") is Step.PENDING


@pytest.mark.parametrize(
    ("host", "why"), [("b", "has finished"), ("nobody", "not in rollout")], ids=["finished", "unknown"]
)
def test_a_retry_says_which_host_cannot_begin_again(host: str, why: str) -> None:
    simulation = broken()
    with pytest.raises((Conflict, NotFound), match=why):
        simulation.ask(Verb.RETRY, hosts=(host,))


def test_a_host_that_speaks_against_the_kernel_is_never_tried_again() -> None:
    simulation = Simulation(
        [["a", "b"]],
        {"a": Faults(trial_end=BootEnd.PANIC)},
        spec=SPEC + "  on_stratum_failure: hold\n",
        strata={"b": "x86_64/metal"},
    )
    simulation.run(until=lambda: simulation.step("a") is Step.REVERTED)
    with pytest.raises(Conflict, match="nothing is tried again"):
        simulation.ask(Verb.RETRY, hosts=("a",))


def test_hosts_whose_turn_has_not_come_can_be_left_out() -> None:
    simulation = running()
    with pytest.raises(Conflict, match="has begun"):
        simulation.ask(Verb.SKIP, hosts=("a",))
    simulation.ask(Verb.SKIP, hosts=("c", "d", "e"))
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert {simulation.step(name) for name in "cde"} == {Step.SKIPPED}
    assert all(simulation.hosts[name].boots == 1 for name in "cde")


def test_a_revert_is_bounded_unless_it_is_an_emergency() -> None:
    simulation = reverting()
    assert sum(simulation.step(name) is Step.REVERTING for name in "abcd") == 1
    with pytest.raises(Conflict, match="--emergency"):
        simulation.ask(Verb.REVERT)
    simulation.ask(Verb.REVERT, emergency=True)
    simulation.settle()
    assert sum(simulation.step(name) is Step.REVERTING for name in "abcd") == 4
    simulation.run()
    assert simulation.rollout.state is State.REVERTED


def test_a_bounded_revert_brings_everybody_back() -> None:
    simulation = reverting()
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, sum(simulation.step(name) is Step.REVERTING for name in "abcd"))
        return False

    simulation.run(until=look)
    assert most == 1
    assert simulation.rollout.state is State.REVERTED
    assert all(host.default == OLD for host in simulation.hosts.values())


def test_a_lost_host_does_not_stand_in_the_way_of_the_others() -> None:
    simulation = Simulation([["a", "b", "c"], ["d"]], {"a": Faults(never_returns=True)}, max_in_flight=1)
    simulation.run(until=lambda: simulation.rollout.wave == 1)
    simulation.ask(Verb.REVERT)
    simulation.run()
    assert simulation.rollout.state is State.REVERT_INCOMPLETE
    assert simulation.rollout.lost == ("a",)
    assert {simulation.step(name) for name in "bc"} == {Step.REVERTED}


def test_an_abort_leaves_finished_hosts_and_returns_those_that_bake() -> None:
    simulation = Simulation([["a"], ["b", "c", "d"]], max_in_flight=1)
    simulation.run(until=lambda: simulation.step("b") is Step.BAKE)
    simulation.ask(Verb.ABORT, remark="wrong kernel")
    simulation.run()
    assert simulation.rollout.state is State.ABORTED
    assert (simulation.step("a"), simulation.step("b")) == (Step.DONE, Step.REVERTED)
    assert simulation.hosts["a"].default == NEW


def test_who_resumed_is_on_record() -> None:
    simulation = paused()
    simulation.ask(Verb.RESUME, by="ada", remark="incident over")
    resumed = [event for _, event in simulation.log if isinstance(event, RolloutResumed)]
    assert [(one.by, one.remark) for one in resumed] == [("ada", "incident over")]


def test_a_host_whose_turn_had_come_when_the_rollout_was_paused_starts_when_it_goes_on() -> None:
    simulation = Simulation([["a"]])
    admitted = advance(simulation.world.snapshot(Key(UID)), simulation.now)
    for event in admitted.events:
        simulation.record(Key(UID), event)
    simulation.ask(Verb.PAUSE)
    simulation.settle()
    assert simulation.step("a") is Step.PENDING
    simulation.ask(Verb.RESUME)
    simulation.settle()
    assert simulation.step("a") is Step.BASELINE


def test_opening_all_waves_at_once_takes_the_approvals_of_the_strictest() -> None:
    waves = tuple(WavePolicy(max_duration_s=_DAY_S, approvals=persons) for persons in (0, 0, 2, 0))
    simulation = Simulation([["a"], ["b"], ["c"], ["d"]], wave_policies=waves)
    simulation.run(until=lambda: simulation.rollout.wave == 1)
    simulation.ask(Verb.PROMOTE, full=True, remark="hurry", by="ada")
    simulation.run(horizon_s=2000.0)
    assert simulation.rollout.state is State.AWAITING_APPROVAL
    assert {simulation.step(name) for name in "cd"} == {Step.PENDING}
    for person in ("ada", "grace"):
        simulation.ask(Verb.APPROVE, by=person)
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
