"""The controller's listeners on loopback with real TLS: who may call what, and what bad callers are told."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from patience import PATIENCE_S

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import SERVER_NAME, TOKEN_PREFIX, Authority, Credentials, open_authority
from controller.adapters.store.memory import MemoryStore
from controller.assembly import assemble_core
from controller.domain.errors import NotFound, Temporary
from controller.domain.kernels import Kernel, KernelSource
from controller.main import listen
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.services.agents.sessions import Sessions
from controller.services.engine.engine import Engine
from controller.services.records import Enrolled
from controller.settings import Settings
from protos.kernroll.v1 import (
    agent_pb2,
    agent_pb2_grpc,
    common_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)

DEADLINE_S = PATIENCE_S
FACTS = common_pb2.HostFacts(architecture="arm64", kernel_release="7.0.13", boot_id="boot-1", page_size_bytes=4096)


class NoKernels:
    """A kernel store with nothing in it."""

    async def resolve(self, source: KernelSource, architecture: str) -> Kernel:
        raise NotFound(f"no kernel for {architecture}: {source}")

    async def load(self, digest: str) -> Kernel:
        raise NotFound(digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    authority: Authority
    store: MemoryStore
    engine: Engine
    enrollment: Enrollment
    sessions: Sessions
    port: int
    enroll_port: int

    @asynccontextmanager
    async def channel(self, credentials: Credentials | None, *, enroll: bool = False) -> AsyncIterator[Any]:
        """A channel as somebody who holds these credentials, or none."""
        tls = grpc.ssl_channel_credentials(
            root_certificates=self.authority.certificate_pem,
            private_key=credentials.key_pem if credentials else None,
            certificate_chain=credentials.certificate_pem if credentials else None,
        )
        address = f"127.0.0.1:{self.enroll_port if enroll else self.port}"
        options = (("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1))
        async with asyncio.timeout(DEADLINE_S), grpc.aio.secure_channel(address, tls, options=options) as channel:
            yield channel

    def operator(self) -> Credentials:
        return self.authority.operator("olga", SystemClock().now())

    def agent(self, host: str) -> Credentials:
        """Return what a host has that is enrolled."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self.authority.sign_agent(request(host, key), host, SystemClock().now())
        known = Enrolled(host=host, key_digest=signed.key_digest, serial=signed.serial, not_after=signed.not_after)
        self.store.disk.enrolled[host] = known
        self.enrollment.identities.note(known)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Credentials(
            key_pem=pem, certificate_pem=signed.certificate_pem, authority_pem=self.authority.certificate_pem
        )


def request(host: str, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    clock, store = SystemClock(), MemoryStore()
    authority = open_authority(tmp_path / "authority", clock.now())
    epoch = await store.open()
    core = assemble_core(store, clock, NoKernels())
    engine, sessions, operations = core.engine, core.sessions, core.operations
    enrollment = Enrollment(store, authority, clock)
    port, enroll_port = free_port(), free_port()
    settings = Settings(
        state_dir=tmp_path,
        listen=f"127.0.0.1:{port}",
        enroll_listen=f"127.0.0.1:{enroll_port}",
        # The hosts here send none.
        heartbeat_interval_s=600.0,
    )
    servers = await listen(settings, authority, clock, Epochs(store, epoch), (sessions, operations, enrollment))
    yield Controller(
        authority=authority,
        store=store,
        engine=engine,
        enrollment=enrollment,
        sessions=sessions,
        port=port,
        enroll_port=enroll_port,
    )
    for server in servers:
        await server.stop(None)
    await engine.close()


def hello(host: str = "h1", version: int = 1, facts: common_pb2.HostFacts = FACTS) -> agent_pb2.AgentMessage:
    return agent_pb2.AgentMessage(hello=agent_pb2.Hello(protocol_version=version, host=host, facts=facts))


async def refusal(channel: Any, *messages: agent_pb2.AgentMessage) -> tuple[grpc.StatusCode, str]:
    """Open a session with these messages; return what it ends with."""
    call = agent_pb2_grpc.AgentServiceStub(channel).Session()
    try:
        for message in messages:
            await call.write(message)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs do not know it
            pass
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    return await call.code(), await call.details()


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    """Make a call that fails; return how."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def until(controller: Controller, condition: Callable[[], bool]) -> None:
    seen = -1
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            seen = await controller.engine.wait_for_change(seen, DEADLINE_S)


async def secret(controller: Controller, valid_s: float = 60.0) -> str:
    """Make a token for one host; return the secret in it."""
    token = await controller.enrollment.create_token(1, valid_s)
    body = token.removeprefix(TOKEN_PREFIX)
    found: str = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["secret"]
    return found


async def test_a_host_is_known_while_its_session_lasts(controller: Controller) -> None:
    async with controller.channel(controller.agent("h1")) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Session()
        await call.write(hello())
        welcome = (await call.read()).welcome
        assert (welcome.protocol_version, welcome.epoch) == (1, 1)
        await until(controller, lambda: controller.sessions.is_connected("h1"))
        assert controller.engine.world.hosts["h1"].stratum == "arm64/unknown"
        call.cancel()
        await until(controller, lambda: not controller.engine.world.hosts["h1"].connected)


async def test_reports_are_acknowledged_whatever_they_are_of(controller: Controller) -> None:
    reports = (
        agent_pb2.Report(report_id="r1", command_id="gone/h1/0.baseline.0", outcome=agent_pb2.CommandOutcome()),
        agent_pb2.Report(report_id="r2", command_id="gone/h2/0.baseline.0", outcome=agent_pb2.CommandOutcome()),
        agent_pb2.Report(report_id="r3", command_id="senseless", run=common_pb2.WorkloadRun()),
        agent_pb2.Report(report_id="r4", kernel_log=agent_pb2.KernelLog()),
        agent_pb2.Report(report_id="r5"),
    )
    async with controller.channel(controller.agent("h1")) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Session()
        await call.write(hello())
        assert (await call.read()).HasField("welcome")
        for report in reports:
            await call.write(agent_pb2.AgentMessage(report=report))
        acknowledged = [(await call.read()).acknowledgement.report_ids[0] for _ in reports]
        assert acknowledged == ["r1", "r2", "r3", "r4", "r5"]
        call.cancel()
    # Told again they would say nothing again, so nothing is kept of them: nobody fills a store with such reports.
    assert controller.store.disk.reports == set()


async def test_a_report_that_cannot_be_kept_is_not_acknowledged(controller: Controller) -> None:
    async with controller.channel(controller.agent("h1")) as channel:
        call = agent_pb2_grpc.AgentServiceStub(channel).Session()
        await call.write(hello())
        assert (await call.read()).HasField("welcome")
        await until(controller, lambda: controller.sessions.is_connected("h1") and "h1" in controller.store.disk.hosts)
        controller.store.disk.failure = Temporary("the disk is full")
        record = common_pb2.KernelLogRecord(text="WARNING: possible circular locking dependency detected")
        body = agent_pb2.Report(report_id="r1", boot_id="boot-1", kernel_log=agent_pb2.KernelLog(records=[record]))
        await call.write(agent_pb2.AgentMessage(report=body))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the disk is full")
    assert controller.store.disk.reports == set()


async def test_a_newer_session_replaces_the_older(controller: Controller) -> None:
    async with controller.channel(controller.agent("h1")) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        older, newer = stub.Session(), stub.Session()
        await older.write(hello())
        assert (await older.read()).HasField("welcome")
        await until(controller, lambda: controller.sessions.is_connected("h1"))
        await newer.write(hello())
        assert (await newer.read()).HasField("welcome")
        assert (await older.read()).goodbye.reason == "another session of this host has begun"
        assert await older.code() is grpc.StatusCode.OK
        assert controller.sessions.is_connected("h1")
        newer.cancel()


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (hello(host="h2"), grpc.StatusCode.PERMISSION_DENIED, "the certificate is for h1, not for h2"),
        (hello(version=2), grpc.StatusCode.FAILED_PRECONDITION, "speaks protocol 1, the agent speaks 2"),
        (hello(facts=common_pb2.HostFacts()), grpc.StatusCode.INVALID_ARGUMENT, "says nothing in facts.architecture"),
        (agent_pb2.AgentMessage(), grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a Hello"),
        (None, grpc.StatusCode.INVALID_ARGUMENT, "the first message must be a Hello"),
    ],
)
async def test_sessions_that_are_refused(
    controller: Controller, message: agent_pb2.AgentMessage | None, code: grpc.StatusCode, words: str
) -> None:
    async with controller.channel(controller.agent("h1")) as channel:
        found, details = await refusal(channel, *([message] if message is not None else []))
    assert found is code
    assert words in details
    assert controller.engine.world.hosts == {}


async def test_an_operator_is_no_agent(controller: Controller) -> None:
    async with controller.channel(controller.operator()) as channel:
        code, details = await refusal(channel, hello())
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "the certificate is for nobody" in details


@pytest.mark.parametrize("whose", ["nobody", "another authority"])
async def test_who_is_not_known_does_not_get_in(controller: Controller, tmp_path: Path, whose: str) -> None:
    other = open_authority(tmp_path / "other", SystemClock().now())
    credentials = other.operator("eve", SystemClock().now()) if whose == "another authority" else None
    async with controller.channel(credentials) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        code, _ = await failure(stub.ListHosts(operator_pb2.ListHostsRequest(), timeout=DEADLINE_S / 2))
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_an_agent_may_not_make_operators_calls(controller: Controller) -> None:
    async with controller.channel(controller.agent("h1")) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        fleet = fleet_pb2_grpc.FleetServiceStub(channel)
        name = operator_pb2.GetRolloutRequest(name="r")
        calls = (
            stub.ListHosts(operator_pb2.ListHostsRequest()),
            stub.StartRollout(operator_pb2.StartRolloutRequest(spec_yaml="x")),
            stub.ControlRollout(operator_pb2.ControlRolloutRequest(name="r")),
            stub.CreateJoinToken(operator_pb2.CreateJoinTokenRequest()),
            stub.WatchRollout(name).read(),
            fleet.LabelHost(fleet_pb2.LabelHostRequest(host="h1", labels={"zone": "a"})),
            fleet.QuarantineHost(fleet_pb2.ActOnHostRequest(name="h1", remark="x")),
            fleet.ReleaseHost(fleet_pb2.ActOnHostRequest(name="h1")),
            fleet.ForgetHost(fleet_pb2.ActOnHostRequest(name="h1", remark="x")),
            stub.RenewOperator(operator_pb2.RenewOperatorRequest()),
            fleet.DenyKernel(fleet_pb2.DenyKernelRequest(kernel="7.1", reason="x")),
            fleet.AllowKernel(fleet_pb2.AllowKernelRequest(kernel="7.1")),
            fleet.FreezeFleet(fleet_pb2.FreezeFleetRequest(remark="x")),
            fleet.ThawFleet(fleet_pb2.ThawFleetRequest()),
            fleet.ImportInventory(fleet_pb2.ImportInventoryRequest(inventory="x")),
            fleet.GetFleetLog(fleet_pb2.GetFleetLogRequest(most=1)),
            fleet.GetFleet(fleet_pb2.GetFleetRequest()),
        )
        for call in calls:
            code, details = await failure(call)
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "needs an operator's certificate" in details
    assert controller.store.disk.log == []


async def test_operators_errors_have_codes_and_sentences(controller: Controller) -> None:
    async with controller.channel(controller.operator()) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        code, details = await failure(stub.GetRollout(operator_pb2.GetRolloutRequest(name="r")))
        assert (code, details.partition(";")[0]) == (grpc.StatusCode.NOT_FOUND, "there is no rollout r")
        code, details = await failure(stub.PlanRollout(operator_pb2.PlanRolloutRequest(spec_yaml="{", file_name="f")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "f:" in details
        assert (await stub.ListHosts(operator_pb2.ListHostsRequest())).hosts == []


async def test_enrollment_takes_a_token_once(controller: Controller) -> None:
    token = await secret(controller)
    async with controller.channel(None, enroll=True) as channel:
        stub = agent_pb2_grpc.EnrollmentServiceStub(channel)

        def enroll(token: str, host: str, pem: bytes) -> Any:
            body = agent_pb2.EnrollRequest(token_secret=token, host=host, certificate_signing_request_pem=pem)
            return stub.Enroll(body)

        key = ec.generate_private_key(ec.SECP256R1())
        assert (await failure(enroll("guess", "h1", request("h1"))))[0] is grpc.StatusCode.UNAUTHENTICATED
        assert (await failure(enroll(token, "h1", request("h2"))))[0] is grpc.StatusCode.INVALID_ARGUMENT
        for bad in ("", "../h1", "h/1", "h" * 65, "hö", "h1."):
            code, details = await failure(enroll(token, bad, request("h1")))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "is no host name" in details
        code, _ = await failure(enroll(token, "h1", b"x" * 100_000))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        answer = await enroll(token, "h1", request("h1", key))
        assert answer.authority_pem == controller.authority.certificate_pem
        # The first answer may have been lost on its way.
        assert (await enroll(token, "h1", request("h1", key))).certificate_pem
        assert (await failure(enroll(token, "h2", request("h2"))))[0] is grpc.StatusCode.UNAUTHENTICATED
        another = await secret(controller)
        code, details = await failure(enroll(another, "h1", request("h1")))
        assert code is grpc.StatusCode.ALREADY_EXISTS
        assert "another key" in details


async def test_an_expired_token_is_refused(controller: Controller) -> None:
    token = await secret(controller, valid_s=1e-9)
    async with controller.channel(None, enroll=True) as channel:
        stub = agent_pb2_grpc.EnrollmentServiceStub(channel)
        body = agent_pb2.EnrollRequest(token_secret=token, host="h1", certificate_signing_request_pem=request("h1"))
        assert (await failure(stub.Enroll(body)))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_the_enrollment_port_serves_nothing_else(controller: Controller) -> None:
    async with controller.channel(None, enroll=True) as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        code, _ = await failure(stub.CreateJoinToken(operator_pb2.CreateJoinTokenRequest()))
    assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_health_and_reflection_answer(controller: Controller) -> None:
    async with controller.channel(controller.operator()) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        status = (await health.Check(health_pb2.HealthCheckRequest())).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        ours = {"kernroll.v1.AgentService", "kernroll.v1.OperatorService", "kernroll.v1.FleetService"}
        assert {*ours, "grpc.health.v1.Health"} <= listed
        call.cancel()
