"""A rollout's log as operators read it."""

from rollout_story import Story

from controller.domain.record.actions.work import WorkKind, WorkLine, WorkTold
from controller.views.models import LiveProgress
from controller.views.report.log import rollout_log


def line(at: float, kind: WorkKind, what: str = "stage", seconds: float = 0.0, sentence: str = "") -> WorkLine:
    return WorkLine(at=at, kind=kind, what=what, seconds=seconds, sentence=sentence)


def test_work_stands_between_what_was_decided_and_what_is_under_way_stands_last() -> None:
    story = Story([["a", "b"]])
    rollout = story.rollout
    at = rollout.planned_at
    told = WorkTold(
        at=at + 9,
        command_id=f"{rollout.uid}/a/0.stage.0",
        way="ssh",
        lines=(
            line(at + 1, WorkKind.WAITS, sentence="waits for 3 other plays"),
            line(at + 2, WorkKind.BEGAN),
            line(at + 4, WorkKind.CHANGED, "Copy the packages", 2.0),
            line(at + 5, WorkKind.FAILED, "kernroll-boot", 1.0, "its disk is full"),
            line(at + 6, WorkKind.ENDED, seconds=4.0, sentence="a: its disk is full"),
        ),
    )
    asked = WorkTold(
        at=at + 8, command_id=f"{rollout.uid}/b/0.arm.0", way="agent", lines=(line(at + 3, WorkKind.BEGAN, "arm"),)
    )
    events = [*story.events, (f"attempt/{rollout.uid}/a", told), (f"attempt/{rollout.uid}/b", asked)]
    working = {"b": LiveProgress(step="through its agent: arm", fraction=0.0, delivers=True)}
    found = rollout_log(rollout, events, working, at + 9)
    work = [(one.offset_s, one.host, one.text) for one in found.lines if "by ssh" in one.text or "  " in one.text[:2]]
    assert work == [
        (1.0, "a", "by ssh, stage: waits for 3 other plays"),
        (2.0, "a", "by ssh, stage begins"),
        (4.0, "a", "  Copy the packages: changed (2 s)"),
        (5.0, "a", "  kernroll-boot: failed (1 s): its disk is full"),
        (6.0, "a", "by ssh, stage ends (4 s): a: its disk is full"),
    ]
    assert [one.at for one in found.lines] == sorted(one.at for one in found.lines)
    assert "started by" in " ".join(one.text for one in found.lines)
    assert [(one.host, one.text) for one in found.under_way] == [("b", "through its agent: arm")]
    of_b = rollout_log(rollout, events, working, at + 9, host="b")
    assert [one.host for one in of_b.lines] == ["b"]
    newest = rollout_log(rollout, events, working, at + 9, most=1)
    assert (newest.lines, newest.left_out) == (found.lines[-1:], len(found.lines) - 1)
    assert rollout_log(rollout, events, working, at + 9, host="a").under_way == ()
