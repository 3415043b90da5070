"""The engine's promises about memory and store: never apart, nothing impossible recorded, nothing lost on failure."""

import asyncio
from dataclasses import replace

import pytest
from engine_parts import DEADLINE_S, STARTED, TEXT, UID, Parts, host, key, planned, reached, walked

from controller.domain.caller import Caller
from controller.domain.deciding.verbs import Request
from controller.domain.errors import Conflict, Temporary
from controller.domain.record.control import Verb
from controller.domain.record.events import AbortStarted, HostHeard, HostSilent, RevertStarted
from controller.domain.record.journey import Step
from controller.domain.record.names import Key
from controller.domain.state.rollout import State
from controller.domain.state.snapshot import Decision, Snapshot
from controller.services.engine import engine as loop
from controller.services.records import Commit
from controller.services.state.world import folded


async def started(*names: str, uid: str = UID) -> Parts:
    parts = await Parts().start()
    for name in names or ("a",):
        await parts.connect(name)
    await parts.engine.record(Key(uid), lambda: (planned(names or ("a",), uid=uid), STARTED))
    return parts


def replayed(parts: Parts) -> bool:
    """Whether the log says what memory says."""
    again = folded(((one.stream, one.event) for one in parts.disk.log), {})
    world = parts.engine.world
    return (again.rollouts, again.attempts, again.tallies, again.active) == (
        world.rollouts,
        world.attempts,
        world.tallies,
        world.active,
    )


async def test_a_caller_that_is_cancelled_half_way_does_not_part_memory_from_store() -> None:
    parts = await started()
    written, commit, go_on = asyncio.Event(), parts.store.commit, asyncio.Event()

    async def slow(one: Commit) -> bool:
        answer = await commit(one)
        written.set()
        await go_on.wait()
        return answer

    parts.store.commit = slow  # type: ignore[method-assign]  # as slow as a disk
    observing = asyncio.create_task(parts.engine.observe(key(), HostSilent(at=1.0)))
    await written.wait()
    observing.cancel()
    await asyncio.gather(observing, return_exceptions=True)
    go_on.set()
    await parts.engine.close()
    assert parts.attempt().silent_since == 1.0
    assert replayed(parts)
    assert await parts.engine.observe(key(), HostHeard(at=2.0, boot_id="b", release="7"))


async def test_what_is_impossible_is_refused_before_it_is_in_the_log_for_ever() -> None:
    parts = await started()
    await parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me")))
    await parts.engine.settle()
    assert parts.engine.world.rollouts[UID].state is State.ABORTED
    before = list(parts.disk.log)
    with pytest.raises(AssertionError, match="aborted cannot become aborting"):
        await parts.engine.record(Key(UID), lambda: (AbortStarted(at=1.0, reason="", by=""),))
    assert parts.disk.log == before
    assert replayed(await Parts(parts.disk, parts.clock).start())


async def test_an_operator_who_comes_too_late_is_told() -> None:
    parts = await started()
    first = asyncio.create_task(parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me"))))
    second = asyncio.create_task(parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("you"))))
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    assert not isinstance(one, BaseException)
    assert isinstance(other, Conflict)
    assert "cannot be aborted" in str(other)


@pytest.mark.parametrize("name", ["trial", "another"])
async def test_of_two_starts_at_once_one_wins(name: str) -> None:
    parts = await Parts().start()
    await parts.connect("a")
    parts.kernels.may.clear()
    texts = (TEXT, TEXT.replace("name: trial", f"name: {name}"))
    starts = [asyncio.create_task(parts.operations.start(text, "f", Caller("me"))) for text in texts]
    await asyncio.sleep(0)
    parts.kernels.may.set()
    first, second = await asyncio.gather(*starts, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert isinstance(second, Conflict)
    assert len(parts.engine.world.rollouts) == 1
    assert replayed(parts)


async def test_a_full_disk_is_waited_out() -> None:
    parts = await started()
    parts.disk.failure = Temporary("the disk is full", retry_after_s=0.0)
    running = asyncio.create_task(parts.engine.run())
    for _ in range(50):
        await asyncio.sleep(0)
    assert not running.done()
    assert parts.attempt().step is Step.PENDING
    parts.disk.failure = None
    await reached(lambda: parts.attempt().step is Step.BASELINE)
    assert replayed(parts)
    running.cancel()


async def test_a_controller_that_was_replaced_ends_wherever_it_notices() -> None:
    parts = await started()
    await parts.engine.settle()
    running = asyncio.create_task(parts.engine.run())
    await Parts(parts.disk).store.open()
    with pytest.raises(Conflict, match="taken over"):
        await parts.engine.observe(key(), HostSilent(at=1.0))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Conflict, match="taken over"):
            await running


async def test_a_bug_of_ours_pauses_its_rollout_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = await started("a")
    await parts.connect("b")
    await parts.engine.record(Key("u2"), lambda: (planned(("b",), uid="u2", name="other"), STARTED))
    advance = loop.advance

    def faulty(snapshot: Snapshot, now: float) -> Decision:
        if snapshot.rollout.uid == UID:
            raise ZeroDivisionError("division by zero")
        return advance(snapshot, now)

    monkeypatch.setattr(loop, "advance", faulty)
    await parts.engine.settle()
    rollout = parts.engine.world.rollouts[UID]
    assert rollout.state is State.PAUSED
    assert "internal error while deciding about the rollout: ZeroDivisionError" in rollout.reason
    assert parts.attempt("b", "u2").step is Step.BASELINE


async def test_time_that_goes_back_does_not_lose_a_deadline() -> None:
    parts = await started()
    await parts.engine.settle()
    deadline = parts.attempt().deadline
    assert deadline is not None
    parts.clock.at = deadline
    parts.engine.world.mark_due(parts.engine._now())
    parts.clock.at = deadline - 3600.0
    await parts.engine.settle()
    assert parts.attempt().step is Step.SKIPPED


async def test_a_revert_waits_for_the_rollout_that_holds_a_host() -> None:
    parts = await started()
    await parts.engine.settle()
    await parts.operations.control("trial", Request(verb=Verb.ABORT, by=Caller("me")))
    await parts.engine.settle()
    await parts.engine.record(Key("u2"), lambda: (planned(uid="u2", name="other"), STARTED))
    with pytest.raises(Conflict, match="a is held by rollout other"):
        await parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("me")))


async def test_a_revert_does_not_jump_over_a_later_rollout() -> None:
    parts = await walked(Step.DONE)
    world = parts.engine.world
    await parts.engine.record(Key("u2"), lambda: (planned(uid="u2", name="later"), STARTED))
    await parts.operations.control("later", Request(verb=Verb.ABORT, by=Caller("me")))
    await parts.engine.settle()
    world.attempts["u2"]["a"] = replace(parts.attempt(uid="u2"), step=Step.DONE)
    with pytest.raises(Conflict, match="a was moved on to another kernel by rollout later: revert that one first"):
        await parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("me")))
    world.attempts["u2"]["a"] = replace(parts.attempt(uid="u2"), step=Step.REVERTED)
    assert (await parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("me")))).state == "reverting"


async def test_a_reopened_rollout_learns_its_hosts_present_boots_first() -> None:
    parts = await walked(Step.DONE)
    assert parts.engine.world.rollouts[UID].state is State.PROMOTED
    await parts.connect("a", boot="7", release="7.1.13-new")
    assert parts.attempt().boot_id == "a-boot-2"
    await parts.operations.control("trial", Request(verb=Verb.REVERT, by=Caller("me")))
    await parts.engine.settle()
    assert (parts.attempt().step, parts.attempt().boot_id_before) == (Step.REVERTING, "a-boot-7")
    kinds = [type(one.event) for one in parts.disk.log]
    assert kinds.index(RevertStarted) - 1 == max(n for n, kind in enumerate(kinds) if kind is HostHeard)


async def test_hosts_count_as_away_until_they_are_heard() -> None:
    parts = await Parts().start()
    await parts.connect("a")
    again = await Parts(parts.disk, parts.clock).start()
    assert again.engine.world.hosts == {"a": replace(host("a"), last_seen=1000.0, connected=False)}
