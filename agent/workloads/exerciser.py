"""An exerciser as a workload sees it: started among the host's workers, told orders, heard event by event."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from agent.domain.errors import RigError, WorkloadDied
from agent.domain.work.exercises import Advanced, Event, Failed, Options, Order, as_line, options_text, parse_event
from agent.workloads.deaths import killed_for_memory
from agent.workloads.port import Host, Worker

# An event comes at least as often as a step of work is done. In an emulated guest a step may take minutes.
SILENCE_TIMEOUT_S = 1200.0
_END_TIMEOUT_S = 60.0
# What a process that the kernel killed reports through its launcher.
_KILLED = -9
_E = TypeVar("_E", bound=Event)


class Exerciser:
    """One running exerciser."""

    def __init__(self, name: str, worker: Worker, host: Host) -> None:
        self._name = name
        self._worker = worker
        self._host = host
        self._deaths_before = killed_for_memory(host)

    async def order(self, order: Order) -> None:
        """Give an order. Raises RigError when the exerciser has ended."""
        await self._worker.say(as_line(order).decode().rstrip("\n"))

    async def next(self, *, timeout_s: float = SILENCE_TIMEOUT_S) -> Event:
        """Return the next event.

        Raises WorkloadDied when it was killed or gave up because one of its processes was; RigError when it gave up.
        """
        try:
            line = await self._worker.line(timeout_s=timeout_s)
        except TimeoutError as error:
            raise RigError(f"the exerciser {self._name} said nothing for {timeout_s:g} s") from error
        if not line:
            raise await self._death()
        try:
            event = parse_event(line.encode())
        except ValueError as error:
            raise RigError(str(error)) from error
        if isinstance(event, Failed):
            complaint = f"the exerciser {self._name} gave up: {event.error}"
            if killed := killed_for_memory(self._host) - self._deaths_before:
                raise WorkloadDied(f"{complaint}; {killed} of its processes were killed for want of memory")
            raise RigError(complaint)
        return event

    async def until(self, kind: type[_E], heard: Callable[[Event], None] = lambda event: None) -> _E:
        """Return the next event of a kind; `heard` gets those before it. Raises as `next`."""
        while True:
            event = await self.next()
            if isinstance(event, kind):
                return event
            heard(event)

    async def _death(self) -> Exception:
        ended = await self._worker.ended(timeout_s=_END_TIMEOUT_S)
        if ended.status == _KILLED:
            return WorkloadDied(f"the exerciser {self._name} was killed; the kernel log says whether memory ran out")
        return RigError(f"the exerciser {self._name} ended too early: {ended.complaint}")


@asynccontextmanager
async def exercising(host: Host, name: str, options: Options) -> AsyncIterator[Exerciser]:
    """Start an exerciser; whatever it does at the end of the context, it is killed. Raises RigError."""
    command = (sys.executable, "-m", f"agent.exercisers.{name}", options_text(options))
    async with host.workers.started(command) as worker:
        yield Exerciser(name, worker, host)


def steps(step: Callable[[str], None]) -> Callable[[Event], None]:
    """Return what shows an exerciser's signs of life as steps."""

    def heard(event: Event) -> None:
        if isinstance(event, Advanced):
            step(event.step)

    return heard
