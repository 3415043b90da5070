"""The agents' two services: enrollment without a client certificate, the session with one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import grpc
import structlog

from controller.adapters.rpc.agent_messages import command_message, host_of, report_of
from controller.adapters.rpc.identity import key_digest_of, names_of
from controller.domain.effects import AgentEffect
from controller.domain.errors import Conflict, InvalidInput, KernrollError, Permanent, Temporary
from controller.domain.hosts import Host
from controller.services.enrollment import Enrollment, Signed
from controller.services.identity import Epochs, SentAway, checked_name
from controller.services.ports import Clock
from controller.services.sessions import AgentStream, Sessions
from controller.views.models import LiveProgress
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


class AgentService(agent_pb2_grpc.AgentServiceServicer):
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

    async def Session(  # type: ignore[override]  # the generated base class knows only the synchronous form
        self, _requests: AsyncIterator[agent_pb2.AgentMessage], context: Any
    ) -> None:
        """Serve one agent until its stream ends, it falls silent, or a newer session replaces it."""
        host = await self._hello(context)
        if self._opening >= _MOST_OPENING:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._opening} sessions are opening at this moment; try again"
            )
        writing = asyncio.Lock()
        replaced = asyncio.get_running_loop().create_future()

        async def write(message: agent_pb2.ControllerMessage) -> None:
            async with writing:
                await context.write(message)

        async def send(effect: AgentEffect) -> None:
            await write(command_message(effect, self._epochs.current))

        def close(reason: str, retry_after_s: float = self._heartbeat_interval_s) -> None:
            if not replaced.done():
                replaced.set_result(agent_pb2.Goodbye(reason=reason, retry_after_s=retry_after_s))

        await write(
            agent_pb2.ControllerMessage(
                welcome=agent_pb2.Welcome(
                    protocol_version=PROTOCOL_VERSION,
                    epoch=self._epochs.current,
                    heartbeat_interval_s=self._heartbeat_interval_s,
                )
            )
        )
        session = AgentStream(host=host.name, send=send, close=close)
        reading: asyncio.Future[None] | None = None
        try:
            self._opening += 1
            try:
                await self._sessions.connected(session, host)
            finally:
                self._opening -= 1
            if not self._plaintext:
                # It may have been forgotten while its session opened.
                await self._caller(context, host.name)
            # Only now: what a host reports is understood by the boot that its Hello named.
            reading = asyncio.ensure_future(self._read(context, session, write))
            await asyncio.wait({reading, replaced}, return_when=asyncio.FIRST_COMPLETED)
            if not replaced.done():
                reading.result()
        except SentAway as error:
            close(str(error), error.retry_after_s)
        except (Temporary, Conflict) as error:
            # A conflict: another controller leads by now, and this one is about to end.
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            await self._sessions.disconnected(session)
        if replaced.done():
            # A stream that was replaced because it hangs takes no goodbye either.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_TIMEOUT_S):
                    await write(agent_pb2.ControllerMessage(goodbye=replaced.result()))

    async def _hello(self, context: Any) -> Host:
        """Return the host that the first message describes, or abort the call with a sentence."""
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                first = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no Hello within {_HELLO_TIMEOUT_S:.0f} s")
        if first is _EOF or first.WhichOneof("body") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a Hello")
        hello: agent_pb2.Hello = first.hello
        if hello.protocol_version != PROTOCOL_VERSION:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"this controller speaks protocol {PROTOCOL_VERSION}, the agent speaks {hello.protocol_version}: "
                "install the agent that belongs to this controller",
            )
        name = hello.host if self._plaintext else (await self._caller(context, hello.host))[0]
        try:
            host = host_of(name, hello.facts)
        except InvalidInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise
        try:
            await self._epochs.above(name, hello.highest_epoch)
        except Permanent as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except Temporary as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return host

    async def _caller(self, context: Any, claimed: str = "") -> tuple[str, str]:
        """Return the name and the key's digest of an enrolled host, or abort the call with a sentence."""
        certified, key_digest = names_of(context, "agent"), key_digest_of(context)
        try:
            name = checked_name(claimed or next(iter(certified), ""), certified)
            self._enrollment.identities.check(name, key_digest)
        except Permanent as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            raise
        return name, key_digest

    async def Renew(self, request: agent_pb2.RenewRequest, context: Any) -> agent_pb2.EnrollResponse:
        """See agent.proto."""
        if self._plaintext:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "there are no certificates in plain text")
        name, key_digest = await self._caller(context)
        return await _signed(
            context,
            self._enrollment.renew(name, key_digest, request.certificate_signing_request_pem),
            self._enrollment.authority_pem,
        )

    async def _read(self, context: Any, session: AgentStream, write: Any) -> None:
        """Take messages until the stream ends or falls silent."""
        silence_s = self._heartbeat_interval_s * _MISSED_HEARTBEATS
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    message = await context.read()
            except TimeoutError:
                _log.warning("silent", host=session.host, for_s=silence_s)
                return
            if message is _EOF:
                return
            await self._take(message, session, write)

    async def _take(self, message: agent_pb2.AgentMessage, session: AgentStream, write: Any) -> None:
        self._sessions.heartbeat(session.host)
        match message.WhichOneof("body"):
            case "report":
                report = report_of(message.report, self._clock.now())
                if report is not None:
                    await self._sessions.reported(session.host, report)
                done = agent_pb2.Acknowledgement(report_ids=[message.report.report_id])
                await write(agent_pb2.ControllerMessage(acknowledgement=done))
            case "receipt":
                await self._sessions.accepted(session.host, message.receipt.command_id, message.receipt.refused)
            case "progress":
                progress = LiveProgress(message.progress.step, message.progress.fraction)
                await self._sessions.progressed(session.host, progress)
            case _:
                # Heartbeats, and whatever a newer agent may say.
                pass


class EnrollmentService(agent_pb2_grpc.EnrollmentServiceServicer):
    """Exchanges join tokens for certificates."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment

    async def Enroll(self, request: agent_pb2.EnrollRequest, context: Any) -> agent_pb2.EnrollResponse:
        """See agent.proto."""
        signing = self._enrollment.enroll(request.token_secret, request.host, request.certificate_signing_request_pem)
        return await _signed(context, signing, self._enrollment.authority_pem)


async def _signed(context: Any, signing: Awaitable[Signed], authority_pem: bytes) -> agent_pb2.EnrollResponse:
    """Return a new certificate, or abort the call with a sentence."""
    try:
        signed = await signing
    except Conflict as error:
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
    except InvalidInput as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except Permanent as error:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
    except KernrollError as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    response = agent_pb2.EnrollResponse(certificate_pem=signed.certificate_pem, authority_pem=authority_pem)
    response.not_after.FromMilliseconds(int(signed.not_after * 1000))
    return response
