"""Every row of the journey's table is reached by a rollout, and ends where an operator expects."""

from dataclasses import replace

import pytest
from designed_fleet import taken_by_sick_hosts
from power_cut import UNHEARD, PowerCut
from simulated_fleet import NEW, OLD, SPEC, UID, Faults, Simulation

from controller.domain.delivery import BootEnd
from controller.domain.record.control import Verb
from controller.domain.record.events import CommandState, FailureKind, HostHeard, HostSilent, TrialEnded
from controller.domain.record.fleet import FleetFrozen
from controller.domain.record.journey import TRANSITIONS, ImpossibleTransition, Role, Step, Trigger, next_step
from controller.domain.record.names import FLEET, Key
from controller.domain.state.rollout import State

HOLD = SPEC + "  on_stratum_failure: hold\n"
TWO_STRATA = {"a": "x86_64/metal", "b": "x86_64/vm"}
_BAD = (CommandState.DIED, CommandState.FAILED)


def one(faults: Faults | None = None, *, role: Role = Role.TREATED, run: bool = True) -> Simulation:
    """One host, one wave, run to its end."""
    simulation = Simulation([["a"]], {"a": faults or Faults()}, role=role)
    if run:
        simulation.run()
    return simulation


def at(step: Step, faults: Faults | None = None, role: Role = Role.TREATED) -> Simulation:
    """One host that has just entered a step."""
    simulation = one(faults, role=role, run=False)
    simulation.run(until=lambda: simulation.step("a") is step)
    assert simulation.step("a") is step
    return simulation


def test_a_good_kernel_is_promoted_wave_by_wave() -> None:
    simulation = Simulation([["a", "b"], ["c", "d", "e"]])
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED
    assert {simulation.step(name) for name in "abcde"} == {Step.DONE}
    assert all(host.default == NEW and host.boots == 2 for host in simulation.hosts.values())
    assert [judged.decision for judged in simulation.rollout.judged] == ["promote", "promote"]


def test_a_host_of_the_second_wave_waits_for_the_first() -> None:
    simulation = Simulation([["a"], ["b"]])
    simulation.run(until=lambda: simulation.step("a") is Step.BAKE)
    assert simulation.step("b") is Step.PENDING


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (BootEnd.PANIC, FailureKind.PANIC),
        (BootEnd.RESET, FailureKind.RESET),
        (BootEnd.NOT_ACKNOWLEDGED, FailureKind.HANG),
        (BootEnd.NOT_BLESSED, FailureKind.NOT_BLESSED),
    ],
)
def test_a_trial_that_ends_by_itself_reverts_the_rollout(end: BootEnd, kind: FailureKind) -> None:
    simulation = Simulation([["a"], ["b"]], {"a": Faults(trial_end=end)})
    simulation.run()
    attempt = simulation.world.attempts[UID]["a"]
    assert simulation.rollout.state is State.REVERTED
    assert simulation.rollout.cause_host == "a"
    assert attempt.failure is not None
    assert attempt.failure.kind is kind
    assert (attempt.step, simulation.step("b")) == (Step.REVERTED, Step.SKIPPED)
    assert simulation.hosts["b"].boots == 1


def test_the_console_line_is_kept() -> None:
    simulation = one(Faults(trial_end=BootEnd.PANIC))
    failure = simulation.world.attempts[UID]["a"].failure
    assert failure is not None
    assert failure.line == "Kernel panic - not syncing: simulated"
    assert "a: the kernel panicked" in simulation.rollout.reason


def test_a_finished_host_goes_back_when_a_later_one_fails() -> None:
    simulation = Simulation([["a"], ["b"]], {"b": Faults(trial_end=BootEnd.PANIC)})
    simulation.run()
    assert simulation.rollout.state is State.REVERTED
    assert simulation.hosts["a"].running == OLD
    assert (DONE_REVERT := (Step.DONE, Trigger.REVERT)) in simulation.taken, DONE_REVERT


def test_a_host_that_never_returns_makes_the_revert_incomplete() -> None:
    simulation = one(Faults(trial_end=BootEnd.PANIC, never_returns=True))
    assert simulation.rollout.state is State.REVERT_INCOMPLETE
    assert simulation.rollout.lost == ("a",)
    assert simulation.step("a") is Step.LOST


def test_a_refuted_claim_pauses_or_reverts_as_the_spec_says() -> None:
    unhelpful = {"a": Faults(new_cost=819.0)}
    paused = Simulation([["a"], ["b"]], unhelpful, on_refuted="pause")
    paused.run()
    assert paused.rollout.state is State.PAUSED
    assert paused.step("b") is Step.PENDING
    reverted = Simulation([["a"], ["b"]], unhelpful, on_refuted="revert")
    reverted.run()
    assert reverted.rollout.state is State.REVERTED


def test_runs_that_died_once_are_measured_again_and_twice_condemn() -> None:
    once = one(Faults(measurements=[CommandState.COMPLETED, CommandState.DIED]))
    assert (Step.PROBATION, Trigger.RETRY) in once.taken
    twice = one(Faults(measurements=[CommandState.COMPLETED, *_BAD[:1] * 2]))
    assert twice.rollout.state is State.REVERTED
    assert (Step.PROBATION, Trigger.FATAL) in twice.taken


def test_a_broken_rig_pauses_and_does_not_condemn() -> None:
    simulation = Simulation([["a"], ["b"]], {"a": Faults(measurements=[CommandState.INFRASTRUCTURE] * 2)})
    simulation.run()
    assert simulation.rollout.state is State.PAUSED
    assert "does not speak against the kernel" in simulation.rollout.reason
    assert simulation.hosts["a"].boots == 1


def test_a_rig_that_broke_is_given_time_before_it_is_tried_again() -> None:
    simulation = one(Faults(measurements=[CommandState.REFUSED]), run=False)
    simulation.run(until=lambda: simulation.world.attempts[UID]["a"].command is not None)
    refused_at = simulation.now
    simulation.run(until=lambda: simulation.world.attempts[UID]["a"].tries == 1)
    assert simulation.now == refused_at + 10.0
    simulation.run()
    assert simulation.rollout.state is State.PROMOTED


def test_the_budget_bounds_hosts_in_flight() -> None:
    simulation = Simulation([[f"h{n}" for n in range(7)]], max_in_flight=3)
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, simulation.world.tallies[UID].slots)
        return False

    simulation.run(until=look)
    assert simulation.rollout.state is State.PROMOTED
    assert most == 3


def test_an_abort_brings_hosts_in_flight_back_and_leaves_finished_ones() -> None:
    simulation = Simulation([["a"], ["b"]])
    simulation.run(until=lambda: simulation.step("b") is Step.PROBATION)
    simulation.abort()
    simulation.run()
    assert simulation.rollout.state is State.ABORTED
    assert (simulation.hosts["a"].running, simulation.hosts["b"].running) == (NEW, OLD)


def test_a_control_host_reboots_into_its_own_kernel() -> None:
    simulation = one(role=Role.CONTROL)
    assert simulation.step("a") is Step.DONE
    assert (simulation.hosts["a"].running, simulation.hosts["a"].boots) == (OLD, 2)


def test_a_crossover_host_boots_old_new_new_old_and_keeps_the_new_one() -> None:
    simulation = one(role=Role.CROSSOVER)
    attempt = simulation.world.attempts[UID]["a"]
    assert attempt.step is Step.DONE
    assert (simulation.hosts["a"].boots, simulation.hosts["a"].default) == (5, NEW)
    legs = [[run.values["swap_mount.cost"] > 700 for run in attempt.runs_of(leg)] for leg in range(5)]
    assert legs == [[True, True], [False, False], [False, False], [True, True], [False, False]]


def test_an_unlisted_pair_raises() -> None:
    with pytest.raises(ImpossibleTransition, match="baked is not possible in pending"):
        next_step(Step.PENDING, Trigger.BAKED)


# Faults that take a single host through the rows that good rollouts do not reach.
_SCENARIOS: dict[str, Faults] = {
    "good": Faults(),
    "rig broken once": Faults(measurements=[CommandState.INFRASTRUCTURE]),
    "rig broken for good": Faults(measurements=[CommandState.INFRASTRUCTURE] * 2),
    "baseline never ends": Faults(silent_in=Step.BASELINE),
    "stage refused": Faults(refused="stage"),
    "stage unanswered": Faults(unanswered="stage"),
    "strays": Faults(strays=True),
    "arm refused": Faults(refused="arm"),
    "arm unanswered": Faults(unanswered="arm"),
    "reboot refused": Faults(refused="reboot"),
    "reboot unanswered": Faults(unanswered="reboot"),
    "bless refused": Faults(refused="bless"),
    "bless unanswered": Faults(unanswered="bless"),
    "revert refused": Faults(refused="revert", measurements=[CommandState.COMPLETED, CommandState.FAILED]),
    "never measured": Faults(unanswered="old"),
    "never measured on trial": Faults(unanswered="new"),
    "never heard on trial": Faults(unanswered="hello"),
    "panics": Faults(trial_end=BootEnd.PANIC),
    "wrong kernel": Faults(ignores_new_kernel=True),
    "panics, returns late": Faults(trial_end=BootEnd.PANIC, returns_after_s=100.0),
    "panics, lost": Faults(trial_end=BootEnd.PANIC, never_returns=True),
    "fails on trial": Faults(measurements=[CommandState.COMPLETED, CommandState.FAILED]),
    "rig fails on trial": Faults(measurements=[CommandState.COMPLETED, *[CommandState.INFRASTRUCTURE] * 2]),
    **{f"silent in {step}": Faults(silent_in=step) for step in (Step.PROBATION, Step.BAKE)},
    **{
        f"fatal in {step}": Faults(fatal_in=step)
        for step in (Step.BASELINE, Step.ARM, Step.VERIFY, Step.PROBATION, Step.BAKE)
    },
    **{f"dies in {step}": Faults(dies_in=step) for step in (Step.PROBATION, Step.BAKE)},
    "silent while blessing": Faults(silent_in=Step.BLESS, unanswered="bless"),
    "fatal while blessing": Faults(fatal_in=Step.BLESS, unanswered="bless"),
    "dies while blessing": Faults(dies_in=Step.BLESS, unanswered="bless"),
    "dies while rebooting": Faults(dies_in=Step.REBOOT, unanswered="reboot"),
}
_REVERTED_IN = [step for step in Step if (step, Trigger.REVERT) in TRANSITIONS]


def _taken_by_scenarios() -> set[tuple[Step, Trigger]]:
    taken: set[tuple[Step, Trigger]] = set()
    for faults in _SCENARIOS.values():
        for role in Role:
            copy = Faults(**{**vars(faults), "measurements": list(faults.measurements)})
            taken |= one(copy, role=role).taken
    for faults in UNHEARD.values():
        cut = PowerCut(faults)
        cut.run()
        taken |= cut.taken
    several = Simulation([["a"]], spec=SPEC.replace("  claim:", "    stress_ng: {preset: small}\n  claim:"))
    several.run()
    return taken | several.taken


def taken_by_nodes() -> set[tuple[Step, Trigger]]:
    taken: set[tuple[Step, Trigger]] = set()
    for verb in ("drain", "uncordon"):
        for faults in (Faults(refused=verb), Faults(unanswered=verb)):
            simulation = Simulation([["a"]], {"a": faults}, nodes=("a",))
            simulation.run()
            taken |= simulation.taken
    frozen = Simulation([["a"]], {"a": Faults(unanswered="drain")}, nodes=("a",))
    frozen.run(until=lambda: frozen.step("a") is Step.DRAIN)
    frozen.record(FLEET, FleetFrozen(at=frozen.now, by="ada"))
    frozen.run(until=lambda: frozen.step("a") is Step.HELD)
    return taken | frozen.taken


def _taken_by_operators() -> set[tuple[Step, Trigger]]:
    taken: set[tuple[Step, Trigger]] = set()
    for step in _REVERTED_IN:
        if step in (Step.LOST, Step.REMEASURE):
            # Reached by asking twice, and by hosts far outside the others: below.
            continue
        simulation = Simulation([["a"], ["b"]], drilled=("a",) if step is Step.DRILL else ())
        # Drain and uncordon pass at once on hosts outside a cluster: stop between two decisions to stand in them.
        reached = stop_in(simulation, step)
        assert reached, step
        simulation.revert()
        simulation.run()
        assert simulation.rollout.state is State.REVERTED, step
        assert simulation.hosts["a"].running == OLD
        taken |= simulation.taken
    return taken


def stop_in(simulation: Simulation, step: Step) -> bool:
    """Run decision by decision until host "a" stands in the step."""
    settle = simulation.settle

    class Reached(Exception):
        pass

    def record(key: object, event: object, *, inner: object = simulation.record) -> None:
        inner(key, event)  # type: ignore[operator]  # the bound method
        if simulation.step("a") is step:
            raise Reached

    simulation.record = record  # type: ignore[assignment,method-assign]  # looks over the shoulder
    try:
        simulation.run()
    except Reached:
        del simulation.record  # type: ignore[attr-defined]  # uncovers the method again
        assert simulation.settle == settle
        return True
    return False


def _taken_by_messages() -> set[tuple[Step, Trigger]]:
    """Rows that need a message at an awkward moment."""
    taken: set[tuple[Step, Trigger]] = set()
    for faults in (Faults(silent_in=Step.DONE), Faults(dies_in=Step.DONE), Faults(fatal_in=Step.DONE)):
        simulation = Simulation([["a"], ["b"]], {"a": faults})
        simulation.run()
        taken |= simulation.taken
    for end in (None, BootEnd.RESET):
        simulation = Simulation([["a"], ["b"]])
        assert stop_in(simulation, Step.UNCORDON)
        command, moment = simulation.hosts["a"].trial_command, simulation.now
        message = TrialEnded(at=moment, command_id=command, end=end, line="") if end else HostSilent(at=moment - 3600)
        simulation.record(Key(UID, "a"), message)
        simulation.run()
        taken |= simulation.taken
    # The other stratum goes on while a host is lost.
    lost = Simulation(
        [["a", "b"], ["c"]], {"a": Faults(trial_end=BootEnd.PANIC, never_returns=True)}, spec=HOLD, strata=TWO_STRATA
    )
    lost.run(until=lambda: lost.step("a") is Step.LOST)
    heard = HostHeard(at=lost.now, boot_id="late", release="7.0.13-old")
    lost.tell(1.0, "a", lambda: heard)
    lost.run()
    taken |= lost.taken
    arm = at(Step.ARM, role=Role.CROSSOVER)
    arm.run(until=lambda: arm.world.attempts[UID]["a"].leg == 2 and arm.step("a") is Step.ARM)
    command = arm.hosts["a"].trial_command
    arm.tell(0.0, "a", lambda: TrialEnded(at=arm.now, command_id=command, end=BootEnd.RESET, line=""))
    arm.run()
    taken |= arm.taken
    for faults in (Faults(), Faults(drill="refused")):
        drilled = Simulation([["a"]], {"a": faults}, drilled=("a",))
        drilled.run()
        taken |= drilled.taken
    for measurements in (
        [CommandState.INFRASTRUCTURE] * 2,
        [CommandState.COMPLETED, *[CommandState.INFRASTRUCTURE] * 2],
    ):
        again = one(Faults(measurements=measurements))
        assert again.rollout.state is State.PAUSED
        again.ask(Verb.RETRY)
        again.run()
        assert again.rollout.state is State.PROMOTED
        taken |= again.taken
    return taken


def test_a_host_that_answers_under_the_wrong_kernel_is_disarmed() -> None:
    simulation = one(Faults(ignores_new_kernel=True))
    assert (Step.VERIFY, Trigger.FATAL) in simulation.taken
    assert any("reverting" in command for command in simulation.hosts["a"].done)


def test_a_host_whose_revert_was_refused_is_lost_although_it_runs_its_old_kernel() -> None:
    """It may still have the other kernel armed."""
    simulation = one(Faults(refused="revert", fatal_in=Step.ARM))
    assert simulation.step("a") is Step.LOST
    assert simulation.hosts["a"].armed == NEW


def test_a_finished_host_that_is_silent_holds_the_verdict() -> None:
    simulation = Simulation([["a"]], {"a": Faults(silent_in=Step.BAKE)})
    simulation.world.rollouts[UID] = replace(
        simulation.rollout, policy=replace(simulation.rollout.policy, bake_s=(5.0,), silence_timeout_s=60.0)
    )
    simulation.run()
    assert simulation.rollout.state is State.REVERTED


def test_tries_share_the_deadline_that_the_host_itself_has() -> None:
    simulation = one(Faults(measurements=[CommandState.COMPLETED, CommandState.INFRASTRUCTURE]), run=False)
    deadlines: set[float | None] = set()

    def look() -> bool:
        if simulation.step("a") is Step.PROBATION:
            deadlines.add(simulation.world.attempts[UID]["a"].deadline)
        return False

    simulation.run(until=look)
    assert (Step.PROBATION, Trigger.RETRY) in simulation.taken
    assert len(deadlines) == 1


def test_a_control_host_that_fails_speaks_against_nobody() -> None:
    simulation = one(Faults(measurements=[CommandState.COMPLETED, CommandState.FAILED]), role=Role.CONTROL)
    assert simulation.rollout.state is State.PAUSED
    panicked = one(Faults(dies_in=Step.PROBATION), role=Role.CONTROL)
    assert panicked.rollout.state is State.PAUSED
    assert "(on the old kernel)" in panicked.rollout.reason


def lost_and_asked_again() -> Simulation:
    """A host that did not come back, and an operator who asks for the revert once more when it can be reached."""
    simulation = one(Faults(unanswered="revert", measurements=[CommandState.COMPLETED, CommandState.FAILED]))
    assert simulation.rollout.state is State.REVERT_INCOMPLETE
    simulation.hosts["a"].faults.unanswered = ""
    simulation.now += 3600.0
    simulation.revert()
    simulation.run()
    return simulation


def test_a_second_revert_tries_lost_hosts_again() -> None:
    simulation = lost_and_asked_again()
    assert simulation.rollout.state is State.REVERTED
    assert simulation.hosts["a"].running == OLD


def test_every_row_of_the_table_is_reached() -> None:
    taken = _taken_by_scenarios() | _taken_by_operators() | _taken_by_messages() | lost_and_asked_again().taken
    taken |= taken_by_sick_hosts() | taken_by_nodes()
    missing = {pair for pair in TRANSITIONS if pair not in taken}
    assert not missing, sorted(missing)
