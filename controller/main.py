"""The composition root: the one place where adapters meet ports."""

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import _async as health_aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controller.adapters.checks.checker import NetworkChecker
from controller.adapters.delivery.ansible.delivery import AnsibleDelivery
from controller.adapters.delivery.ansible.program import AgentProgram, EitherProgram, PlayedProgram
from controller.adapters.delivery.hypervisor.delivery import HypervisorDelivery
from controller.adapters.delivery.routed import RoutedDelivery
from controller.adapters.kernels import KernelStore
from controller.adapters.kernels.asynchronous import StoredKernels
from controller.adapters.local.cache import Cache
from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import (
    Authority,
    is_authority,
    open_authority,
    operator_is_stale,
    write_operator,
)
from controller.adapters.places.nowhere import Nowhere
from controller.adapters.plays.leftovers import end_orphans
from controller.adapters.plays.queue import PlayQueue
from controller.adapters.plays.runner import Plays
from controller.adapters.power.managed import InventoryPower, NoPower
from controller.adapters.rpc.agent_service import AgentService, EnrollmentService, add_agent_service
from controller.adapters.rpc.fleet_service import FleetService
from controller.adapters.rpc.operator_service import OperatorService
from controller.adapters.store.sql import sqlite_store
from controller.assembly import assemble, assemble_core
from controller.domain.errors import Permanent
from controller.domain.planning import own_disks
from controller.domain.printable import printable
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.services.agents.sessions import Sessions
from controller.services.engine.working import WorkJournal
from controller.services.operating.rollouts import Operations
from controller.services.ports import Clock, Delivery, Store
from controller.settings import Settings
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc, fleet_pb2, fleet_pb2_grpc, operator_pb2, operator_pb2_grpc

_log = structlog.get_logger("controller")

_STOP_GRACE_S = 2.0
_SWITCH_INTERVAL_S = 0.0005
_LONGEST_USER_NAME = 64
_OPERATOR_RENEWAL_S = 30 * 86_400.0
_OPERATOR_LOOK_S = 3600.0
# The largest message that is taken in: a specification, or a run with its evidence, which agents keep smaller.
MESSAGE_BYTES = 4 * 2**20
_ENROLLMENT_BYTES = 64 * 2**10
_SERVER_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def run_controller(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises Permanent or Temporary with what to change when it cannot start."""
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Permanent(f"--state-dir {settings.state_dir} cannot be made: {error.strerror}") from error
    with _only_one(settings.state_dir):
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    store = sqlite_store(settings.state_dir / "kernroll.db")
    try:
        await _serve_from(store, settings)
    finally:
        # Its thread would keep the process alive, whatever the reason for the end.
        await store.close()


async def _serve_from(store: Store, settings: Settings) -> None:
    clock = SystemClock()
    kept = settings.state_dir / "authority"
    epochs = Epochs(store, await store.open(may_create=settings.new_database or not is_authority(kept)))
    made_anew = settings.new_authority or not await store.enrolled()
    authority = open_authority(kept, clock.now(), may_create=made_anew)
    cache = Cache(root=settings.cache_dir) if settings.cache_dir else Cache.from_environment()
    kernels = StoredKernels(KernelStore(cache))
    core = assemble_core(store, clock, kernels)
    engine = core.engine
    virtual = HypervisorDelivery(settings.fleet_dir or settings.state_dir / "fleet", kernels_dir=cache.root / "kernels")
    program = EitherProgram(AgentProgram(core.sessions.boot_requests), played(settings, core.journal), core.journal)
    installed = AnsibleDelivery(program, engine.host_named, installs=settings.inventory is not None)
    ways: dict[str, Delivery] = {"hypervisor": virtual, own_disks.DELIVERY: installed}
    delivery = RoutedDelivery(ways, engine.delivery_of)
    core.operations.delivery_of = delivery.chosen
    checker = NetworkChecker()
    power = NoPower() if settings.inventory is None else InventoryPower(settings.inventory)
    services = assemble(core, clock, kernels, delivery, Nowhere(), checker=checker, power=power)
    enrollment = Enrollment(store, authority, clock)
    await enrollment.load()
    renew_operator(settings, authority, clock)
    async with contextlib.AsyncExitStack() as ending:
        # From below: nobody calls any more, nothing is decided, nothing performed, and what was begun is written.
        ending.push_async_callback(engine.close)
        ending.callback(checker.close)
        ending.push_async_callback(core.journal.close)
        ending.push_async_callback(services.performer.close)
        # A start performs what is outstanding: whatever fails from here on leaves nothing at work on a closed store.
        await engine.start()
        front = (services.sessions, services.operations, enrollment)
        servers = await listen(settings, authority, clock, epochs, front)
        work = (engine.run(), services.watcher.run(), _keep_operator(settings, authority, clock))
        tasks = [asyncio.create_task(one) for one in work]
        ending.push_async_callback(_cancelled, tasks)
        for server in servers:
            ending.push_async_callback(server.stop, _STOP_GRACE_S)
        ending.callback(services.sessions.end, "the controller stops")
        _log.info("serving", listen=settings.listen, enroll=settings.enroll_listen, epoch=epochs.current)
        await _until_stopped(tasks)


def played(settings: Settings, journal: WorkJournal) -> PlayedProgram | None:
    """Return what asks hosts over ssh; None without an inventory that says how they are reached."""
    if settings.inventory is None:
        return None
    if found := end_orphans():
        _log.warning("plays_ended", plays=found, why="whoever asked for them was killed")
    return PlayedProgram(Plays(settings.inventory, queue=PlayQueue(settings.most_plays)), journal)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def renew_operator(settings: Settings, authority: Authority, clock: Clock) -> None:
    """Write new credentials for the operator of this machine when the present ones end soon or are no use."""
    renewal = clock.now() + _OPERATOR_RENEWAL_S
    if not settings.insecure_plaintext and operator_is_stale(settings.client_dir, authority, renewal):
        write_operator(settings.client_dir, authority.operator(user_name(os.environ), clock.now()))
        _log.info("operator_certificate_written", directory=str(settings.client_dir))


async def _keep_operator(settings: Settings, authority: Authority, clock: Clock) -> None:
    while True:
        await asyncio.sleep(_OPERATOR_LOOK_S)
        try:
            renew_operator(settings, authority, clock)
        except OSError as error:
            _log.error("operator_certificate_not_written", directory=str(settings.client_dir), error=error.strerror)


async def _until_stopped(tasks: list[asyncio.Task[None]]) -> None:
    """Return on a signal; raise what a task died of."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for task in done:
        task.result()


async def listen(
    settings: Settings,
    authority: Authority,
    clock: Clock,
    epochs: Epochs,
    services: tuple[Sessions, Operations, Enrollment],
) -> list[grpc.aio.Server]:
    # Threads read what is large: they let go of the interpreter soon enough for the loop to answer everybody else.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What is there by now stays: to look through it for garbage again and again would hold everybody up.
    gc.collect()
    gc.freeze()
    sessions, operations, enrollment = services

    def forgotten(host: str, reason: str) -> None:
        enrollment.identities.forget(host)
        sessions.forget(host, reason)

    operations.fleet.on_forgotten = forgotten
    plaintext = settings.insecure_plaintext
    main = grpc.aio.server(options=(*_SERVER_OPTIONS, _at_most(MESSAGE_BYTES)))
    # Whoever enrolls is nobody yet.
    enrolling = grpc.aio.server(options=(*_SERVER_OPTIONS, _at_most(_ENROLLMENT_BYTES)))
    agents = AgentService(
        sessions,
        clock,
        enrollment=enrollment,
        epochs=epochs,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        plaintext=plaintext,
    )
    add_agent_service(main, agents)
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(
        OperatorService(operations, enrollment, plaintext=plaintext), main
    )
    fleet_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(operations.fleet, plaintext=plaintext), main)
    agent_pb2_grpc.add_EnrollmentServiceServicer_to_server(EnrollmentService(enrollment), enrolling)
    checks = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, main)
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    names = (
        agent_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name,
        operator_pb2.DESCRIPTOR.services_by_name["OperatorService"].full_name,
        fleet_pb2.DESCRIPTOR.services_by_name["FleetService"].full_name,
        health.SERVICE_NAME,
        reflection.SERVICE_NAME,
    )
    reflection.enable_server_reflection(names, main)
    server = authority.server((settings.listen.rpartition(":")[0],), clock.now())
    pair = [(server.key_pem, server.certificate_pem)]
    mutual = grpc.ssl_server_credentials(pair, authority.certificate_pem, require_client_auth=True)
    try:
        _bind(main, settings.listen, None if plaintext else mutual)
        _bind(enrolling, settings.enroll_listen, None if plaintext else grpc.ssl_server_credentials(pair))
        await main.start()
        await enrolling.start()
    except BaseException:
        # One of both is no controller.
        for each in (main, enrolling):
            await each.stop(None)
        raise
    return [main, enrolling]


def _at_most(size_bytes: int) -> tuple[str, int]:
    return ("grpc.max_receive_message_length", size_bytes)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> None:
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Permanent(f"cannot listen on {address}: it is in use or not an address of this machine") from error


@contextlib.contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory against a second controller."""
    # For both directions: opening what is no file but a FIFO would wait for somebody who reads.
    with os.fdopen(
        os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0
    ) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Permanent(
                f"another controller is running on {state_dir}: stop it, or use another --state-dir"
            ) from error
        yield


def user_name(environment: Mapping[str, str]) -> str:
    """Return the name of who runs this, as it stands in a certificate and in the record of decisions."""
    name = environment.get("SUDO_USER") or environment.get("USER") or ""
    return printable(name, _LONGEST_USER_NAME) or "operator"
