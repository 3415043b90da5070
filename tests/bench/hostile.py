"""What other hosts notice while one misbehaves: `make bench-hostile`.

A controller with its real store serves in a process of its own; eight hosts report measured runs at a steady pace, and
what is timed is a report until its acknowledgement, which comes when it is durable. A third process is the hostile
host: one way after another, as fast as it can. Exits with 1 when a way costs the others more than the limit, or one of
them its session.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio
import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from engine_parts import STARTED, UID, OneKernel, planned
from noise_table import write
from simulated_fleet import SPEC

from controller.adapters.local.clock import SystemClock
from controller.adapters.pki.certificates import open_authority
from controller.adapters.store.sql import sqlite_store
from controller.assembly import assemble_core
from controller.domain.record.names import Key
from controller.main import listen
from controller.services.agents.enrollment import Enrollment
from controller.services.agents.identity import Epochs
from controller.settings import Settings
from protos.kernroll.v1 import agent_pb2, agent_pb2_grpc, common_pb2

HONEST = tuple(f"host-{number}" for number in range(8))
HOSTILE = "hostile"
PACE_S = 0.15
LIMIT_MS = 100.0
MARKS = ("<!-- make bench-hostile: begin -->", "<!-- make bench-hostile: end -->")
COMMAND = f"{UID}/{{}}/0.baseline.0"
SERIOUS = "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2"
_EOF: Any = vars(grpc.aio)["EOF"]
# What a hostile host sends, made again and again: the messages of one session, the Hello first.
Way = Callable[[], Iterator[agent_pb2.AgentMessage]]


def hello(host: str, boot: str = "boot-1", **facts: Any) -> agent_pb2.AgentMessage:
    """A session's first message."""
    told = common_pb2.HostFacts(
        architecture="x86_64", kernel_release="7.0.13", boot_id=boot, page_size_bytes=4096, **facts
    )
    return agent_pb2.AgentMessage(hello=agent_pb2.Hello(protocol_version=1, host=host, facts=told))


def run_report(host: str, index: int, **changed: Any) -> agent_pb2.AgentMessage:
    """A measured run with two kilobytes of evidence, unless it is told otherwise."""
    given: dict[str, Any] = {
        "workload": "swap_mount",
        "samples": [common_pb2.Sample(metric="swap_mount.cost", value=819.0 + index % 7, unit="MiB/TiB")],
        "evidence": {"meminfo_before": "x" * 1024, "meminfo_after": "x" * 1024},
        **changed,
    }
    run = common_pb2.WorkloadRun(index=index, status=common_pb2.RUN_STATUS_OK, kernel_release="7.0.13", **given)
    command = COMMAND.format(host)
    report = agent_pb2.Report(report_id=f"{command}#{index}", command_id=command, boot_id="boot-1", run=run)
    return agent_pb2.AgentMessage(report=report)


def log_report(number: int, *lines: str) -> agent_pb2.AgentMessage:
    """Lines of a kernel log."""
    report = agent_pb2.Report(report_id=f"log {number} {time.monotonic_ns()}", boot_id="boot-1")
    report.kernel_log.records.extend(common_pb2.KernelLogRecord(sequence=number, level=3, text=line) for line in lines)
    return agent_pb2.AgentMessage(report=report)


def _forever(*make: Callable[[int], agent_pb2.AgentMessage]) -> Way:
    def messages() -> Iterator[agent_pb2.AgentMessage]:
        yield hello(HOSTILE)
        number = 0
        while True:
            for one in make:
                number += 1
                yield one(number)

    return messages


def _once(*make: Callable[[int], agent_pb2.AgentMessage]) -> Way:
    def messages() -> Iterator[agent_pb2.AgentMessage]:
        now = time.monotonic_ns()
        yield from (one(now) for one in make)

    return messages


_FORGING = "7.1\n# trial: promoted\x1b[2J\x9b31m\u202e| a | b |" * 500
_ESCAPES = "\x1b[2J\x9b\u202e\u0301" * 200
_MANY_TEXTS = {f"{number:x}": "" for number in range(300_000)}
WAYS: dict[str, Way] = {
    "a line that a pattern reads again and again": _forever(
        lambda n: log_report(n, f"WARNING: mm/x.c:1 {'a' * 3_400_000}")
    ),
    "very many lines of the worst kind": _forever(
        lambda n: log_report(n, *[f"{SERIOUS} {_ESCAPES}"] * 2000), lambda n: log_report(n, *["a: " * 330] * 2000)
    ),
    "serious lines without end": _forever(lambda n: log_report(n, f"{SERIOUS} {n}")),
    "escapes and forged lines everywhere": _forever(
        lambda n: run_report(HOSTILE, n % 4, error=_FORGING, workload=_FORGING, evidence={_FORGING: _FORGING * 99})
    ),
    "deep JSON as environment and evidence": _forever(
        lambda n: run_report(HOSTILE, n, evidence={"environment": "[" * 400_000, "zram_comp_algorithm": "[" * 400_000})
    ),
    "numbers that cannot be told": _forever(
        lambda n: run_report(
            HOSTILE,
            n,
            samples=[common_pb2.Sample(metric="swap_mount.cost", value=v) for v in (1e308, 5e-324, float("inf"))],
        )
    ),
    "runs that nobody ordered, with much evidence": _forever(
        lambda n: run_report(HOSTILE, n + 5000, evidence={"a": "x" * 3_500_000})
    ),
    "report ids of 3.5 MB": _forever(
        lambda n: agent_pb2.AgentMessage(
            report=agent_pb2.Report(report_id=f"{n}{'r' * 3_500_000}", kernel_log=agent_pb2.KernelLog())
        )
    ),
    "messages of very many parts": _forever(
        lambda n: run_report(HOSTILE, n, samples=[common_pb2.Sample()] * 1_500_000),
        lambda n: run_report(HOSTILE, n, evidence=_MANY_TEXTS),
    ),
    "facts of 3.5 MB, again and again": _once(
        lambda n: hello(HOSTILE, labels={f"key{number}": _FORGING[:1000] for number in range(2500)}),
        lambda n: agent_pb2.AgentMessage(heartbeat=agent_pb2.Heartbeat()),
    ),
    "a new boot in every session": _once(lambda n: hello(HOSTILE, boot=f"boot-{n}")),
    "progress without a pause": _forever(
        lambda n: agent_pb2.AgentMessage(progress=agent_pb2.Progress(step=_FORGING[:2000], fraction=float("nan")))
    ),
    "messages that are too large": _once(
        lambda n: hello(HOSTILE), lambda n: run_report(HOSTILE, n % 1000, evidence={"a": "x" * (5 << 20)})
    ),
}
QUIET = "nothing (for comparison)"


# The controller.


async def serve(directory: Path, port: int) -> None:
    """Serve until killed, with a rollout that has ordered a thousand runs from every host."""
    log = (directory / "controller.log").open("w", buffering=1)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
    clock = SystemClock()
    store = sqlite_store(directory / "kernroll.db")
    authority = open_authority(directory / "authority", clock.now())
    epochs = Epochs(store, await store.open())
    core = assemble_core(store, clock, OneKernel())
    engine, sessions, operations = core.engine, core.sessions, core.operations
    settings = Settings(
        state_dir=directory, listen=f"127.0.0.1:{port}", enroll_listen="127.0.0.1:0", insecure_plaintext=True
    )
    await engine.start()
    enrollment = Enrollment(store, authority, clock)
    # Servers that nobody holds are gone.
    servers = await listen(settings, authority, clock, epochs, (sessions, operations, enrollment))
    text = SPEC.replace("IN_FLIGHT", "9").replace("ON_REFUTED", "pause").replace("repetitions: 2", "repetitions: 1000")
    for short in ("timeout: 100s", "baseline_timeout: 200s"):
        text = text.replace(short, f"{short.split()[0]} 24h")
    event = replace(planned((*HONEST, HOSTILE), text=text), at=clock.now())
    started = False
    print("serving", flush=True)
    while servers:
        if not started and all(sessions.is_connected(host) for host in HONEST):
            started = True
            await engine.record(Key(UID), lambda: (event, replace(STARTED, at=event.at)))
        await engine.settle()
        await asyncio.sleep(0.01)


# The hosts.


def _channel(port: int) -> grpc.aio.Channel:
    options = (("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)


@dataclass(slots=True, kw_only=True)
class Honest:
    """A host that reports a run after the other and times the acknowledgements."""

    name: str
    took_ms: list[float] = field(default_factory=list)
    lost: int = 0
    index: int = 0

    async def report(self, port: int) -> None:
        """Report until cancelled; a session that ends counts as lost and begins again."""
        while True:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                async with _channel(port) as channel:
                    await self._session(agent_pb2_grpc.AgentServiceStub(channel).Session())
            self.lost += 1
            await asyncio.sleep(0.5)

    async def _session(self, call: Any) -> None:
        await call.write(hello(self.name))
        ordered = asyncio.Event()
        acknowledged: dict[str, asyncio.Event] = {}
        reading = asyncio.create_task(self._read(call, ordered, acknowledged))
        try:
            await ordered.wait()
            while not reading.done():
                message = run_report(self.name, self.index)
                self.index += 1
                done = acknowledged[message.report.report_id] = asyncio.Event()
                began = time.perf_counter()
                await call.write(message)
                await asyncio.wait({asyncio.ensure_future(done.wait()), reading}, return_when="FIRST_COMPLETED")
                self.took_ms.append(1000 * (time.perf_counter() - began))
                await asyncio.sleep(PACE_S)
        finally:
            reading.cancel()

    async def _read(self, call: Any, ordered: asyncio.Event, acknowledged: dict[str, asyncio.Event]) -> None:
        while (message := await call.read()) is not _EOF:
            if message.HasField("welcome"):
                ordered.set()
            for name in message.acknowledgement.report_ids:
                if name in acknowledged:
                    acknowledged.pop(name).set()


async def attack(port: int, way: Way) -> None:
    """Send a way's messages, session after session, until killed."""
    # In earnest it has a machine of its own: here it takes no processor from those who are measured.
    os.nice(10)
    print("attacking", flush=True)
    while True:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with _channel(port) as channel:
                call = agent_pb2_grpc.AgentServiceStub(channel).Session()
                reading = asyncio.create_task(_drain(call))
                for message in way():
                    await call.write(message)
                await call.done_writing()
                await reading
        await asyncio.sleep(0)


async def _drain(call: Any) -> None:
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        while await call.read() is not _EOF:
            pass


# The measurement.


@asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    one = await asyncio.create_subprocess_exec(sys.executable, __file__, *arguments, stdout=subprocess.PIPE)
    try:
        yield one
    finally:
        one.kill()
        await one.wait()


async def measure(seconds: float) -> tuple[list[dict[str, Any]], str]:
    """Return a row a way (the others' acknowledgements in milliseconds, sessions they lost), and what was stored."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        async with _process("--serve", directory, "--port", str(port)) as controller:
            assert controller.stdout is not None
            await controller.stdout.readline()
            honest = [Honest(name=name) for name in HONEST]
            tasks = [asyncio.create_task(one.report(port)) for one in honest]
            await asyncio.sleep(2.0)
            for way in (QUIET, *WAYS):
                rows.append(await _one_way(way, honest, port, seconds))
                print(_line(rows[-1], rows[0]), flush=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        sizes = {name: _size_mib(Path(directory), name) for name in ("kernroll.db*", "controller.log")}
        kept = "after it all the store has {:.1f} MiB and the controller's log {:.1f} MiB".format(*sizes.values())
    print(kept)
    return rows, kept


def _size_mib(directory: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in directory.glob(pattern)) / 2**20


async def _one_way(way: str, honest: list[Honest], port: int, seconds: float) -> dict[str, Any]:
    if way == QUIET:
        await _timed(honest, seconds)
    else:
        async with _process("--attack", way, "--port", str(port)) as attacker:
            assert attacker.stdout is not None
            await attacker.stdout.readline()
            await _timed(honest, seconds)
    took = sorted(ms for one in honest for ms in one.took_ms)
    row = {"way": way, "reports": len(took), "lost": sum(one.lost for one in honest)}
    # No report was acknowledged at all: as bad as can be.
    row |= {"median_ms": 1e9, "p99_ms": 1e9, "worst_ms": 1e9}
    if len(took) > 1:
        p99 = statistics.quantiles(took, n=100, method="inclusive")[98]
        row |= {"median_ms": statistics.median(took), "p99_ms": p99, "worst_ms": took[-1]}
    return row


async def _timed(honest: list[Honest], seconds: float) -> None:
    for one in honest:
        one.took_ms, one.lost = [], 0
    await asyncio.sleep(seconds)


def _line(row: dict[str, Any], quiet: dict[str, Any]) -> str:
    times = f"{row['median_ms']:6.1f} {row['p99_ms']:7.1f} {row['worst_ms']:7.1f} ms"
    return f"{row['way']:<46} {times} {row['p99_ms'] / quiet['p99_ms']:6.1f} × {row['reports']:5} {row['lost']:3}"


def table(rows: list[dict[str, Any]], kept: str, seconds: float) -> str:
    """Return what was measured as Markdown."""
    lines = [
        "| One host sends | Median, ms | p99, ms | p99 to quiet | Reports | Sessions lost |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        ratio = row["p99_ms"] / rows[0]["p99_ms"]
        figures = f"{row['median_ms']:.1f} | {row['p99_ms']:.1f} | {ratio:.1f} | {row['reports']} | {row['lost']}"
        lines.append(f"| {row['way']} | {figures} |")
    machine = f"{os.cpu_count()} processors for everything, {seconds:g} s a way; {kept}, honest reports included."
    return "\n".join([*lines, "", machine])


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each way is tried")
    parser.add_argument("--write", type=Path, help="keep the table in this page")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON at the end")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve, options.port))
    if options.attack:
        asyncio.run(attack(options.port, WAYS[options.attack]))
    head = f"{'one host sends':<46} {'median':>6} {'p99':>7} {'worst':>7}    {'p99 to quiet':>8} reports lost"
    print(head)
    rows, kept = asyncio.run(measure(options.seconds))
    if options.write:
        write(options.write, table(rows, kept, options.seconds), MARKS)
    if options.json:
        print(json.dumps(rows, indent=2))
    bad = [row["way"] for row in rows if row["p99_ms"] >= LIMIT_MS or row["lost"]]
    print(
        f"over {LIMIT_MS:g} ms, or a session lost: {', '.join(bad)}" if bad else f"every p99 is under {LIMIT_MS:g} ms"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
