"""Enrollment and mutual TLS, over TCP and over a stand-in for a virtio-serial port."""

import asyncio
import base64
import contextlib
import datetime
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.adapters import channel, credentials
from agent.adapters.serial_relay import SerialRelay
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 40.0
SECRET = "open-sesame"
# Certificates need a validity; the tests' authority is as old as the hills and the host's clock decides.
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

    async def Enroll(
        self, request: agent_pb2.EnrollRequest, context: grpc.aio.ServicerContext
    ) -> agent_pb2.EnrollResponse:
        if request.token_secret != SECRET:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no such token")
        self.hosts.append(request.host)
        return agent_pb2.EnrollResponse(
            certificate_pem=self.authority.sign_request(request.certificate_signing_request_pem, self.not_after),
            authority_pem=self.authority.pem,
        )


class Sessions(agent_pb2_grpc.AgentServiceServicer):
    """Greets, and counts sessions by the name in the client certificate."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        self.heartbeats = 0
        self._changed = asyncio.Condition()

    async def until_greeted(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.names) >= count)

    async def until_heartbeats(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: self.heartbeats >= count)

    async def Session(
        self, requests: AsyncIterator[agent_pb2.AgentMessage], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[agent_pb2.ControllerMessage]:
        async for message in requests:
            async with self._changed:
                self._changed.notify_all()
                if message.HasField("heartbeat"):
                    self.heartbeats += 1
                if not message.HasField("hello"):
                    continue
                names = context.auth_context().get("x509_common_name", [b""])
                self.names.append((message.hello.host, names[0].decode()))
            yield agent_pb2.ControllerMessage(
                welcome=agent_pb2.Welcome(protocol_version=1, epoch=1, heartbeat_interval_s=0.2)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    authority: Authority
    enrollment: Enrollment
    sessions: Sessions
    enroll_port: int
    agent_port: int


@asynccontextmanager
async def serving(
    authority: Authority, enrollment: Enrollment, sessions: Sessions, agent_port: int = 0
) -> AsyncIterator[World]:
    server = grpc.aio.server()
    agent_pb2_grpc.add_EnrollmentServiceServicer_to_server(enrollment, server)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(sessions, server)
    open_ports = authority.server_credentials(client_authentication=False)
    closed_ports = authority.server_credentials(client_authentication=True)
    world = World(
        authority=authority,
        enrollment=enrollment,
        sessions=sessions,
        enroll_port=server.add_secure_port("127.0.0.1:0", open_ports),
        agent_port=server.add_secure_port(f"127.0.0.1:{agent_port}", closed_ports),
    )
    await server.start()
    try:
        yield world
    finally:
        await server.stop(grace=0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    authority = Authority()
    async with serving(authority, Enrollment(authority), Sessions()) as world:
        yield world


def configure(tmp_path: Path, world: World, token: str) -> Path:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'host = "host-1"\ncontroller = "127.0.0.1:{world.agent_port}"\nenroll = "127.0.0.1:{world.enroll_port}"\n'
        f'join_token = "{token}"\nstate_dir = "{tmp_path / "state"}"\n'
    )
    return config


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent.main",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(DEADLINE_S):
        _, stderr = await process.communicate()
    return process.returncode, stderr.decode()


async def test_serve_enrolls_once_and_then_proves_who_it_is(tmp_path: Path, world: World) -> None:
    config = configure(tmp_path, world, world.authority.token())
    for count in (1, 2):
        process = await start("serve", "--config", str(config))
        await world.sessions.until_greeted(count)
        process.send_signal(signal.SIGTERM)
        status, stderr = await finish(process)
        assert status == 0, stderr
        assert SECRET not in stderr
    assert world.enrollment.hosts == ["host-1"]
    assert world.sessions.names == [("host-1", "host-1")] * 2
    assert (tmp_path / "state/client.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "state/pending.key").exists()


async def test_a_wrong_token_is_final(tmp_path: Path, world: World) -> None:
    config = configure(tmp_path, world, world.authority.token("guess"))
    status, stderr = await finish(await start("serve", "--config", str(config)))
    assert status == 4
    assert "the join token is unknown, used up or expired" in stderr
    assert world.sessions.names == []


async def test_a_controller_of_another_authority_gets_no_secret(tmp_path: Path, world: World) -> None:
    config = configure(tmp_path, world, Authority().token())
    status, stderr = await finish(await start("enroll", "--config", str(config)))
    assert status == 3
    assert "it is not the controller that made this join token" in stderr
    assert world.enrollment.hosts == []


async def test_an_expired_certificate_is_told(tmp_path: Path, world: World) -> None:
    world.enrollment.not_after = datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC)
    config = configure(tmp_path, world, world.authority.token())
    status, stderr = await finish(await start("serve", "--config", str(config)))
    assert status == 4
    assert "the client certificate expired" in stderr
    assert "enroll again with a new join token" in stderr


class StandInPort:
    """A virtio-serial port, and the hypervisor that connects it to the controller and reconnects when it is closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        # The hypervisor's end of what the guest has open; None while nobody has it open.
        self._guest: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.connections = 0

    def open(self, device: Path) -> int:
        guest, hypervisor = socket.socketpair()
        guest.setblocking(False)
        hypervisor.setblocking(False)
        self._drop_guest()
        if self._writer is None:
            hypervisor.close()
        else:
            self._guest = hypervisor
            asyncio.get_running_loop().add_reader(hypervisor, self._from_guest, hypervisor)
        return guest.detach()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._connect_for_ever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            self._drop_guest()

    async def _connect_for_ever(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
                self.connections += 1
                try:
                    while chunk := await reader.read(65536):
                        if self._guest is not None:
                            await asyncio.get_running_loop().sock_sendall(self._guest, chunk)
                finally:
                    self._writer.close()
                    self._writer = None
                    self._drop_guest()
            await asyncio.sleep(0.05)

    def _from_guest(self, hypervisor: socket.socket) -> None:
        try:
            chunk = hypervisor.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            chunk = b""
        if not chunk:
            # The guest closed the port. The controller is not told: that is what makes the relay's flush necessary.
            asyncio.get_running_loop().remove_reader(hypervisor)
            hypervisor.close()
            if self._guest is hypervisor:
                self._guest = None
        elif self._writer is not None:
            self._writer.write(chunk)

    def _drop_guest(self) -> None:
        if self._guest is not None:
            asyncio.get_running_loop().remove_reader(self._guest)
            self._guest.close()
            self._guest = None


async def enrolled(world: World) -> credentials.Credentials:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host-1")]))
        .sign(key, hashes.SHA256())
    )
    return credentials.Credentials(
        host="host-1",
        key_pem=pem(key),
        certificate_pem=world.authority.sign_request(request.public_bytes(serialization.Encoding.PEM)),
        authority_pem=world.authority.pem,
        not_after=NOT_AFTER.timestamp(),
    )


@asynccontextmanager
async def greeting(address: str, held: credentials.Credentials) -> AsyncIterator[None]:
    """Hold a session that greets and beats, and connects again when it is lost."""

    async def outgoing() -> AsyncIterator[agent_pb2.AgentMessage]:
        yield agent_pb2.AgentMessage(hello=agent_pb2.Hello(protocol_version=1, host="host-1"))
        while True:
            await asyncio.sleep(0.1)
            yield agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat(boot_id="boot-1"))

    async def hold() -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                async with channel.mutual_tls(address, held, server_name="kernroll-controller") as connection:
                    call = agent_pb2_grpc.AgentServiceStub(connection).Session(outgoing())
                    async for _ in call:
                        pass
            await asyncio.sleep(0.1)

    task = asyncio.create_task(hold())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_the_relay_recovers_from_a_dead_agent_and_a_dead_controller(tmp_path: Path) -> None:
    authority = Authority()
    sessions = Sessions()
    async with contextlib.AsyncExitStack() as stack:
        async with serving(authority, Enrollment(authority), sessions) as world:
            held = await enrolled(world)
            port = StandInPort(world.agent_port)
            await stack.enter_async_context(port.running())

            def relay() -> SerialRelay:
                return SerialRelay(
                    Path("vport0p1"), marker=tmp_path / "marker", boot_id="boot-1", open_device=port.open
                )

            async with relay().running() as address, greeting(address, held):
                await sessions.until_greeted(1)
                await sessions.until_heartbeats(2)
            # The agent is gone, the controller still holds the connection; a new agent comes.
            async with relay().running() as address, greeting(address, held):
                await sessions.until_greeted(2)
                assert port.connections == 2
        survivor = await stack.enter_async_context(relay().running())
        await stack.enter_async_context(greeting(survivor, held))
        successor = Sessions()
        async with serving(authority, Enrollment(authority), successor, world.agent_port):
            await successor.until_greeted(1)
            await successor.until_heartbeats(2)
            assert successor.names[0] == ("host-1", "host-1")
