"""Turns of plays: so many at one time, in order, and what takes seconds never waits for what waits itself."""

import asyncio
import contextlib

import pytest
from engine_parts import reached

from controller.adapters.plays.queue import PlayQueue
from controller.domain.errors import Temporary


class Asking:
    """Plays that hold their turn until they are let go."""

    def __init__(self, queue: PlayQueue) -> None:
        self.queue = queue
        self.begun: list[str] = []
        self.waits: dict[str, list[int]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, name: str, *, long: bool = True) -> None:
        self._ends[name] = asyncio.Event()
        self.waits[name] = []
        self._tasks[name] = asyncio.create_task(self._play(name, long))
        await asyncio.sleep(0)

    async def _play(self, name: str, long: bool) -> None:
        async with self.queue.turn(long=long, waits=self.waits[name].append):
            self.begun.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks[name]

    async def end_all(self) -> None:
        for name in self._tasks:
            self._ends[name].set()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def test_long_plays_come_in_order_and_leave_room_for_short_ones() -> None:
    asking = Asking(PlayQueue(4))
    for number in range(1, 7):
        await asking.ask(f"stage-{number}")
    # One of four turns is left.
    assert asking.begun == ["stage-1", "stage-2", "stage-3"]
    assert [asking.waits[f"stage-{number}"] for number in (4, 5, 6)] == [[3, 3, 3], [4, 4], [5]]
    await asking.ask("revert-1", long=False)
    await asking.ask("revert-2", long=False)
    assert asking.begun[3:] == ["revert-1"]
    assert asking.waits["revert-2"] == [4]
    await asking.end("stage-1")
    await reached(lambda: len(asking.begun) == 5)
    # Whoever takes seconds comes before whoever waits with a long one.
    assert asking.begun[4] == "revert-2"
    await asking.end("revert-1")
    await reached(lambda: len(asking.begun) == 6)
    assert asking.begun[5] == "stage-4"
    await asking.end_all()
    assert asking.queue.running == 0


async def test_who_gives_up_keeps_nobody_waiting() -> None:
    asking = Asking(PlayQueue(2))
    for name in ("a", "b", "c"):
        await asking.ask(name)
    await asking.cancel("b")
    assert asking.waits["c"][-1] == 1
    await asking.cancel("a")
    await reached(lambda: asking.begun == ["a", "c"])
    # One that is given its turn and cancelled in the same moment does not keep it.
    await asking.ask("d")
    asking._ends["c"].set()
    await reached(lambda: asking.queue._waiting[True] == [])
    await asking.cancel("d")
    await asking.end_all()
    assert asking.queue.running == 0


async def test_who_asks_again_has_kept_the_place() -> None:
    queue = PlayQueue(2, timeout_s=0.01)
    begun = []

    async def ask(who: str) -> None:
        async with queue.turn(long=True, who=who):
            begun.append(who)

    async with queue.turn(long=True):
        with pytest.raises(Temporary, match="no turn"):
            await ask("first")
        queue._timeout_s = 60.0
        others = [asyncio.create_task(ask(who)) for who in ("second", "first", "third")]
        await reached(lambda: len(queue._waiting[True]) == 3)
    await asyncio.gather(*others)
    assert begun == ["first", "second", "third"]
    assert queue._places == {}


async def test_a_turn_that_never_comes_is_told() -> None:
    queue = PlayQueue(2, timeout_s=0.01)
    async with queue.turn(long=True):
        with pytest.raises(Temporary, match=r"no turn among 2 plays at one time came within .* \(--plays\)"):
            async with queue.turn(long=True):
                pass
    assert queue.running == 0
