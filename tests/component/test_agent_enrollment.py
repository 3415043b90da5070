"""Enrollment and mutual TLS, over TCP and over a stand-in for a virtio-serial port."""

import asyncio
import contextlib
import datetime
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
from agent_controller import DEADLINE_S, NOT_AFTER, SECRET, Authority, Controller, Enrollment, pem, serving_tls
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.adapters.network import channel
from agent.adapters.network.serial_relay import SerialRelay
from agent.adapters.state import credentials
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    authority: Authority
    enrollment: Enrollment
    controller: Controller
    enroll_port: int
    agent_port: int


@pytest.fixture
async def world() -> AsyncIterator[World]:
    authority = Authority()
    enrollment, controller = Enrollment(authority), Controller()
    async with serving_tls(controller, enrollment) as (agent_port, enroll_port):
        yield World(
            authority=authority,
            enrollment=enrollment,
            controller=controller,
            enroll_port=enroll_port,
            agent_port=agent_port,
        )


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
        await world.controller.until(lambda count=count: len(world.controller.names) >= count)
        process.send_signal(signal.SIGTERM)
        status, stderr = await finish(process)
        assert status == 0, stderr
        assert SECRET not in stderr
    assert world.enrollment.hosts == ["host-1"]
    assert world.controller.names == [("host-1", "host-1")] * 2
    assert (tmp_path / "state/client.key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "state/pending.key").exists()


async def test_another_token_enrolls_again_and_a_wrong_one_changes_nothing(tmp_path: Path, world: World) -> None:
    """A forgotten host, or one whose controller has a new authority, comes back with a new token and a start."""
    world.enrollment.secrets.add("another secret")
    for token, enrolled in (
        (world.authority.token(), 1),
        # The same one again: enrolled is enrolled.
        (world.authority.token(), 1),
        (world.authority.token("another secret"), 2),
        (world.authority.token("guess"), 2),
    ):
        config = configure(tmp_path, world, token)
        seen = len(world.controller.names)
        process = await start("serve", "--config", str(config))
        await world.controller.until(lambda seen=seen: len(world.controller.names) > seen)
        process.send_signal(signal.SIGTERM)
        status, stderr = await finish(process)
        assert status == 0, stderr
        assert len(world.enrollment.hosts) == enrolled, stderr
    assert "not_enrolled_again" in stderr
    assert "unknown, used up or expired" in stderr


async def test_a_wrong_token_is_final(tmp_path: Path, world: World) -> None:
    config = configure(tmp_path, world, world.authority.token("guess"))
    status, stderr = await finish(await start("serve", "--config", str(config)))
    assert status == 4
    assert "the join token is unknown, used up or expired" in stderr
    assert world.controller.names == []


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


def enrolled(authority: Authority) -> credentials.Credentials:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host-1")]))
        .sign(key, hashes.SHA256())
    )
    return credentials.Credentials(
        host="host-1",
        key_pem=pem(key),
        certificate_pem=authority.sign_request(request.public_bytes(serialization.Encoding.PEM)),
        authority_pem=authority.pem,
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
    enrollment, controller = Enrollment(authority), Controller()
    held = enrolled(authority)
    async with contextlib.AsyncExitStack() as stack:
        async with serving_tls(controller, enrollment) as (agent_port, _):
            port = StandInPort(agent_port)
            await stack.enter_async_context(port.running())

            def relay() -> SerialRelay:
                return SerialRelay(
                    Path("vport0p1"), marker=tmp_path / "marker", boot_id="boot-1", open_device=port.open
                )

            async with relay().running() as address, greeting(address, held):
                await controller.until(lambda: len(controller.heartbeats) >= 2)
            # The agent is gone, the controller still holds the connection; a new agent comes.
            async with relay().running() as address, greeting(address, held):
                await controller.until(lambda: len(controller.names) == 2)
                assert port.connections == 2
        survivor = await stack.enter_async_context(relay().running())
        await stack.enter_async_context(greeting(survivor, held))
        successor = Controller()
        async with serving_tls(successor, enrollment, agent_port):
            await successor.until(lambda: len(successor.heartbeats) >= 2)
            assert successor.names[0] == ("host-1", "host-1")
