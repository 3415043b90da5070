"""Composition of the resident agent: the one place where its parts meet the wall clock, randomness and the network."""

import asyncio
import ctypes
import hashlib
import os
import platform
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import grpc.aio
import structlog

from agent.adapters.host.block import KernelBlockDevices
from agent.adapters.host.boot_program import BootProgram
from agent.adapters.host.boots import BootMarkFile, crash_dumps, kept_logs, witnesses
from agent.adapters.host.cgroups import Cgroups
from agent.adapters.host.environment import environment_document
from agent.adapters.host.files import HostFiles
from agent.adapters.host.host import boot_id, read_facts
from agent.adapters.host.kmsg import KernelLogPosition, KernelLogWatcher, open_kernel_log
from agent.adapters.host.processes import ProcessRunner
from agent.adapters.host.readings import KernelReadings
from agent.adapters.host.workers import HostWorkers
from agent.adapters.network import channel
from agent.adapters.network.serial_relay import SerialRelay, find_port
from agent.adapters.state import credentials
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.leftovers import LeftoversFile
from agent.adapters.state.spool import ReportSpool
from agent.domain.errors import EnrollmentError, RigError, Unreachable
from agent.domain.results import KernelLog, kernel_log_report_id
from agent.domain.session.backoff import pause_s
from agent.domain.session.previous_boot import BootMark, digest_of, ended_badly, last_words, obituary
from agent.exits import Exit
from agent.locks import agent_lock, workload_lock
from agent.resident.executor import Executor
from agent.resident.outbox import Outbox
from agent.resident.renewal import Renewal
from agent.resident.resident import Parts, Resident
from agent.settings import Settings, Transport
from agent.workloads.port import Host

log = structlog.get_logger(__name__)

# Attempts of a whole fleet spread over this; a hypervisor's port serves one host only and may be tried more often.
_BACKOFF_LIMIT_S = {Transport.TCP: 10.0, Transport.SERIAL: 2.0}
_OOM_SCORE_ADJUSTMENT = -900
# linux/prctl.h
_PR_SET_THP_DISABLE = 41
# asm-generic/mman.h; the third locks pages when they are touched, not everything that is mapped.
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_ENROLL_LIMIT_S = 90.0
_NO_KERNEL_LOG = "the agent cannot open /dev/kmsg; it needs root, or CAP_SYSLOG and the device"
_EXPIRY_WARNING_S = 7 * 86400.0


def wall_clock() -> float:
    """Return seconds since the Unix epoch."""
    return time.time()  # noqa: TID251 -- the agent is a process of its own; reports carry the time at which they were made


def local_host(state_dir: Path, *, allows_active_swap: bool = False) -> Host:
    """Return the host this process runs on."""
    boot = boot_id()
    # The kernel shows swap files and what loop devices lie on by names without links.
    state_dir = state_dir.resolve()
    # Agents of other state directories must never end each other's processes.
    name = f"kernroll-{hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:8]}"
    tools, proc, sys_folder = ProcessRunner(), Path("/proc"), Path("/sys")
    return Host(
        tools=tools,
        devices=KernelBlockDevices(),
        leftovers=LeftoversFile(state_dir / "leftovers.json", boot),
        workers=HostWorkers(name, Cgroups()),
        files=HostFiles(),
        readings=KernelReadings(proc, sys_folder),
        environment=lambda: environment_document(tools, proc=proc, sys=sys_folder),
        monotonic=time.monotonic,
        sleep=asyncio.sleep,
        boot_id=boot,
        kernel_release=os.uname().release,
        scratch=scratch_of(state_dir),
        is_root=os.geteuid() == 0,
        allows_active_swap=allows_active_swap,
        free_port=_free_port,
        proc=proc,
        sys=sys_folder,
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def scratch_of(state_dir: Path) -> Path:
    """Return where workloads make their files."""
    return state_dir / "scratch"


def open_state(state_dir: Path) -> None:
    """Make the state directory. Raises RigError when it cannot be written."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch_of(state_dir).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RigError(f"{state_dir} cannot be made: {error.strerror}; set state_dir, or run as root") from error
    if not os.access(state_dir, os.W_OK):
        raise RigError(f"{state_dir} cannot be written; set state_dir, or run as root")


async def serve(settings: Settings, config: Path) -> None:
    """Serve until SIGTERM or SIGINT. Raises EnrollmentError, RigError, ConfigError."""
    open_state(settings.state_dir)
    with agent_lock(settings.state_dir).held():
        protect_process()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if not settings.insecure and not await _enrolled(settings, config, stop):
            return
        renewal = _renewal(settings, config, stop)
        async with _connector(settings, renewal) as connect:
            parts = _parts(settings, connect)
            mark = _marked(parts.outbox, BootMarkFile(settings.state_dir / "boot.json"))
            renewing = asyncio.create_task(renewal.run(), name="renewal")
            try:
                await Resident(parts).serve(stop)
            finally:
                renewing.cancel()
            _save(BootMarkFile(settings.state_dir / "boot.json"), replace(mark, stopped=True), parts.outbox)


def _marked(outbox: Outbox, file: BootMarkFile) -> BootMark:
    """Report a former boot that ended without a shutdown, then mark this one; returns the mark."""
    before, logs, dumps = file.load(), kept_logs(), crash_dumps()
    if before is not None and ended_badly(before, outbox.boot_id):
        words = last_words(logs, before.known, before.seen)
        told = obituary(before, words, witnesses(before, dumps))
        log.warning("previous_boot_ended_badly", boot_id=before.boot_id, kept_lines=len(words.records))
        report_id = kernel_log_report_id(outbox.host, before.boot_id, told)
        outbox.report(report_id, "", told, boot_id=before.boot_id)
    mark = BootMark(
        boot_id=outbox.boot_id,
        stopped=False,
        known=(*logs, *dumps),
        seen=tuple(map(digest_of, logs.values())),
        kernel_release=platform.uname().release,
    )
    _save(file, mark, outbox)
    return mark


def _save(file: BootMarkFile, mark: BootMark, outbox: Outbox) -> None:
    if not outbox.spool.durable:
        # What is told of the former boot is in memory alone: the next start tells it again, under the same name.
        log.error("boot_not_marked", error="a report is not on disk yet")
        return
    try:
        file.save(mark)
    except OSError as error:
        # The next boot then knows less of this one.
        log.error("boot_not_marked", error=str(error))


def _parts(settings: Settings, connect: Callable[[int], grpc.aio.Channel]) -> Parts:
    state_dir = settings.state_dir
    host = local_host(state_dir, allows_active_swap=settings.allow_active_swap)
    outbox = Outbox(host=settings.host, boot_id=host.boot_id, spool=ReportSpool(state_dir / "spool"), now=wall_clock)
    journal = CommandJournal(state_dir / "commands.journal")
    # What a newer agent noted ends this one here and not in the middle of its work.
    host.leftovers.noted()
    lock = workload_lock(state_dir)
    descriptor = open_kernel_log()
    watcher = None
    if descriptor is not None:
        position = KernelLogPosition(state_dir / "kernel-log.json", host.boot_id)
        watcher = KernelLogWatcher(
            descriptor,
            position=position,
            deliver=outbox.report_kernel_log,
            durable=lambda: outbox.spool.durable,
        )
    else:
        outbox.report_kernel_log(KernelLog(records=(), lost_records=0, unreadable=_NO_KERNEL_LOG))
    return Parts(
        name=settings.host,
        host=host,
        read_facts=lambda: read_facts(labels=settings.labels, platform_override=settings.platform),
        boot_program=BootProgram(),
        journal=journal,
        outbox=outbox,
        executor=Executor(host=host, journal=journal, outbox=outbox, lock=lock),
        workload_lock=lock,
        connect=connect,
        kernel_log=watcher,
        jitter=random.random,
        backoff_limit_s=_BACKOFF_LIMIT_S[settings.transport],
    )


@asynccontextmanager
async def _connector(settings: Settings, renewal: Renewal) -> AsyncIterator[Callable[[int], grpc.aio.Channel]]:
    """Yield what opens a channel, with the relay running while the transport needs one."""
    if not settings.insecure:
        _credentials(settings)
    async with controller_addresses(settings, settings.agent_port, settings.controllers) as addresses:

        def connect(number: int) -> grpc.aio.Channel:
            address = addresses[number % len(addresses)]
            if settings.insecure:
                return channel.plain(address)
            try:
                # As it is now: it may have been renewed.
                held = _credentials(settings)
            except EnrollmentError as error:
                raise Unreachable(str(error)) from error
            renewal.channel = channel.mutual_tls(address, held, server_name=settings.server_name)
            return renewal.channel

        yield connect


@asynccontextmanager
async def controller_addresses(
    settings: Settings, port_name: str, addresses: tuple[str, ...]
) -> AsyncIterator[tuple[str, ...]]:
    """Yield where to connect to: the addresses themselves, or a relay's to a virtio-serial port. Raises RigError."""
    if settings.transport is Transport.TCP:
        yield addresses
        return
    relay = SerialRelay(find_port(port_name), marker=settings.state_dir / f"{port_name}.boot", boot_id=boot_id())
    async with relay.running() as address:
        yield (address,)


def _renewal(settings: Settings, config: Path, stop: asyncio.Event) -> Renewal:
    async def make_request() -> None:
        await _run_enroll(config, stop, "--request")

    return Renewal(state_dir=settings.state_dir, make_request=make_request, now=wall_clock, jitter=random.random)


def _credentials(settings: Settings) -> credentials.Credentials:
    held = credentials.load(settings.state_dir)
    if held is None:
        raise EnrollmentError(f"{settings.state_dir} holds no certificate; run kernroll-agent enroll")
    now = wall_clock()
    credentials.check(held, host=settings.host, now=now, state_dir=settings.state_dir)
    credentials.check_files(settings.state_dir, str(settings.state_dir))
    if held.not_after - now < _EXPIRY_WARNING_S:
        log.warning("certificate_expires_soon", hours_left=round((held.not_after - now) / 3600, 1))
    return held


async def _enrolled(settings: Settings, config: Path, stop: asyncio.Event) -> bool:
    """Enroll in a process of its own, whose libraries are gone afterwards; False when told to stop meanwhile."""
    attempt = 0
    held = credentials.load(settings.state_dir)
    if held is not None and not held.token_digest and settings.join_token:
        # An older agent did not note it; from now on another one is noticed.
        held = replace(held, token_digest=credentials.digest_of(settings.join_token))
        credentials.store(settings.state_dir, held)
    counts = held is not None and held.not_after > wall_clock()
    # Another token than the certificate was made for is somebody's wish to enroll the host again: it was forgotten, or
    # the controller's authority or database is new.
    another = held is not None and held.token_digest not in ("", credentials.digest_of(settings.join_token))
    if held is not None and not (settings.join_token and (another or not counts)):
        return True
    if held is not None:
        why = "certificate_expired" if not counts else "new_join_token"
        log.warning(why, detail="enrolling again with the kept key and the configured join token")
    while True:
        status = await _run_enroll(config, stop)
        if stop.is_set():
            return False
        if status is Exit.OK:
            return True
        if counts:
            # What it holds may still do; a session tells.
            log.warning("not_enrolled_again", detail="going on with the certificate there is; the lines above say why")
            return True
        if status is not Exit.UNREACHABLE:
            raise EnrollmentError("enrollment failed; the lines above say why")
        pause = pause_s(attempt, base_s=0.5, limit_s=_BACKOFF_LIMIT_S[settings.transport], jitter=random.random())
        attempt += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()


async def _run_enroll(config: Path, stop: asyncio.Event, *more: str) -> Exit:
    command = (sys.executable, "-m", "agent.main", "enroll", "--config", str(config), *more)
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    ended = asyncio.create_task(process.wait())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({ended, stopped}, timeout=_ENROLL_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    status = await ended
    # A process that was killed, here or by somebody else, is worth another try.
    return Exit(status) if status in set(Exit) else Exit.UNREACHABLE


def protect_process() -> None:
    """Make this process survive what workloads do to the host, and disturb their measurements little."""
    _protect_from_oom_killer()
    _keep_small_pages()
    _stay_in_memory()


def _keep_small_pages() -> None:
    """Keep the agent's own memory out of huge pages: the kernel would move it around by MiB while a run measures."""
    refused = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    if refused:
        log.info("huge_pages_unchanged", error=os.strerror(ctypes.get_errno()))


def _stay_in_memory() -> None:
    """Keep what the agent has touched from being swapped out: it must answer while a workload starves the host."""
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        log.info("memory_unlocked", error=os.strerror(ctypes.get_errno()))


def _protect_from_oom_killer() -> None:
    """Ask the kernel to kill the agent last: it has to report what killed the rest."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJUSTMENT))
    except OSError as error:
        log.info("oom_score_unchanged", error=error.strerror)
