"""One session with the controller over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Protocol

import grpc
import grpc.aio
import structlog

from agent.adapters import messages
from agent.adapters.spool import ReportSpool
from agent.domain import session
from agent.domain.commands import Command
from agent.domain.errors import Unreachable
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

log = structlog.get_logger(__name__)

# From opening the channel to the Welcome; a TLS handshake in an emulated guest takes seconds.
_WELCOME_TIMEOUT_S = 30.0


class Handler(Protocol):
    """What a session does to the agent."""

    def hello(self) -> agent_pb2.AgentMessage:
        """Return the first message."""

    def heartbeat(self) -> agent_pb2.AgentMessage:
        """Return a sign of life."""

    def welcomed(self, epoch: int) -> None:
        """Take note of the controller's epoch."""

    def obey(self, command: Command) -> str:
        """Take a command; return why it is refused, empty when it is not. Durable before this returns."""


class Session:
    """Connects once, and lasts until the stream ends."""

    def __init__(self, *, handler: Handler, spool: ReportSpool) -> None:
        self._handler = handler
        self._spool = spool
        self._state = session.SessionState()
        self._news = asyncio.Event()
        self._receipts: list[agent_pb2.AgentMessage] = []
        # Newest progress by command; an unsent one is replaced.
        self._progress: dict[str, agent_pb2.AgentMessage] = {}
        self._last_sent = 0

    @property
    def opened(self) -> bool:
        """Return whether the controller welcomed this session."""
        return self._state.heartbeat_interval_s > 0

    @property
    def retry_after_s(self) -> float:
        """Return the pause that the controller asked for; 0 when it asked for none."""
        return self._state.retry_after_s

    def notice(self) -> None:
        """Wake the sender: there are new reports."""
        self._news.set()

    def progress(self, command_id: str, step: str, fraction: float) -> None:
        """Send a sign of progress, if it is not overtaken by a newer one."""
        body = agent_pb2.Progress(command_id=command_id, step=step, fraction=fraction)
        self._progress[command_id] = agent_pb2.AgentMessage(progress=body)
        self._news.set()

    async def hold(self, connect: Callable[[], grpc.aio.Channel]) -> str:
        """Connect, greet and stay; return why the session ended. Raises Unreachable, ProtocolViolation."""
        async with connect() as channel:
            call = agent_pb2_grpc.AgentServiceStub(channel).Session(self._outgoing())
            try:
                async with asyncio.timeout(_WELCOME_TIMEOUT_S) as limit:
                    async for message in call:
                        self._take(message)
                        if self._state.phase is session.Phase.ENDED:
                            break
                        if self.opened:
                            limit.reschedule(None)
            except TimeoutError as error:
                raise Unreachable(f"no welcome within {_WELCOME_TIMEOUT_S:g} s") from error
            except grpc.aio.AioRpcError as error:
                raise Unreachable(f"{error.code().name}: {error.details()}") from error
            finally:
                call.cancel()
        return self._state.reason or "the controller closed the stream"

    def _take(self, message: agent_pb2.ControllerMessage) -> None:
        reaction = session.react(self._state, messages.incoming(message))
        self._state = reaction.state
        if reaction.opened:
            self._handler.welcomed(self._state.epoch)
        if reaction.obey is not None:
            refused = self._handler.obey(reaction.obey)
            receipt = agent_pb2.CommandReceipt(command_id=reaction.obey.command_id, refused=refused)
            self._receipts.append(agent_pb2.AgentMessage(receipt=receipt))
        if reaction.forget:
            self._spool.acknowledge(reaction.forget)
        self._news.set()

    async def _outgoing(self) -> AsyncIterator[agent_pb2.AgentMessage]:
        """Yield messages one by one; the transport asks for the next when it has taken the last."""
        yield self._handler.hello()
        while not self.opened:
            await self._news.wait()
            self._news.clear()
        loop = asyncio.get_running_loop()
        next_heartbeat = loop.time()
        while True:
            self._news.clear()
            for message in self._waiting():
                yield message
            if loop.time() >= next_heartbeat:
                next_heartbeat = loop.time() + self._state.heartbeat_interval_s
                yield self._handler.heartbeat()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_heartbeat):
                    await self._news.wait()

    def _waiting(self) -> Iterator[agent_pb2.AgentMessage]:
        while self._receipts:
            yield self._receipts.pop(0)
        for entry in self._spool.queue.entries:
            if entry.number <= self._last_sent:
                continue
            self._last_sent = entry.number
            content = self._spool.content(entry.number)
            if content is not None:
                yield agent_pb2.AgentMessage(report=agent_pb2.Report.FromString(content))
        while self._progress:
            yield self._progress.pop(next(iter(self._progress)))
