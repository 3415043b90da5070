"""A rollout's log judged again: the same to the last byte, and what other claims would have made of it."""

from collections import Counter
from collections.abc import Mapping

import pytest
from engine_parts import Parts
from rollout_story import Story
from simulated_fleet import Faults

from controller.adapters.rpc.messages import from_message, to_message
from controller.adapters.store.codec import decode_event, encode
from controller.domain.delivery import BootEnd
from controller.domain.errors import InvalidInput, NotFound
from controller.domain.record.verdicts import WaveJudged
from controller.services.operating.replay import replay
from controller.services.records import Commit, Logged
from controller.views.gate.forest import forest_of_replay
from controller.views.gate.replay import ReplayView
from protos.kernroll.v1 import operator_pb2

WAVES = [["a"], ["b", "c"]]
METRIC = "swap_mount.cost"


def story(waves: list[list[str]] = WAVES, faults: dict[str, Faults] | None = None) -> Story:
    made = Story(waves, faults)
    made.run()
    return made


def log(of: Story) -> list[Logged]:
    """Return the log as a store gives it back: through its JSON."""
    return [
        Logged(number=number, stream=stream, revision=0, event=decode_event(type(event).__name__, encode(event)))
        for number, (stream, event) in enumerate(of.events, start=1)
    ]


def replayed(of: Story, claims: Mapping[str, float] | None = None) -> ReplayView:
    return replay(of.rollout, log(of), claims or {}, {})


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"b": Faults(trial_end=BootEnd.PANIC)},
        {"a": Faults(trial_end=BootEnd.PANIC)},
        {"c": Faults(new_cost=800.0)},
    ],
)
def test_a_replay_of_the_same_plan_is_the_record_to_the_last_byte(faults: dict[str, Faults]) -> None:
    told = story(faults=faults)
    recorded = [event for _, event in told.events if isinstance(event, WaveJudged)]
    view = replayed(told)
    assert len(view.waves) == len(recorded)
    for wave, judged in zip(view.waves, recorded, strict=True):
        assert wave.same
        assert (wave.decision, wave.sentence) == (judged.decision, judged.sentence)
        assert [one.sentence for one in wave.verdicts] == [one.sentence for one in judged.cells]
    assert view.changes == ()


def test_a_higher_claim_would_have_held_the_first_wave() -> None:
    view = replayed(story(), {METRIC: 300.0})
    assert view.changes == ("swap_mount.cost: claim ≥ 300 MiB/TiB instead of ≥ 230.4",)
    assert [wave.recorded_decision for wave in view.waves] == ["promote", "promote"]
    assert view.waves[0].decision != "promote"
    assert not view.waves[0].same
    assert "At wave 1 the gate would say" in view.sentence
    assert "would not have happened" in view.sentence
    assert next(one for one in view.waves[0].verdicts if one.metric == METRIC).claim == "refuted"


def test_a_lower_claim_changes_words_but_no_decision() -> None:
    view = replayed(story(), {METRIC: 200.0})
    assert not any(wave.same for wave in view.waves)
    assert view.sentence == (
        "2 judgements replayed under these changes: every decision stays, with other numbers or words."
    )


def test_what_is_not_claimed_cannot_be_changed() -> None:
    told = story()
    with pytest.raises(InvalidInput, match=r"--claim: trial claims nothing of swap_mount\.price; it claims swap_mount"):
        replayed(told, {"swap_mount.price": 1.0})
    with pytest.raises(InvalidInput, match="must be a finite number"):
        replayed(told, {METRIC: float("nan")})


def test_a_rollout_without_a_judgement_has_nothing_to_replay() -> None:
    told = Story(WAVES)
    told.run(until=lambda: True)
    view = replayed(told)
    assert view.waves == ()
    assert view.sentence == "No wave of trial has been judged yet."


def test_a_replay_changes_nothing() -> None:
    told = story()
    before = [encode(event) for _, event in told.events]
    rollout, attempts = told.rollout, dict(told.attempts)
    replayed(told, {METRIC: 300.0})
    assert [encode(event) for _, event in told.events] == before
    assert (told.rollout, dict(told.attempts)) == (rollout, attempts)


def test_a_replay_survives_the_way_over_the_wire_and_can_be_drawn() -> None:
    view = replayed(story(), {METRIC: 300.0})
    sent = to_message(view, operator_pb2.Replay).SerializeToString()
    assert from_message(operator_pb2.Replay.FromString(sent), ReplayView) == view
    forest = forest_of_replay(view)
    assert forest.title == "trial, replayed"
    assert [row.claim for panel in forest.panels for row in panel.rows if row.metric == METRIC] == ["refuted"]


async def test_a_restarted_controller_replays_what_its_store_holds() -> None:
    told = story()
    parts = Parts()
    await parts.store.open()
    revisions: Counter[str] = Counter()
    for stream, event in told.events:
        assert await parts.store.commit(Commit(stream=stream, expected_revision=revisions[stream], events=(event,)))
        revisions[stream] += 1
    later = await Parts(parts.disk).start()
    view = await later.operations.replay("trial", {}, {})
    assert [wave.same for wave in view.waves] == [True, True]
    with pytest.raises(NotFound):
        await later.operations.replay("another", {}, {})


def test_another_margin_is_told_and_one_that_is_none_refused() -> None:
    told = story()
    view = replay(told.rollout, log(told), {}, {"swap_mount.swapoff_time": 0.005})
    assert view.changes == ("swap_mount.swapoff_time: margin 0.5 % instead of 10 %",)
    cell = next(one for one in view.waves[-1].verdicts if one.metric == "swap_mount.swapoff_time")
    assert "margin 0.5 %" in cell.sentence
    assert [wave.decision for wave in view.waves] == ["promote", "promote"]
    with pytest.raises(InvalidInput, match="trial has no margin for cost; there are swap_mount"):
        replay(told.rollout, log(told), {}, {"cost": 0.1})
    with pytest.raises(InvalidInput, match="at most 100 %"):
        replay(told.rollout, log(told), {}, {"swap_mount.swapoff_time": 1.5})
