"""One session with the controller over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Protocol

import grpc
import grpc.aio
import structlog

from agent.adapters.state.spool import ReportSpool
from agent.adapters.wire import messages
from agent.domain.errors import ProtocolViolation, Unreachable
from agent.domain.session import session
from agent.domain.session.commands import Command
from agent.domain.session.report_size import cut, short
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

log = structlog.get_logger(__name__)

# From opening the channel to the Welcome; a TLS handshake in an emulated guest takes seconds.
_WELCOME_TIMEOUT_S = 30.0
# A session that has lasted so long was none that ends as soon as it begins.
_STEADY_S = 60.0
_LONGEST_ID = 160
_LONGEST_STEP = 128
_LONGEST_REFUSAL_BYTES = 2048
# Of a controller that orders and does not listen.
_MOST_RECEIPTS = 10_000
_MOST_ANSWERS = 100
# How much an end speaks against the report that was on its way: what they say of the message itself, and what a fault
# of the controller may be as well.
_BLAME = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: 4,
    grpc.StatusCode.INVALID_ARGUMENT: 4,
    grpc.StatusCode.OUT_OF_RANGE: 4,
    grpc.StatusCode.INTERNAL: 1,
    grpc.StatusCode.UNKNOWN: 1,
}


# The library's own words when it was sending while the stream ended: the controller's status is lost then, and may have
# been that its disk is full.
_OF_THE_LIBRARY = "Internal error from Core"


def blame_of(error: grpc.aio.AioRpcError) -> int:
    """Return how much the end of a stream speaks against the report that was on its way; 0 when it says nothing."""
    return 0 if error.details() == _OF_THE_LIBRARY else _BLAME.get(error.code(), 0)


def _is_id(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_ID and name.isprintable()


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

    def ask(self, request: session.BootRequest) -> None:
        """Take what kernroll-boot is asked; the answer follows."""


class Session:
    """Connects once, and lasts until the stream ends."""

    def __init__(self, *, handler: Handler, spool: ReportSpool) -> None:
        self._handler = handler
        self._spool = spool
        self._state = session.SessionState()
        self._news = asyncio.Event()
        self._receipts: list[agent_pb2.AgentMessage] = []
        self._answers: list[agent_pb2.AgentMessage] = []
        # Newest progress by command; an unsent one is replaced.
        self._progress: dict[str, agent_pb2.AgentMessage] = {}
        self._last_sent = 0
        # Numbers of the reports that are on their way, oldest first.
        self._unconfirmed: list[int] = []
        self._opened_at = 0.0
        self._acknowledged = False

    @property
    def opened(self) -> bool:
        """Return whether the controller welcomed this session."""
        return self._state.heartbeat_interval_s > 0

    @property
    def steady(self) -> bool:
        """Return whether the session was of use, or lasted: the next may begin at once."""
        lasted = self.opened and asyncio.get_running_loop().time() - self._opened_at > _STEADY_S
        return self._acknowledged or lasted

    @property
    def retry_after_s(self) -> float:
        """Return the pause that the controller asked for; 0 when it asked for none."""
        return self._state.retry_after_s

    def notice(self) -> None:
        """Wake the sender: there are new reports."""
        self._news.set()

    def answer(self, request_id: str, document: str) -> None:
        """Send what kernroll-boot has answered."""
        body = agent_pb2.BootAnswer(request_id=request_id, document=document)
        self._answers.append(agent_pb2.AgentMessage(boot_answer=body))
        self._news.set()

    def progress(self, command_id: str, step: str, fraction: float) -> None:
        """Send a sign of progress, if it is not overtaken by a newer one."""
        body = agent_pb2.Progress(command_id=command_id, step=short(step, _LONGEST_STEP), fraction=fraction)
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
                self._spool.blame(self._unconfirmed, blame_of(error))
                raise Unreachable(f"{error.code().name}: {cut(error.details() or '', 1000)}") from error
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # What was to be sent could not be put together; the library only ends the stream.
                raise Unreachable("the stream was broken off here") from error
            finally:
                call.cancel()
        return self._state.reason or "the controller closed the stream"

    def _take(self, message: agent_pb2.ControllerMessage | None) -> None:
        if message is None:
            # All that the library says of what it cannot decode.
            raise ProtocolViolation("the controller sent what is no message")
        reaction = session.react(self._state, messages.incoming(message))
        self._state = reaction.state
        if reaction.opened:
            self._opened_at = asyncio.get_running_loop().time()
            self._handler.welcomed(self._state.epoch)
        if reaction.obey is not None:
            self._receipts.append(self._obeyed(reaction.obey))
            if len(self._receipts) > _MOST_RECEIPTS:
                raise ProtocolViolation(f"the controller takes none of {_MOST_RECEIPTS} receipts")
        if reaction.ask is not None and _is_id(reaction.ask.request_id):
            self._handler.ask(reaction.ask)
            if len(self._answers) > _MOST_ANSWERS:
                raise ProtocolViolation(f"the controller takes none of {_MOST_ANSWERS} answers")
        if reaction.forget:
            self._acknowledged |= self._spool.acknowledge(reaction.forget)
            self._unconfirmed = [each for each in self._unconfirmed if self._spool.waits(each)]
        self._news.set()

    def _obeyed(self, command: Command) -> agent_pb2.AgentMessage:
        name = command.command_id
        if _is_id(name):
            refused = self._handler.obey(command)
        else:
            # No report could name it either.
            refused = f"a command's id must be 1 to {_LONGEST_ID} printable characters"
        receipt = agent_pb2.CommandReceipt(command_id=name, refused=cut(refused, _LONGEST_REFUSAL_BYTES))
        return agent_pb2.AgentMessage(receipt=receipt)

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
        while self._answers:
            yield self._answers.pop(0)
        for entry in self._spool.queue.entries:
            if entry.number <= self._last_sent:
                continue
            if self._unconfirmed and self._spool.careful:
                # Woken by the acknowledgement.
                break
            self._last_sent = entry.number
            report = self._spool.report(entry.number)
            if report is not None:
                self._unconfirmed.append(entry.number)
                yield agent_pb2.AgentMessage(report=report)
        while self._progress:
            yield self._progress.pop(next(iter(self._progress)))
