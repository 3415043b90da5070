"""The agents' two services: enrollment without a client certificate, the session with one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError

from controller.adapters.rpc.agent_messages import (
    boot_request_message,
    command_message,
    held_of,
    host_of,
    progress_of,
    report_of,
)
from controller.adapters.rpc.identity import Refusals, key_digest_of, names_of
from controller.adapters.rpc.incoming import HELLO_MESSAGES, Allowance, Incoming, decoded
from controller.domain import bounds
from controller.domain.errors import Conflict, InvalidInput, KernrollError, Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.hosts.loader_document import boot_of
from controller.domain.record.effects import AgentEffect
from controller.services.agents.boot_requests import BootRequest
from controller.services.agents.enrollment import Enrollment, Signed
from controller.services.agents.identity import Epochs, SentAway, checked_name
from controller.services.agents.sessions import AgentStream, Sessions
from controller.services.ports import Clock
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

_log = structlog.get_logger("agent_service")

PROTOCOL_VERSION = 1
# The stubs do not know it.
_EOF: Any = vars(grpc.aio)["EOF"]
_HELLO_TIMEOUT_S = 20.0
_GOODBYE_TIMEOUT_S = 5.0
# Sessions that may be opening at the same time. After an outage all agents come back: those that are sent away try
# again after a pause that each draws for itself, and those that are in are served meanwhile.
_MOST_OPENING = 128
# A host is silent after this many missed heartbeats.
_MISSED_HEARTBEATS = 3
# A message that is larger is read in a thread: what takes long must not hold up everybody else.
_SMALL_BYTES = 16 << 10
_READING_THREADS = 2
# Hosts of which it is remembered how much of our time they took, and for how long that can matter.
_MOST_ALLOWANCES = 50_000
_FORGOTTEN_AFTER_S = 60.0
# However much a host has had, it is heard again by then: silence would be counted against it.
_LONGEST_PAUSE_S = 10.0

T = TypeVar("T")


def add_agent_service(server: grpc.aio.Server, service: "AgentService") -> None:
    """Serve agents. Their messages come undecoded, because the service has to see their size first."""
    name = agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
    handlers = {
        "Session": grpc.stream_stream_rpc_method_handler(
            service.Session, response_serializer=agent_pb2.ControllerMessage.SerializeToString
        ),
        "Renew": grpc.unary_unary_rpc_method_handler(
            service.Renew,
            request_deserializer=agent_pb2.RenewRequest.FromString,
            response_serializer=agent_pb2.EnrollResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


class AgentService:
    """One stream per agent."""

    def __init__(
        self,
        sessions: Sessions,
        clock: Clock,
        *,
        enrollment: Enrollment,
        epochs: Epochs,
        heartbeat_interval_s: float,
        plaintext: bool,
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._enrollment = enrollment
        self._epochs = epochs
        self._heartbeat_interval_s = heartbeat_interval_s
        self._plaintext = plaintext
        self._opening = 0
        self._threads = ThreadPoolExecutor(_READING_THREADS, thread_name_prefix="reading")
        # By host, and over all its sessions: one that comes back again and again takes no more than one that stays.
        self._allowances: dict[str, Allowance] = {}
        self._held_back: set[str] = set()
        self._refusals = Refusals(lambda: asyncio.get_running_loop().time())

    async def Session(self, _requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one agent until its stream ends, it falls silent, or a newer session replaces it."""
        host, allowance, takes_boot_requests = await self._hello(context)
        if self._opening >= _MOST_OPENING:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._opening} sessions are opening at this moment; try again"
            )
        # Counted before anything is waited for: a whole fleet may stand at this very line.
        self._opening += 1
        line = _Line(context, silence_s=self._silence_s, pause_s=self._heartbeat_interval_s)

        async def send(effect: AgentEffect) -> None:
            # An order is none before the Welcome.
            await line.welcomed.wait()
            await line.write(command_message(effect, self._epochs.current))

        async def ask_boot(request: BootRequest) -> None:
            await line.welcomed.wait()
            await line.write(boot_request_message(request, self._epochs.current))

        session = AgentStream(
            host=host.name, send=send, close=line.close, ask_boot=ask_boot if takes_boot_requests else None
        )
        reading: asyncio.Future[None] | None = None
        try:
            try:
                await self._sessions.connected(session, host)
            finally:
                self._opening -= 1
            if not self._plaintext:
                # It may have been forgotten while its session opened.
                await self._caller(context, host.name)
            await line.write(self._welcome())
            line.welcomed.set()
            # Only now: what a host reports is understood by the boot that its Hello named.
            reading = asyncio.ensure_future(self._read(context, session, line.write, allowance))
            either: tuple[asyncio.Future[Any], ...] = (reading, line.ended)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not line.ended.done():
                reading.result()
        except SentAway as error:
            line.close(str(error), error.retry_after_s)
        except (Temporary, Conflict) as error:
            # A conflict: another controller leads by now, and this one is about to end.
            if not line.ended.done():
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            await self._ended(session, reading, line)
        await line.say_goodbye()

    async def _ended(self, session: AgentStream, reading: asyncio.Future[None] | None, line: "_Line") -> None:
        """Note that a session is over, even if it is cancelled once more meanwhile."""
        try:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        finally:
            try:
                await self._sessions.disconnected(session)
            finally:
                # Whoever waits to give an order finds the stream gone.
                line.welcomed.set()

    @property
    def _silence_s(self) -> float:
        return self._heartbeat_interval_s * _MISSED_HEARTBEATS

    def _welcome(self) -> agent_pb2.ControllerMessage:
        return agent_pb2.ControllerMessage(
            welcome=agent_pb2.Welcome(
                protocol_version=PROTOCOL_VERSION,
                epoch=self._epochs.current,
                heartbeat_interval_s=self._heartbeat_interval_s,
            )
        )

    async def _hello(self, context: Any) -> tuple[Host, Allowance, bool]:
        """Return the host of the first message, its share of our time, and whether it takes requests to kernroll-boot.

        Aborts the call with a sentence for a message that is none of the kind.
        """
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                data = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {_HELLO_TIMEOUT_S:.0f} s")
        incoming = None if data is _EOF else await self._decoded(data, context)
        first = None if incoming is None else incoming.message
        if first is None or first.WhichOneof("body") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a Hello")
            raise AssertionError("abort returned")
        hello: agent_pb2.Hello = first.hello
        claimed = bounds.name(hello.host)
        if hello.protocol_version != PROTOCOL_VERSION:
            await self._refusals.refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                claimed,
                f"this controller speaks protocol {PROTOCOL_VERSION}, the agent speaks {hello.protocol_version}: "
                "install the agent that belongs to this controller",
            )
        name = claimed if self._plaintext else (await self._caller(context, claimed))[0]
        try:
            host, computed_s = await self._aside(len(data), lambda: host_of(name, hello.facts, hello.boot_status))
        except InvalidInput as error:
            await self._refusals.refuse(context, grpc.StatusCode.INVALID_ARGUMENT, name, str(error))
        try:
            await self._epochs.above(name, hello.highest_epoch)
        except Permanent as error:
            await self._refusals.refuse(context, grpc.StatusCode.FAILED_PRECONDITION, name, str(error))
        except Temporary as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return host, await self._admitted(name, len(data), computed_s, context), hello.takes_boot_requests

    async def _caller(self, context: Any, claimed: str = "") -> tuple[str, str]:
        """Return the name and the key's digest of an enrolled host, or abort the call with a sentence."""
        certified, key_digest = names_of(context, "agent"), key_digest_of(context)
        try:
            name = checked_name(claimed or next(iter(certified), ""), certified)
            self._enrollment.identities.check(name, key_digest)
        except Permanent as error:
            host = claimed or next(iter(certified), "")
            await self._refusals.refuse(context, grpc.StatusCode.PERMISSION_DENIED, bounds.name(host), str(error))
        return name, key_digest

    async def Renew(self, request: agent_pb2.RenewRequest, context: Any) -> agent_pb2.EnrollResponse:
        """See agent.proto."""
        if self._plaintext:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "there are no certificates in plain text")
        name, key_digest = await self._caller(context)
        await self._admitted(name, request.ByteSize(), 0.0, context)
        try:
            signed = await self._enrollment.renew(name, key_digest, request.certificate_signing_request_pem)
        except KernrollError as error:
            await self._refusals.refuse(context, _code_of(error), name, str(error))
        return _answer_of(signed, self._enrollment.authority_pem)

    async def _admitted(self, host: str, size_bytes: int, computed_s: float, context: Any) -> Allowance:
        """Return how much of our time the host has left; one that has used it up waits, in one session at a time."""
        now = asyncio.get_running_loop().time()
        if len(self._allowances) >= _MOST_ALLOWANCES:
            # Whoever has been quiet for long has as much as somebody new.
            self._allowances = {
                name: one for name, one in self._allowances.items() if now - one.at < _FORGOTTEN_AFTER_S
            }
        allowance = self._allowances.setdefault(host, Allowance(at=now))
        pause_s = allowance.pause_s(now, size_bytes, computed_s, HELLO_MESSAGES)
        if pause_s == 0:
            return allowance
        if host in self._held_back:
            text = f"{host} opens sessions too often, and one waits already; try again in {pause_s:.0f} s"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        self._held_back.add(host)
        try:
            await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))
        finally:
            self._held_back.discard(host)
        return allowance

    async def _decoded(self, data: bytes, context: Any) -> Incoming:
        try:
            incoming, _ = await self._aside(len(data), lambda: decoded(data))
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"a message of {len(data)} bytes cannot be read")
            raise AssertionError("abort returned") from error
        return incoming

    async def _aside(self, size_bytes: int, compute: Callable[[], T]) -> tuple[T, float]:
        """Compute what takes as long as a host's message is large where it holds nobody up; return what it took."""
        if size_bytes <= _SMALL_BYTES:
            return compute(), 0.0

        def timed() -> tuple[T, float]:
            began = time.thread_time()
            return compute(), time.thread_time() - began

        return await asyncio.get_running_loop().run_in_executor(self._threads, timed)

    async def _read(self, context: Any, session: AgentStream, write: Any, allowance: Allowance) -> None:
        """Take messages until the stream ends or falls silent."""
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    data = await context.read()
            except TimeoutError:
                _log.warning("silent", host=session.host, for_s=self._silence_s)
                return
            if data is _EOF:
                return
            incoming = await self._decoded(data, context)
            if incoming.cut:
                _log.warning("message_cut", host=session.host, size_bytes=len(data))
            computed_s = await self._take(incoming, len(data), session, write)
            pause_s = allowance.pause_s(asyncio.get_running_loop().time(), len(data), computed_s)
            if pause_s > 0:
                await asyncio.sleep(min(pause_s, _LONGEST_PAUSE_S))

    async def _take(self, incoming: Incoming, size_bytes: int, session: AgentStream, write: Any) -> float:
        """Do what a message asks for; return the processor time that its content took, as far as it was measured."""
        self._sessions.heartbeat(session.host)
        message = incoming.message
        computed_s = 0.0
        match message.WhichOneof("body"):
            case "report":
                now = self._clock.now()
                report, computed_s = await self._aside(
                    size_bytes, lambda: report_of(message.report, now, cut=incoming.cut)
                )
                if report is not None:
                    await self._sessions.reported(session.host, report)
                done = agent_pb2.Acknowledgement(report_ids=[message.report.report_id])
                await write(agent_pb2.ControllerMessage(acknowledgement=done))
            case "receipt":
                receipt = message.receipt
                await self._sessions.accepted(session.host, receipt.command_id, receipt.refused)
            case "progress":
                await self._sessions.progressed(session.host, progress_of(message.progress))
            case "boot_answer":
                answer = message.boot_answer
                self._sessions.boot_requests.answered(session.host, answer.request_id, answer.document)
            case "heartbeat":
                told = message.heartbeat.boot_status
                boot, computed_s = await self._aside(size_bytes, lambda: boot_of(session.host, told))
                await self._sessions.holds(session, held_of(message.heartbeat), boot)
            case _:
                # Whatever a newer agent may say.
                pass
        return computed_s


class _Line:
    """What a session says to its agent: one message at a time, each taken within a deadline, and a reason to end."""

    def __init__(self, context: Any, *, silence_s: float, pause_s: float) -> None:
        self._context = context
        self._silence_s = silence_s
        self._pause_s = pause_s
        self._writing = asyncio.Lock()
        self.welcomed = asyncio.Event()
        self.ended: asyncio.Future[agent_pb2.Goodbye] = asyncio.get_running_loop().create_future()

    async def write(self, message: agent_pb2.ControllerMessage) -> None:
        """Say something. An agent that speaks and does not listen is as silent as one that says nothing."""
        try:
            async with asyncio.timeout(self._silence_s), self._writing:
                await self._context.write(message)
        except TimeoutError as error:
            text = f"nothing that was sent was taken within {self._silence_s:g} s"
            self.close(text)
            raise Temporary(text) from error

    def close(self, reason: str, retry_after_s: float | None = None) -> None:
        """End the session; the first reason is the one that is told."""
        if not self.ended.done():
            pause_s = self._pause_s if retry_after_s is None else retry_after_s
            self.ended.set_result(agent_pb2.Goodbye(reason=reason, retry_after_s=pause_s))

    async def say_goodbye(self) -> None:
        """Tell why the session ends, when there is a reason; a stream that hangs takes no goodbye either."""
        if self.ended.done():
            with contextlib.suppress(TimeoutError, Temporary):
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await self.write(agent_pb2.ControllerMessage(goodbye=self.ended.result()))


class EnrollmentService(agent_pb2_grpc.EnrollmentServiceServicer):
    """Exchanges join tokens for certificates."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._refusals = Refusals(lambda: asyncio.get_running_loop().time())

    async def Enroll(self, request: agent_pb2.EnrollRequest, context: Any) -> agent_pb2.EnrollResponse:
        """See agent.proto."""
        host = bounds.name(request.host)
        signing = self._enrollment.enroll(request.token_secret, request.host, request.certificate_signing_request_pem)
        try:
            signed = await signing
        except KernrollError as error:
            await self._refusals.refuse(context, _code_of(error), host, str(error))
        _log.info("enrolled", host=host)
        return _answer_of(signed, self._enrollment.authority_pem)


def _code_of(error: KernrollError) -> grpc.StatusCode:
    codes = {Conflict: grpc.StatusCode.ALREADY_EXISTS, InvalidInput: grpc.StatusCode.INVALID_ARGUMENT}
    found = next((code for kind, code in codes.items() if isinstance(error, kind)), None)
    return found or (grpc.StatusCode.UNAUTHENTICATED if isinstance(error, Permanent) else grpc.StatusCode.UNAVAILABLE)


def _answer_of(signed: Signed, authority_pem: bytes) -> agent_pb2.EnrollResponse:
    response = agent_pb2.EnrollResponse(certificate_pem=signed.certificate_pem, authority_pem=authority_pem)
    response.not_after.FromMilliseconds(int(signed.not_after * 1000))
    return response
