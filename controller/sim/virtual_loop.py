"""An event loop whose time is a number: waiting takes none, and everything happens in the same order every time."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


# However much happens at one moment, more than this is a loop that never ends.
_MOST_TURNS = 5_000_000


class Stalled(AssertionError):
    """Everything waits for something that nothing will bring about, or time does not pass any more."""


class Owner(Protocol):
    """Whatever must end together with the tasks that run on its behalf."""

    def own(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that was started here."""


# On whose behalf the present task runs; tasks inherit it from the one that starts them.
OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs what is ready in order; when nothing is, the clock jumps to the next moment at which something will be."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        # Turns since the clock moved last.
        self._turns = 0
        # asyncio's own loop asks its selector to wait for sockets; there are none, so this object waits in its place.
        self._selector = self
        self.set_task_factory(_owned)

    def time(self) -> float:
        """Return the seconds since the loop was made."""
        return self._now

    def select(self, timeout: float | None) -> tuple[()]:
        """Let the time pass until the next thing is due."""
        if timeout is None:
            raise Stalled("nothing is ready and nothing is due")
        self._turns += 1
        if self._turns > _MOST_TURNS:
            raise Stalled(f"{_MOST_TURNS} turns without a moment passing")
        if timeout > 0:
            self._turns = 0
            scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # asyncio's own heap
            # Not the sum of now and timeout: rounding could leave the clock just before what it waits for.
            self._now = min(scheduled[0].when(), self._now + timeout) if scheduled else self._now + timeout
        return ()

    def _process_events(self, _events: object) -> None:
        """There are no sockets, so none has news."""

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing has to be woken."""


def _owned(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.own(task)
    return task


def run_virtually(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end in a loop of its own; raises Stalled when it can never end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
