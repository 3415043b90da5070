"""One controller process in the simulated world: the real services on the common log, and how it dies."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import replace
from typing import Any, Final, Protocol

from controller.adapters.store.memory import Disk, MemoryStore
from controller.assembly import assemble, assemble_core
from controller.domain.delivery import DeliveryStatus
from controller.domain.errors import Conflict, KernrollError, Temporary
from controller.domain.hosts.host import Host
from controller.domain.record.effects import AgentEffect
from controller.domain.record.events import CommandReported
from controller.services.agents.sessions import AgentStream
from controller.services.ports import Checker, Kernels
from controller.services.records import Commit
from controller.sim.hosts.delivery import SimulatedDelivery
from controller.sim.hosts.link import Acknowledged, Ordered, Receipt, Server, Session, Upward
from controller.sim.hosts.outlets import SimulatedPower
from controller.sim.hosts.places import SimulatedPlaces
from controller.sim.universe import Universe
from controller.sim.virtual_loop import OWNER

# The engine wakes at every deadline; nothing sets the clock here without waking it.
_LONGEST_SLEEP_S: Final = 86_400.0
_WATCH_LATENCY_S: Final = 0.5
_WATCH_PAUSE_S: Final = 1.0


class Observer(Protocol):
    """Who sees everything that happens, and may let a controller die at it."""

    def may_write(self, process: "ControllerProcess", what: str) -> bool:
        """Return False when this process dies instead of writing."""

    def wrote(self, process: "ControllerProcess", commits: Sequence[Commit]) -> bool:
        """See what was written; return False when this process dies before it learns so."""

    def effect(self, process: "ControllerProcess", what: str) -> bool:
        """Return False when this process dies here."""

    def acknowledges(self, host: str, report_id: str) -> None:
        """A report is about to be called durable."""

    def lost(self, process: "ControllerProcess", error: BaseException) -> None:
        """The process ended by itself."""


class GatedStore(MemoryStore):
    """The store in memory, as long as its process lives, with somebody who looks on."""

    def __init__(self, disk: Disk, process: "ControllerProcess", observer: Observer) -> None:
        super().__init__(disk)
        self._process = process
        self._observer = observer

    async def commit(self, commit: Commit) -> bool:
        """See Store.commit."""
        self._may_write("commit")
        done = await super().commit(commit)
        if done:
            self._wrote((commit,))
        return done

    async def commit_all(self, commits: Sequence[Commit]) -> None:
        """See Store.commit_all. Nothing awaits in between, so nobody sees half of it."""
        self._may_write("commit_all")
        await super().commit_all(commits)
        if commits:
            self._wrote(commits)

    async def effect_done(self, command_id: str) -> None:
        """See Store.effect_done."""
        self._may_write("effect_done")
        await super().effect_done(command_id)

    async def save_host(self, host: Host) -> None:
        """See Store.save_host."""
        self._process.must_live()
        await super().save_host(host)

    def _may_write(self, what: str) -> None:
        self._process.must_live()
        if not self._observer.may_write(self._process, what):
            self._process.die()

    def _wrote(self, commits: Sequence[Commit]) -> None:
        if not self._observer.wrote(self._process, commits):
            self._process.die()


class SkewedClock:
    """The controller's clock: the true time, unless somebody has set it."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self.ahead_s = 0.0

    def now(self) -> float:
        """Return what the controller takes for the time."""
        return self._universe.now() + self.ahead_s


class ControllerProcess:
    """The services wired as the composition root wires them."""

    def __init__(
        self,
        universe: Universe,
        disk: Disk,
        observer: Observer,
        *,
        kernels: Kernels,
        clock: SkewedClock,
        delivery: SimulatedDelivery,
        places: SimulatedPlaces,
        power: SimulatedPower,
        checker: Checker,
    ) -> None:
        self.alive = True
        self.epoch = 0
        self._universe = universe
        self.observer = observer
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._context = Context()
        self._context.run(OWNER.set, self)
        self._delivery = delivery
        delivery.gate = places.gate = power.gate = self
        self.store = GatedStore(disk, self, observer)
        self.clock = clock
        self._uids = 0
        core = assemble_core(self.store, clock, kernels, longest_sleep_s=_LONGEST_SLEEP_S, new_uid=self._new_uid)
        services = assemble(core, clock, kernels, delivery, places, checker=checker, power=power)
        self.engine, self.sessions, self.operations = core.engine, core.sessions, core.operations
        self.performer, self._watcher = services.performer, services.watcher
        self._streams: dict[Session, None] = {}

    def _new_uid(self) -> str:
        self._uids += 1
        return f"{self.epoch:04x}{self._uids:04x}"

    # --- life and death ---

    def own(self, task: asyncio.Task[Any]) -> None:
        """See Owner."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, KernrollError):
            self.observer.lost(self, error)

    def must_live(self) -> None:
        """Raise asyncio.CancelledError in whatever a dead process still tries."""
        if not self.alive:
            raise asyncio.CancelledError

    def die(self) -> None:
        """End here and now: nothing that was under way goes on."""
        self.kill()
        raise asyncio.CancelledError

    def kill(self) -> None:
        """End as kill -9 does: no handler runs, no stream says goodbye."""
        if not self.alive:
            return
        self.alive = False
        for session in self._streams:
            session.server = None
            session.cut()
        self._streams.clear()
        for task in list(self._tasks):
            task.cancel()

    def effect(self, what: str) -> None:
        """See Gate."""
        self.must_live()
        if not self.observer.effect(self, what):
            self.die()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in this process."""
        return self._universe.loop.create_task(work, context=self._context)

    async def start(self, active: Callable[[str], DeliveryStatus]) -> None:
        """Continue from the log; `active` tells a host's state, as a watch does when it begins."""
        self.epoch = await self.store.open()
        await self.engine.start()
        self.spawn(self._run())
        for host in self.engine.world.active_hosts():
            self.notice(active(host))

    async def _run(self) -> None:
        try:
            await self.engine.run()
        except Conflict as error:
            # Another controller leads now. The process ends, as the composition root has it end.
            self.observer.lost(self, error)
            self.kill()
        except Exception as error:
            self.observer.lost(self, error)
            self.kill()

    # --- the world speaks ---

    def notice(self, status: DeliveryStatus) -> None:
        """Let the watcher hear of a machine's state."""
        if self.alive:
            self.spawn(self._noticed(status))

    async def _noticed(self, status: DeliveryStatus) -> None:
        await asyncio.sleep(_WATCH_LATENCY_S)
        while self.alive:
            try:
                await self._watcher.noticed(status)
            except Temporary:
                await asyncio.sleep(_WATCH_PAUSE_S)
            except KernrollError:
                return
            else:
                return

    def accept(self, session: Session, host: Host) -> Server | None:
        """See Listener."""
        if not self.alive:
            return None
        self._streams[session] = None
        return _Served(self, session, host)

    def forget(self, session: Session) -> None:
        """A stream has ended."""
        self._streams.pop(session, None)


class _Served:
    """One agent's stream as the controller serves it: messages one after the other, as the service reads them."""

    def __init__(self, process: ControllerProcess, session: Session, host: Host) -> None:
        self._process = process
        self._session = session
        self._stream = AgentStream(host=host.name, send=self._send, close=self._close)
        self._inbox: deque[Upward] = deque()
        self._working = True
        self._ended = False
        process.spawn(self._work(host))

    def take(self, message: Upward) -> None:
        """See Server."""
        self._inbox.append(message)
        if not self._working and self._process.alive:
            self._working = True
            self._process.spawn(self._work(None))

    def broken(self) -> None:
        """See Server."""
        if self._process.alive and not self._ended:
            self._ended = True
            self._process.forget(self._session)
            self._process.spawn(self._process.sessions.disconnected(self._stream))

    async def _work(self, host: Host | None) -> None:
        """Take what has come. What cannot be recorded ends the stream: the agent tells it again."""
        try:
            if host is not None:
                await self._process.sessions.connected(self._stream, host)
            while self._inbox and not self._ended:
                await self._take(self._inbox.popleft())
        except KernrollError:
            self._session.close()
        finally:
            self._working = False

    async def _take(self, message: Upward) -> None:
        sessions = self._process.sessions
        if isinstance(message, Receipt):
            await sessions.accepted(self._stream.host, message.command_id, message.refused)
            return
        report = message
        if isinstance(report, CommandReported):
            report = replace(report, at=self._process.clock.now())
        await sessions.reported(self._stream.host, report)
        self._process.observer.acknowledges(self._stream.host, report.report_id)
        self._session.down(Acknowledged(report_id=report.report_id))

    async def _send(self, effect: AgentEffect) -> None:
        self._process.effect(f"send {effect.command_id} before")
        self._session.down(Ordered(effect=effect, epoch=self._process.epoch))
        self._process.effect(f"send {effect.command_id} after")

    def _close(self, _reason: str) -> None:
        self._session.close()
