"""Turns of plays: each takes processes of its own, so only so many run at one time."""

import asyncio
import contextlib
from bisect import insort
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from controller.domain.errors import Temporary
from controller.words import count_text, duration_text

# Staging is let run beside each other as long as this share is left for what takes seconds and brings hosts back.
_SHORT_SHARE: Final = 4
# Whoever has waited so long says so and asks again; the place in the queue is kept.
TURN_TIMEOUT_S: Final = 1500.0
_TURN_RETRY_S: Final = 10.0


@dataclass(slots=True, kw_only=True, order=True)
class _Waiter:
    """One who waits; the lowest number comes first."""

    number: int
    turn: asyncio.Future[None] = field(compare=False)
    waits: Callable[[int], None] | None = field(compare=False)


class PlayQueue:
    """Gives turns in the order in which they were asked for; short plays do not wait for long ones that wait."""

    def __init__(self, most: int = 8, *, timeout_s: float = TURN_TIMEOUT_S) -> None:
        """Take how many plays run at one time, at least 2, and how long a turn is waited for."""
        assert most >= 2, most
        self.most = most
        self._most_long = most - max(1, most // _SHORT_SHARE)
        self._timeout_s = timeout_s
        # Of each lane, long plays or not: how many run, and who waits with what hears how many are before it.
        self._running = {False: 0, True: 0}
        self._waiting: dict[bool, list[_Waiter]] = {False: [], True: []}
        self._numbers = count()
        # Of those who wait, and of those who have waited too long and will ask again: who -> the number.
        self._places: dict[Hashable, int] = {}

    @contextlib.asynccontextmanager
    async def turn(
        self, *, long: bool, who: Hashable = None, waits: Callable[[int], None] | None = None
    ) -> AsyncIterator[None]:
        """Hold a turn within the block; `waits` hears how many plays come before it, while it waits.

        Raises Temporary when none has come in time; `who` asks again has kept the place.
        """
        await self._take(long, who, waits)
        try:
            yield
        finally:
            self._running[long] -= 1
            self._give()

    @property
    def running(self) -> int:
        """How many plays have their turn."""
        return sum(self._running.values())

    async def _take(self, long: bool, who: Hashable, waits: Callable[[int], None] | None) -> None:
        if self._is_free(long) and not self._waiting[long]:
            self._running[long] += 1
            self._places.pop(who, None)
            return
        number = next(self._numbers) if who is None else self._places.setdefault(who, next(self._numbers))
        waiter = _Waiter(number=number, turn=asyncio.get_running_loop().create_future(), waits=waits)
        insort(self._waiting[long], waiter)
        self._tell(long)
        try:
            async with asyncio.timeout(self._timeout_s):
                await waiter.turn
        except TimeoutError as error:
            self._leave(long, waiter)
            raise Temporary(
                f"no turn among {count_text(self.most, 'play')} at one time came within "
                f"{duration_text(self._timeout_s)}: let more run at one time (--plays)",
                retry_after_s=_TURN_RETRY_S,
            ) from error
        except BaseException:
            self._leave(long, waiter)
            self._places.pop(who, None)
            raise
        self._places.pop(who, None)

    def _leave(self, long: bool, waiter: _Waiter) -> None:
        if waiter.turn.done() and not waiter.turn.cancelled():
            # It was given in the same moment, and nobody takes it.
            self._running[long] -= 1
        else:
            self._waiting[long].remove(waiter)
        self._give()

    def _is_free(self, long: bool) -> bool:
        return self.running < self.most and (not long or self._running[True] < self._most_long)

    def _give(self) -> None:
        for long in (False, True):
            while self._waiting[long] and self._is_free(long):
                self._running[long] += 1
                self._waiting[long].pop(0).turn.set_result(None)
            self._tell(long)

    def _tell(self, long: bool) -> None:
        for before, waiter in enumerate(self._waiting[long]):
            if waiter.waits is not None:
                waiter.waits(self._running[long] + before if long else self.running + before)
