"""Turns of plays: each takes processes of its own, so only so many run at one time."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from controller.domain.errors import Temporary
from controller.words import count_text, duration_text

# Staging is let run beside each other as long as this share is left for what takes seconds and brings hosts back.
_SHORT_SHARE: Final = 4
# Far longer than the queue of any fleet that moves.
TURN_TIMEOUT_S: Final = 86_400.0
_TURN_RETRY_S: Final = 10.0


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
        self._waiting: dict[bool, deque[tuple[asyncio.Future[None], Callable[[int], None] | None]]] = {
            False: deque(),
            True: deque(),
        }

    @contextlib.asynccontextmanager
    async def turn(self, *, long: bool, waits: Callable[[int], None] | None = None) -> AsyncIterator[None]:
        """Hold a turn within the block; `waits` hears how many plays come before it, while it waits.

        Raises Temporary when none has come in time.
        """
        await self._take(long, waits)
        try:
            yield
        finally:
            self._running[long] -= 1
            self._give()

    @property
    def running(self) -> int:
        """How many plays have their turn."""
        return sum(self._running.values())

    async def _take(self, long: bool, waits: Callable[[int], None] | None) -> None:
        if self._is_free(long) and not self._waiting[long]:
            self._running[long] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (turn, waits)
        self._waiting[long].append(waiter)
        self._tell(long)
        try:
            async with asyncio.timeout(self._timeout_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                # It was given in the same moment, and nobody takes it.
                self._running[long] -= 1
            else:
                self._waiting[long].remove(waiter)
            self._give()
            if not isinstance(error, TimeoutError):
                raise
            raise Temporary(
                f"no turn among {count_text(self.most, 'play')} at one time came within "
                f"{duration_text(self._timeout_s)}: let more run at one time (--plays)",
                retry_after_s=_TURN_RETRY_S,
            ) from error

    def _is_free(self, long: bool) -> bool:
        return self.running < self.most and (not long or self._running[True] < self._most_long)

    def _give(self) -> None:
        for long in (False, True):
            while self._waiting[long] and self._is_free(long):
                turn, _ = self._waiting[long].popleft()
                self._running[long] += 1
                turn.set_result(None)
            self._tell(long)

    def _tell(self, long: bool) -> None:
        for before, (_, waits) in enumerate(self._waiting[long]):
            if waits is not None:
                waits(self._running[long] + before if long else self.running + before)
