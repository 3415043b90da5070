"""A controller that speaks with agents exactly as a test tells it to, and a throwaway certificate authority."""

import asyncio
import base64
import datetime
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_kernel import DEVICE
from patience import PATIENCE_S

from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc, common_pb2

# Generous: nearly everything answers within a second unless the machine is busy.
DEADLINE_S = PATIENCE_S
SECRET = "open-sesame"
# Certificates need a validity; the authority is as old as the hills and the host's clock decides.
NOT_BEFORE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """A throwaway certificate authority."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign("kernroll test authority", self.key.public_key(), authority=True)
        self.server_key = ec.generate_private_key(ec.SECP256R1())
        self.server = self._sign("kernroll-controller", self.server_key.public_key())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def token(self, secret: str = SECRET) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        document = json.dumps({"secret": secret, "ca": base64.b64encode(der).decode()})
        return "kr1." + base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")

    def sign_request(self, request_pem: bytes, not_after: datetime.datetime = NOT_AFTER) -> bytes:
        request = x509.load_pem_x509_csr(request_pem)
        assert request.is_signature_valid
        name = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        certificate = self._sign(str(name), key, not_after=not_after)
        return certificate.public_bytes(serialization.Encoding.PEM)

    def server_credentials(self, *, client_authentication: bool) -> grpc.ServerCredentials:
        pair = (pem(self.server_key), self.server.public_bytes(serialization.Encoding.PEM))
        if not client_authentication:
            return grpc.ssl_server_credentials([pair])
        return grpc.ssl_server_credentials([pair], root_certificates=self.pem, require_client_auth=True)

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        *,
        authority: bool = False,
        not_after: datetime.datetime = NOT_AFTER,
    ) -> x509.Certificate:
        issuer = "kernroll test authority"
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOT_BEFORE)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name.replace(" ", "-"))]), critical=False)
            .sign(self.key, hashes.SHA256())
        )


class Enrollment(agent_pb2_grpc.EnrollmentServiceServicer):
    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.hosts: list[str] = []
        self.not_after = NOT_AFTER
        self.secrets = {SECRET}

    async def Enroll(
        self, request: agent_pb2.EnrollRequest, context: grpc.aio.ServicerContext
    ) -> agent_pb2.EnrollResponse:
        if request.token_secret not in self.secrets:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
        self.hosts.append(request.host)
        return agent_pb2.EnrollResponse(
            certificate_pem=self.authority.sign_request(request.certificate_signing_request_pem, self.not_after),
            authority_pem=self.authority.pem,
        )


class Controller(agent_pb2_grpc.AgentServiceServicer):
    """Speaks the controller's part, as a test tells it to."""

    def __init__(self) -> None:
        # Host and name in the client certificate of every session; no name without TLS.
        self.names: list[tuple[str, str]] = []
        self.hellos: list[agent_pb2.Hello] = []
        self.receipts: list[agent_pb2.CommandReceipt] = []
        self.heartbeats: list[agent_pb2.Heartbeat] = []
        self.progress: list[agent_pb2.Progress] = []
        # Every telling, also repeated ones.
        self.tellings: list[agent_pb2.Report] = []
        self.boot_answers: dict[str, str] = {}
        self.acknowledges = True
        self.epoch = 1
        self.protocol_version = 1
        # So often that tests need not wait for one.
        self.heartbeat_interval_s = 0.1
        self.sessions: list[asyncio.Queue[agent_pb2.ControllerMessage | None]] = []
        self._changed = asyncio.Condition()

    @property
    def reports(self) -> dict[str, agent_pb2.Report]:
        """Return the first telling of each report."""
        first: dict[str, agent_pb2.Report] = {}
        for report in self.tellings:
            first.setdefault(report.report_id, report)
        return first

    def runs(self, command_id: str) -> list[common_pb2.WorkloadRun]:
        return [each.run for each in self.reports.values() if each.command_id == command_id and each.HasField("run")]

    def outcomes(self, command_id: str) -> list[agent_pb2.CommandOutcome]:
        return [
            each.outcome for each in self.reports.values() if each.command_id == command_id and each.HasField("outcome")
        ]

    def say(self, message: agent_pb2.ControllerMessage) -> None:
        self.sessions[-1].put_nowait(message)

    async def ask_boot(self, request_id: str, *arguments: str, epoch: int = 1, timeout_s: float = 60.0) -> Any:
        """Ask the host's kernroll-boot and return the document that its agent answers."""
        asked = agent_pb2.BootRequest(request_id=request_id, epoch=epoch, timeout_s=timeout_s, arguments=arguments)
        self.say(agent_pb2.ControllerMessage(boot_request=asked))
        await self.until(lambda: request_id in self.boot_answers)
        return json.loads(self.boot_answers[request_id])

    def order(self, command: agent_pb2.Command) -> None:
        self.say(agent_pb2.ControllerMessage(command=command))

    def hang_up(self) -> None:
        self.sessions[-1].put_nowait(None)

    async def until(self, condition: Callable[[], object], *, timeout_s: float = DEADLINE_S) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def Session(
        self, requests: AsyncIterator[agent_pb2.AgentMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[agent_pb2.ControllerMessage]:
        outgoing: asyncio.Queue[agent_pb2.ControllerMessage | None] = asyncio.Queue()
        reader = asyncio.create_task(self._read(requests, outgoing, context))
        try:
            while (message := await outgoing.get()) is not None:
                yield message
        finally:
            reader.cancel()

    async def _read(
        self,
        requests: AsyncIterator[agent_pb2.AgentMessage],
        outgoing: "asyncio.Queue[agent_pb2.ControllerMessage | None]",
        context: grpc.aio.ServicerContext,
    ) -> None:
        async for message in requests:
            if message.HasField("hello"):
                name = context.auth_context().get("x509_common_name", [b""])[0].decode()
                self.names.append((message.hello.host, name))
            self._take(message, outgoing)
            async with self._changed:
                self._changed.notify_all()

    def _take(
        self,
        message: agent_pb2.AgentMessage,
        outgoing: "asyncio.Queue[agent_pb2.ControllerMessage | None]",
    ) -> None:
        match message.WhichOneof("body"):
            case "hello":
                welcome = agent_pb2.Welcome(
                    protocol_version=self.protocol_version,
                    epoch=self.epoch,
                    heartbeat_interval_s=self.heartbeat_interval_s,
                )
                self.hellos.append(message.hello)
                self.sessions.append(outgoing)
                outgoing.put_nowait(agent_pb2.ControllerMessage(welcome=welcome))
            case "receipt":
                self.receipts.append(message.receipt)
            case "heartbeat":
                self.heartbeats.append(message.heartbeat)
            case "boot_answer":
                self.boot_answers[message.boot_answer.request_id] = message.boot_answer.document
            case "progress":
                self.progress.append(message.progress)
            case "report":
                self.tellings.append(message.report)
                if self.acknowledges:
                    acknowledgement = agent_pb2.Acknowledgement(report_ids=[message.report.report_id])
                    outgoing.put_nowait(agent_pb2.ControllerMessage(acknowledgement=acknowledgement))


@asynccontextmanager
async def serving_plain(controller: Controller, port: int = 0) -> AsyncIterator[int]:
    """Serve in plain text on loopback; yield the port."""
    server = grpc.aio.server()
    agent_pb2_grpc.add_AgentServiceServicer_to_server(controller, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=0)


@asynccontextmanager
async def serving_tls(
    controller: Controller, enrollment: Enrollment, agent_port: int = 0
) -> AsyncIterator[tuple[int, int]]:
    """Serve with TLS on loopback; yield the agents' port, which asks for certificates, and the enrollment port."""
    server = grpc.aio.server()
    agent_pb2_grpc.add_EnrollmentServiceServicer_to_server(enrollment, server)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(controller, server)
    authority = enrollment.authority
    ports = (
        server.add_secure_port(f"127.0.0.1:{agent_port}", authority.server_credentials(client_authentication=True)),
        server.add_secure_port("127.0.0.1:0", authority.server_credentials(client_authentication=False)),
    )
    await server.start()
    try:
        yield ports
    finally:
        await server.stop(grace=0)


def swap_mount(
    command_id: str, *, repetitions: int = 1, epoch: int = 1, timeout_s: float = 60.0, device: str = DEVICE
) -> agent_pb2.Command:
    """Return an order to run swap_mount."""
    workload = agent_pb2.RunWorkload(repetitions=repetitions, swap_mount=agent_pb2.SwapMount(block_device=device))
    return agent_pb2.Command(command_id=command_id, epoch=epoch, timeout_s=timeout_s, run_workload=workload)


def cancel(command_id: str, target: str) -> agent_pb2.Command:
    """Return an order to cancel another."""
    return agent_pb2.Command(
        command_id=command_id, epoch=1, timeout_s=60.0, cancel=agent_pb2.CancelCommand(command_id=target)
    )
