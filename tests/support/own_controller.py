"""A whole controller on the loopback interface with TLS, on files that outlive it; and raw calls as its hosts."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from engine_parts import OneKernel
from patience import PATIENCE_S

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import SERVER_NAME, TOKEN_PREFIX, Authority, open_authority
from controller.adapters.store.sql import SqlStore, sqlite_store
from controller.assembly import assemble_core
from controller.main import listen
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.services.agents.sessions import Sessions
from controller.services.engine.engine import Engine
from controller.services.operating.rollouts import Operations
from controller.settings import Settings
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc, common_pb2

DEADLINE_S = PATIENCE_S
Key = ec.EllipticCurvePrivateKey


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def key_pem(key: Key) -> bytes:
    """Return the key as it lies on disk."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def request(name: str, key: Key) -> bytes:
    """Return a signing request."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate with its key."""

    key: Key
    certificate: bytes


@dataclass(slots=True, kw_only=True)
class OwnController:
    """One life of a controller."""

    authority: Authority
    store: SqlStore
    engine: Engine
    sessions: Sessions
    operations: Operations
    enrollment: Enrollment
    epochs: Epochs
    port: int
    enroll_port: int
    # Receipts: command id and why it was refused.
    receipts: list[tuple[str, str]] = field(default_factory=list)

    @asynccontextmanager
    async def channel(self, held: Held | None = None) -> AsyncIterator[Any]:
        """Yield a channel as this host, or without a certificate to where hosts enroll."""
        tls = grpc.ssl_channel_credentials(
            root_certificates=self.authority.certificate_pem,
            private_key=key_pem(held.key) if held else None,
            certificate_chain=held.certificate if held else None,
        )
        address = f"127.0.0.1:{self.port if held else self.enroll_port}"
        options = (("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1))
        async with asyncio.timeout(DEADLINE_S), grpc.aio.secure_channel(address, tls, options=options) as channel:
            yield channel

    async def enroll(self, host: str, key: Key | None = None, *, secret: str = "") -> Held:
        """Enroll over the wire, with a token of its own; raises AioRpcError."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        secret = secret or await self.secret()
        async with self.channel() as channel:
            body = agent_pb2.EnrollRequest(
                token_secret=secret, host=host, certificate_signing_request_pem=request(host, key)
            )
            answer = await agent_pb2_grpc.EnrollmentServiceStub(channel).Enroll(body)
        return Held(key=key, certificate=answer.certificate_pem)

    async def secret(self) -> str:
        """Make a token for one host; return the secret in it."""
        body = (await self.enrollment.create_token(1, 60.0)).removeprefix(TOKEN_PREFIX)
        found: str = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["secret"]
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that changes with what the engine shows."""
        seen = -1
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                seen = await self.engine.wait_for_change(seen, 0.2)


@asynccontextmanager
async def own_controller(
    directory: Path, port: int, enroll_port: int, *, heartbeat_interval_s: float = 30.0
) -> AsyncIterator[OwnController]:
    """Run a controller on the files in `directory`; leaving ends it and keeps them.

    The tests' hosts send no heartbeats: the interval is longer than a slow machine takes for a whole test.
    """
    clock = SystemClock()
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 -- once, before anything runs
    store = sqlite_store(directory / "kernroll.db")
    epochs = Epochs(store, await store.open())
    authority = open_authority(directory / "authority", clock.now())
    core = assemble_core(store, clock, OneKernel())
    engine, sessions, operations = core.engine, core.sessions, core.operations
    enrollment = Enrollment(store, authority, clock)
    await enrollment.load()
    await engine.start()
    settings = Settings(
        state_dir=directory,
        listen=f"127.0.0.1:{port}",
        enroll_listen=f"127.0.0.1:{enroll_port}",
        heartbeat_interval_s=heartbeat_interval_s,
    )
    found = OwnController(
        authority=authority,
        store=store,
        engine=engine,
        sessions=sessions,
        operations=operations,
        enrollment=enrollment,
        epochs=epochs,
        port=port,
        enroll_port=enroll_port,
    )
    accepted = sessions.accepted

    async def noted(host: str, command_id: str, refused: str) -> None:
        found.receipts.append((command_id, refused))
        await accepted(host, command_id, refused)
        await engine.touch()

    sessions.accepted = noted  # type: ignore[method-assign]  # what the tests look at
    before = asyncio.all_tasks()
    servers = await listen(settings, authority, clock, epochs, (sessions, operations, enrollment))
    try:
        yield found
    finally:
        for server in servers:
            await server.stop(0.2)
        await engine.close()
        # Calls that were under way still write; the store's thread would leave them waiting for ever.
        if others := asyncio.all_tasks() - before:
            await asyncio.wait(others, timeout=2.0)
        await store.close()


FACTS = {"architecture": "arm64", "kernel_release": "7.0.13", "page_size_bytes": 4096}


def hello(host: str, boot: str = "boot-1", *, epoch: int = 0) -> agent_pb2.AgentMessage:
    """Return what a host says first."""
    facts = common_pb2.HostFacts(boot_id=boot, **FACTS)  # type: ignore[arg-type]  # fields of several kinds
    body = agent_pb2.Hello(protocol_version=1, host=host, facts=facts, highest_epoch=epoch)
    return agent_pb2.AgentMessage(hello=body)


async def refusal(channel: Any, message: agent_pb2.AgentMessage) -> tuple[grpc.StatusCode, str]:
    """Open a session with this Hello; return what it ends with."""
    call = agent_pb2_grpc.AgentServiceStub(channel).Session()
    try:
        await call.write(message)
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs do not know it
            pass
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    return await call.code(), await call.details()
