"""What is done on hosts is in the log while it is done: gathered, bounded, and without secrets."""

from collections.abc import AsyncIterator

import pytest
from engine_parts import UID, Parts, reached, walked

from controller.domain import bounds
from controller.domain.record.actions.work import WorkKind, WorkLine, WorkTold
from controller.domain.record.journey import Step
from controller.services.engine.working import HostWork, WorkJournal


class Working:
    """A host in a step, and the journal that hears of its work; `gather_s` and `look_s` are those of a test."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.journal = WorkJournal(parts.engine, parts.clock, gather_s=0.0, look_s=0.001)

    def work(self, way: str = "ssh") -> HostWork:
        return self.journal.work("a", self.parts.attempt().command_id, way)

    def told(self) -> list[WorkTold]:
        return [logged.event for logged in self.parts.disk.log if isinstance(logged.event, WorkTold)]

    def lines(self) -> list[WorkLine]:
        return [line for event in self.told() for line in event.lines]


@pytest.fixture
async def at() -> AsyncIterator[Working]:
    working = Working(await walked(Step.STAGE))
    yield working
    await working.journal.close()
    await working.parts.engine.close()


async def test_what_is_under_way_is_seen_and_what_was_done_is_kept(at: Working) -> None:
    work = at.work()
    work.tell(WorkKind.BEGAN, "stage")
    await reached(lambda: "a" in at.journal.live)
    work.tell(WorkKind.RUNNING, "Copy the packages")
    at.parts.clock.at += 14.0
    await reached(lambda: at.journal.live["a"].step == "by ssh: Copy the packages, for 14 s")
    work.tell(WorkKind.CHANGED, "Copy the packages", seconds=14.04)
    work.tell(WorkKind.ENDED, "stage", seconds=20.0, sentence="done")
    await reached(lambda: not at.journal._tasks)
    assert at.journal.live == {}
    assert [(line.kind, line.what, line.seconds) for line in at.lines()] == [
        (WorkKind.BEGAN, "stage", 0.0),
        (WorkKind.RUNNING, "Copy the packages", 14.0),
        (WorkKind.CHANGED, "Copy the packages", 14.0),
        (WorkKind.ENDED, "stage", 20.0),
    ]
    assert {event.way for event in at.told()} == {"ssh"}
    # Nothing is decided by it.
    assert at.parts.attempt().step is Step.STAGE


async def test_a_task_that_takes_long_is_told_of_ever_more_rarely(at: Working) -> None:
    work = at.work()
    work.tell(WorkKind.BEGAN, "stage")
    work.tell(WorkKind.RUNNING, "kernroll-boot")
    for _ in range(48):
        at.parts.clock.at += 10.0
        work.look()
    work.tell(WorkKind.ENDED, "stage")
    await reached(lambda: not at.journal._tasks)
    still = [line.seconds for line in at.lines() if line.kind is WorkKind.RUNNING]
    assert still == [10.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 420.0, 480.0]


async def test_no_playbook_floods_the_log(at: Working) -> None:
    work = at.work()
    work.tell(WorkKind.BEGAN, "stage")
    for number in range(1000):
        work.tell(WorkKind.CHANGED, f"task {number}", sentence="x" * 10_000)
    work.tell(WorkKind.ENDED, "stage", sentence="done")
    await reached(lambda: not at.journal._tasks)
    lines = at.lines()
    assert len(lines) == bounds.WORK_LINES + 1
    assert lines[-1].sentence == f"done; {1001 - bounds.WORK_LINES} more lines are left out"
    assert max(len(line.sentence) for line in lines) == bounds.WORK_CHARACTERS
    # All that came at one moment is one event.
    assert len(at.told()) <= 2


async def test_what_is_tried_in_vain_again_and_again_is_told_once(at: Working) -> None:
    for number in range(50):
        work = at.work()
        work.tell(WorkKind.BEGAN, "stage")
        work.tell(WorkKind.FAILED, "Pin the running kernel", sentence="cannot be reached")
        work.tell(WorkKind.ENDED, "stage", sentence="cannot be reached" if number < 49 else "done")
        await reached(lambda: not at.journal._tasks)
    assert [(line.kind, line.sentence) for line in at.lines()] == [
        (WorkKind.BEGAN, ""),
        (WorkKind.FAILED, "cannot be reached"),
        (WorkKind.ENDED, "cannot be reached"),
        (WorkKind.ENDED, "done"),
    ]


async def test_secrets_are_in_no_line(at: Working) -> None:
    work = at.work()
    work.tell(WorkKind.BEGAN, "stage")
    said = "token kr1.canary-canary, ansible_become_password=canary2, -----BEGIN RSA PRIVATE KEY-----\ncanary3"
    work.tell(WorkKind.FAILED, "Copy kr1.canary-canary", sentence=said)
    work.tell(WorkKind.ENDED, "stage", sentence=said)
    await reached(lambda: not at.journal._tasks)
    told = repr(at.told())
    assert "hidden" in told
    assert "canary" not in told


async def test_the_deadline_stands_still_while_others_come_first(at: Working) -> None:
    before = at.parts.attempt().deadline
    assert before is not None
    left_s = before - at.parts.clock.at
    work = at.work()
    work.tell(WorkKind.WAITS, "stage", sentence="waits for 9 other plays")
    await reached(lambda: at.parts.attempt().deadline is None)
    at.parts.clock.at += 100_000.0
    await at.parts.engine.settle()
    assert at.parts.attempt().step is Step.STAGE
    work.tell(WorkKind.WAITS, "stage", sentence="waits for 2 other plays")
    await reached(lambda: at.journal.live["a"].step == "waits for 2 other plays")
    work.tell(WorkKind.BEGAN, "stage")
    await reached(lambda: at.parts.attempt().deadline == at.parts.clock.at + left_s)
    work.tell(WorkKind.ENDED, "stage")
    await reached(lambda: not at.journal._tasks)
    # How many come first is told once, however often it changes.
    assert [line.kind for line in at.lines()] == [WorkKind.WAITS, WorkKind.BEGAN, WorkKind.ENDED]


async def test_who_waited_when_the_controller_died_has_a_deadline_again(at: Working) -> None:
    work = at.work()
    work.tell(WorkKind.WAITS, "stage", sentence="waits for 9 other plays")
    await reached(lambda: at.parts.attempt().deadline is None)
    again = await Parts(at.parts.disk, at.parts.clock).start()
    journal = WorkJournal(again.engine, again.clock, gather_s=0.0, look_s=0.001)
    policy = again.engine.world.rollouts[UID].policy
    assert again.attempt().deadline is None
    journal.work("a", again.attempt().command_id, "ssh").tell(WorkKind.BEGAN, "stage")
    await reached(lambda: again.attempt().deadline == again.clock.at + policy.stage_timeout_s)
    await journal.close()
    await again.engine.close()


async def test_work_for_another_step_moves_no_deadline(at: Working) -> None:
    before = at.parts.attempt().deadline
    work = at.journal.work("a", f"{UID}/a/0.arm.7", "ssh")
    work.tell(WorkKind.WAITS, "arm", sentence="waits for 1 other play")
    work.tell(WorkKind.BEGAN, "arm")
    work.tell(WorkKind.ENDED, "arm")
    await reached(lambda: not at.journal._tasks)
    assert at.parts.attempt().deadline == before


async def test_what_is_of_no_rollout_is_not_kept(at: Working) -> None:
    for command in ("", "another/a/0.stage.0", f"{UID}/b/0.stage.0"):
        work = at.journal.work("a", command, "ssh")
        work.tell(WorkKind.BEGAN, "stage")
        work.tell(WorkKind.ENDED, "stage")
    await at.journal.close()
    assert at.told() == []
