"""What operators see of a rollout follows from its state: steps, reasons, deadlines, waves, savings."""

from dataclasses import replace

import pytest
from rollout_story import Story
from simulated_fleet import SPEC
from simulated_host import NEW_RELEASE, OLD_RELEASE, Faults

from controller.domain.delivery import BootEnd
from controller.domain.record.control import Verb
from controller.domain.record.events import CommandState
from controller.domain.record.journey import Role, Step
from controller.views.models import LiveProgress, RolloutView
from controller.views.rollouts.changes import changes
from controller.views.rollouts.status import rollout_view


def view_of(story: Story, live: dict[str, LiveProgress] | None = None) -> RolloutView:
    return rollout_view(story.rollout, story.attempts, live or {}, story.now)


def at(step: Step, story: Story, host: str = "a") -> RolloutView:
    story.run(until=lambda: story.step(host) is step)
    return view_of(story)


def test_the_waiting_reason_names_the_hosts_that_are_furthest_behind() -> None:
    story = Story([["a", "b"], ["c"]])
    assert at(Step.BASELINE, story).blocking_reason == "a and b measure the old kernel"
    assert at(Step.VERIFY, story).blocking_reason == "a and b boot the kernel on trial"
    assert at(Step.PROBATION, story).blocking_reason == "a and b measure the kernel on trial"
    assert at(Step.BAKE, story).blocking_reason == "wave 1 of 2 bakes"


def test_a_host_that_waits_for_a_slot_is_told_only_when_nothing_else_is_under_way() -> None:
    story = Story([["a", "b"]], max_in_flight=1)
    assert view_of(story).blocking_reason == "wave 1 of 1 is about to begin"
    assert at(Step.STAGE, story).blocking_reason == "a receives the kernel"
    waiting = {"b": story.attempts["b"]}
    view = rollout_view(story.rollout, waiting, {}, story.now)
    assert view.blocking_reason == "b waits for a free slot of the 1 in flight"


def test_a_host_that_is_not_heard_is_the_reason() -> None:
    story = Story([["a"]], {"a": Faults(silent_in=Step.BAKE)})
    story.run(until=lambda: story.attempts["a"].step is Step.BAKE and story.attempts["a"].silent_since is not None)
    view = view_of(story)
    assert view.blocking_reason == "a is not heard"
    assert view.next_deadline_name == "a: it must be heard again"
    assert view.waves[0].hosts[0].detail == "not heard"


@pytest.mark.parametrize(
    ("step", "name", "left_s"),
    [
        (Step.BASELINE, "a: the baseline must be measured", 220.0),
        (Step.STAGE, "a: the kernel must have arrived", 30.0),
        (Step.VERIFY, "a: a healthy agent must answer", 80.0),
        (Step.PROBATION, "a: probation ends", 200.0),
        (Step.BAKE, "a: baking ends", 60.0),
    ],
)
def test_the_next_deadline_is_the_earliest_and_has_a_name(step: Step, name: str, left_s: float) -> None:
    story = Story([["a"]])
    view = at(step, story)
    assert view.next_deadline_name == name
    assert view.next_deadline == pytest.approx(story.now + left_s)
    assert view.waves[0].hosts[0].deadline == view.next_deadline


def test_waves_go_from_waiting_to_passed() -> None:
    story = Story([["a"], ["b"]])
    assert [wave.state for wave in view_of(story).waves] == ["waiting", "waiting"]
    assert [wave.state for wave in at(Step.STAGE, story).waves] == ["active", "waiting"]
    assert [wave.state for wave in at(Step.BAKE, story).waves] == ["baking", "waiting"]
    assert [wave.state for wave in at(Step.BASELINE, story, "b").waves] == ["passed", "active"]
    story.run()
    assert [wave.state for wave in view_of(story).waves] == ["passed", "passed"]


def test_progress_of_an_agent_is_shown_while_it_measures_and_not_longer() -> None:
    story = Story([["a"]])
    live = {"a": LiveProgress("run 2 of 3: swapon", 0.4)}
    at(Step.BASELINE, story)
    host = view_of(story, live).waves[0].hosts[0]
    assert (host.detail, host.fraction) == ("run 2 of 3: swapon", 0.4)
    at(Step.STAGE, story)
    host = view_of(story, live).waves[0].hosts[0]
    assert (host.detail, host.fraction) == ("", 0.0)


def test_baking_is_measured_in_time() -> None:
    story = Story([["a"]])
    at(Step.BAKE, story)
    half = rollout_view(story.rollout, story.attempts, {}, story.now + 30.0)
    assert half.waves[0].hosts[0].fraction == pytest.approx(0.5)


def test_a_measurement_that_died_is_told_as_another_try() -> None:
    story = Story([["a"]], {"a": Faults(measurements=[CommandState.DIED])})
    story.run(until=lambda: story.attempts["a"].tries == 1)
    assert view_of(story).waves[0].hosts[0].detail == "try 2"
    assert view_of(story, {"a": LiveProgress("swapon", 0.1)}).waves[0].hosts[0].detail == "try 2: swapon"


def test_a_finished_host_shows_its_saving_with_an_interval_and_its_boots() -> None:
    story = Story([["a"]])
    assert view_of(story).waves[0].hosts[0].saving is None
    story.run()
    view = view_of(story)
    host = view.waves[0].hosts[0]
    assert host.saving is not None
    assert host.saving.low < 252.0 < host.saving.high
    assert host.saving.estimate == pytest.approx(252.0)
    assert (host.saving_unit, host.boots, host.kernel_release) == ("MiB/TiB", 2, NEW_RELEASE)
    assert (view.state, view.terminal, view.next_deadline) == ("promoted", True, None)
    assert view.blocking_reason == "promoted: every host lives and 1 of 1 claims confirmed, in 1 stratum."
    assert [(verdict.metric, verdict.verdict, verdict.claim) for verdict in view.verdicts] == [
        ("survival", "PASS", ""),
        ("swap_mount.cost", "PASS", "confirmed"),
        ("swap_mount.swapoff_time", "INCONCLUSIVE", ""),
        ("swap_mount.swapon_time", "INCONCLUSIVE", ""),
    ]


def test_a_control_host_saves_nothing_and_says_what_it_is() -> None:
    story = Story([["a"]], role=Role.CONTROL)
    story.run(until=lambda: story.step("a") is Step.DONE)
    host = view_of(story).waves[0].hosts[0]
    assert (host.role, host.saving, host.kernel_release) == ("control", None, OLD_RELEASE)


def test_a_panic_is_told_with_its_console_line() -> None:
    story = Story([["a"], ["b"]], {"a": Faults(trial_end=BootEnd.PANIC)})
    story.run()
    view = view_of(story)
    line = "the kernel panicked: “Kernel panic - not syncing: simulated”"
    assert view.blocking_reason == f"reverted: a: {line}"
    assert view.waves[0].hosts[0].detail == line
    assert [wave.state for wave in view.waves] == ["failed", "waiting"]
    assert [host.step for wave in view.waves for host in wave.hosts] == ["reverted", "skipped"]


def test_a_lost_host_is_named_with_what_happened_to_it_before() -> None:
    story = Story([["a"]], {"a": Faults(trial_end=BootEnd.PANIC, never_returns=True)})
    story.run()
    view = view_of(story)
    assert view.state == "revert_incomplete"
    assert view.blocking_reason.endswith("; a did not come back")
    assert view.waves[0].hosts[0].detail.startswith("the kernel panicked, and it did not come back")


def test_a_refuted_claim_pauses_with_the_gates_sentence() -> None:
    story = Story([["a"]], {"a": Faults(new_cost=700.0)})
    story.run()
    view = view_of(story)
    assert view.state == "paused"
    assert view.blocking_reason.startswith("paused: x86_64/vm swap_mount.cost: saves 119.0")
    assert view.waves[0].state == "failed"


def test_the_revision_grows_with_every_change() -> None:
    story = Story([["a"]])
    revisions = [view_of(story).revision]
    for step in (Step.BASELINE, Step.STAGE, Step.REBOOT, Step.PROBATION, Step.BAKE):
        revisions.append(at(step, story).revision)
    assert revisions == sorted(set(revisions))


def test_a_rollout_whose_attempts_are_not_known_yet_is_pending() -> None:
    story = Story([["a"], ["b"]])
    view = rollout_view(story.rollout, {}, {}, story.now)
    assert [host.step for wave in view.waves for host in wave.hosts] == ["pending", "pending"]
    assert view.waves[0].hosts[0].step_since is None


def test_changes_tell_a_whole_rollout_once() -> None:
    story = Story([["a"]])
    seen: list[str] = []
    before: RolloutView | None = None
    for step in (Step.BASELINE, Step.STAGE, Step.VERIFY, Step.PROBATION, Step.BAKE, Step.DONE):
        after = at(step, story)
        seen += [f"{change.subject}: {change.text}" for change in changes(before, after)]
        assert list(changes(after, after)) == []
        before = after
    story.run()
    seen += [f"{change.subject}: {change.text}" for change in changes(before, view_of(story))]
    assert seen[0] == f"a: pending → baseline, {OLD_RELEASE}"
    assert f"a: verify → probation, {NEW_RELEASE}" in seen
    assert "a: saves 252.0 (246.2 … 257.8) MiB/TiB" in seen
    assert "wave 1: passed" in seen
    assert sum("promoted" in line for line in seen) == 1


def test_the_view_is_a_function_of_its_arguments() -> None:
    story = Story([["a"], ["b"]])
    story.run()
    assert view_of(story) == view_of(story)
    assert replace(view_of(story), name="other") != view_of(story)


TOLERANT = SPEC.replace("error_budget: {hosts: 0, share: 0 %}", "error_budget: {hosts: 1, share: 0 %}")
REFUSED = Faults(refused="stage")


def wave_states(story: Story) -> list[str]:
    return [wave.state for wave in view_of(story).waves]


def test_a_wave_with_a_rig_failure_that_is_tolerated_goes_on() -> None:
    story = Story([["a", "b"], ["c"]], {"a": REFUSED}, spec=TOLERANT, max_in_flight=1)
    story.run(until=lambda: story.attempts["a"].failure is not None)
    assert wave_states(story) == ["active", "waiting"]
    story.run(until=lambda: story.step("b") is Step.PROBATION)
    assert wave_states(story) == ["active", "waiting"]
    story.run(until=lambda: story.step("b") is Step.BAKE)
    assert wave_states(story) == ["baking", "waiting"]
    story.run()
    assert wave_states(story) == ["passed", "passed"]


def test_a_wave_with_more_rig_failures_than_are_tolerated_has_failed_until_somebody_goes_on() -> None:
    story = Story([["a", "b", "c"]], {"a": REFUSED, "b": REFUSED}, spec=TOLERANT, max_in_flight=1)
    story.run(until=lambda: story.rollout.state.value == "paused")
    assert wave_states(story) == ["failed"]
    story.ask(Verb.RESUME)
    assert wave_states(story) == ["active"]


def test_one_rig_failure_in_each_of_two_waves_is_one_too_many() -> None:
    story = Story([["a", "b"], ["c", "d"]], {"a": REFUSED, "c": REFUSED}, spec=TOLERANT)
    story.run(until=lambda: story.rollout.state.value == "paused")
    assert wave_states(story) == ["passed", "failed"]


def test_a_wave_goes_on_without_the_stratum_that_is_held() -> None:
    strata = {"a": "x86_64/metal", "b": "x86_64/vm"}
    held = SPEC + "  on_stratum_failure: hold\n"
    story = Story([["a", "b"]], {"a": Faults(trial_end=BootEnd.PANIC)}, spec=held, strata=strata, max_in_flight=1)
    story.run(until=lambda: bool(story.rollout.held) and story.step("b") is Step.PROBATION)
    assert wave_states(story) == ["active"]


def test_a_kernel_that_is_condemned_fails_its_wave_at_once() -> None:
    story = Story([["a", "b"]], {"a": Faults(trial_end=BootEnd.PANIC)}, spec=TOLERANT)
    story.run(until=lambda: story.attempts["a"].condemned)
    assert wave_states(story) == ["failed"]


def test_a_drill_that_failed_is_never_tolerated() -> None:
    story = Story([["a", "b"]], {"a": Faults(drill="stays")}, spec=TOLERANT, drilled=("a",))
    story.run(until=lambda: story.attempts["a"].failure is not None)
    assert wave_states(story) == ["failed"]
