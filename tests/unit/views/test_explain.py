"""One sentence says why a rollout stands where it stands, and names host, signal and line."""

from dataclasses import replace

import pytest
from rollout_story import Story
from simulated_fleet import Faults

from controller.domain.delivery import BootEnd
from controller.domain.record.journey import Step
from controller.views.models import ExplanationView
from controller.views.rollouts.explain import explain
from controller.views.rollouts.waiting import blocking_reason


def explained(story: Story) -> ExplanationView:
    return explain(story.rollout, story.attempts, "trial")


def test_a_panic_is_one_sentence_with_host_signal_and_line() -> None:
    story = Story([["a"], ["b"]], {"a": Faults(trial_end=BootEnd.PANIC)})
    story.run()
    found = explained(story)
    assert found.sentence == (
        "trial was reverted because a, x86_64/vm, on 7.1.13-new: the kernel panicked: "
        "“Kernel panic - not syncing: simulated”; a is back on the old kernel."
    )
    assert "a console: Kernel panic - not syncing: simulated" in found.evidence
    assert "a: back on 7.0.13-old after 18 s; 2 boots heard." in found.evidence
    assert found.evidence[-1] == "Hosts: 1 reverted, 1 skipped."
    assert found.next_command == "kernroll hosts show a"


def test_a_hang_names_the_deadline() -> None:
    story = Story([["a"]], {"a": Faults(unanswered="hello")})
    story.run()
    assert "a, x86_64/vm, on 7.1.13-new: no healthy agent answered by the boot deadline" in explained(story).sentence


def test_a_lost_host_is_named_and_asked_for() -> None:
    story = Story([["a"]], {"a": Faults(trial_end=BootEnd.PANIC, never_returns=True)})
    story.run()
    found = explained(story)
    assert found.sentence.startswith("trial was reverted, but not completely because a, x86_64/vm")
    assert "the kernel panicked" in found.sentence
    assert found.sentence.endswith("not back: a.")
    assert "Not back: a." in found.evidence


def test_a_running_rollout_is_explained_by_what_it_waits_for() -> None:
    story = Story([["a"]])
    story.run(until=lambda: story.step("a") is Step.VERIFY)
    found = explained(story)
    assert found.sentence == "trial is running: a boots the kernel on trial."
    assert found.next_command == "kernroll rollout status trial --watch"


def test_a_promotion_points_to_the_report() -> None:
    story = Story([["a"]])
    story.run()
    found = explained(story)
    assert found.sentence.startswith("trial was promoted: every host lives")
    assert any("CONFIRMED" in line for line in found.evidence)
    assert found.next_command == "kernroll rollout report trial"


def test_a_broken_rig_is_not_held_against_the_kernel() -> None:
    story = Story([["a"], ["b"]], {"a": Faults(refused="stage")})
    story.run()
    found = explained(story)
    assert found.sentence == "trial is paused because a: stage was refused."
    assert "on 7.1.13-new" not in found.sentence


def test_an_operators_wish_is_told_as_such() -> None:
    story = Story([["a"]])
    story.run(until=lambda: story.step("a") is Step.BAKE)
    story.revert()
    assert explained(story).sentence.startswith("trial is being reverted: go back")
    story.run()
    assert explained(story).sentence == "trial was reverted: go back; a is back on the old kernel."


def test_a_refuted_claim_is_the_reason() -> None:
    story = Story([["a"]], {"a": Faults(new_cost=700.0)}, on_refuted="revert")
    story.run()
    assert explained(story).sentence.startswith("trial was reverted: x86_64/vm swap_mount.cost: saves 119.0")


def test_a_pause_says_how_it_ends() -> None:
    story = Story([["a"], ["b"]], {"a": Faults(refused="stage")})
    story.run()
    assert "`kernroll rollout abort trial` leaves finished hosts" in explained(story).evidence[-1]


@pytest.mark.parametrize("reason", ["reverted by ann", "reverted by ann: too slow"])
def test_an_operators_revert_is_not_told_twice(reason: str) -> None:
    story = Story([["a"]])
    story.run(until=lambda: story.step("a") is Step.BAKE)
    story.revert()
    story.run()
    rollout = replace(story.rollout, reason=reason)
    hosts = story.attempts
    assert explain(rollout, hosts, "trial").sentence == f"trial was {reason}; a is back on the old kernel."
    assert blocking_reason(rollout, tuple(hosts.values())) == reason


def test_a_sentence_that_goes_on_has_no_full_stop_in_it() -> None:
    story = Story([["a"]], {"a": Faults(new_cost=819.0)}, on_refuted="revert")
    story.run(until=lambda: story.rollout.state.value == "reverting")
    assert ".;" not in explained(story).sentence
    assert ".;" not in blocking_reason(story.rollout, tuple(story.attempts.values()))
    story.run()
    assert explained(story).sentence.endswith("REFUTED; a is back on the old kernel.")
