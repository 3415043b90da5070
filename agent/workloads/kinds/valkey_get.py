"""S4, S5: random reads from a key-value server whose data does not fit into memory, with and without BGSAVE.

The server is filled once for the command, with as many random keys as its memory holds, or as make 78 % of the reads
hit; then every run reads.
A run that did not swap pages in, or whose reads found too little, is no measurement.
"""

import shlex
from contextlib import AsyncExitStack

from agent.domain.errors import RigError, WorkloadDied
from agent.domain.orders.orders import ValkeyGetOrder
from agent.domain.orders.preflight import Needs
from agent.domain.results import Sample
from agent.domain.work.leftovers import MadeDirectory
from agent.domain.work.valkey import BenchmarkResult, fill_writes, key_bytes, parse_benchmark
from agent.to_end import run_to_end
from agent.workloads.deaths import killed_for_memory
from agent.workloads.kinds.valkey_server import Server, family_of, running_server, server_command
from agent.workloads.port import Ended, Host, Inspection, Measurement, StepReporter
from agent.workloads.rig.rig import Rig, pages_to_mib

# The command's own deadline comes first; these end what hangs in spite of it.
_FILL_TIMEOUT_S = 6 * 3600.0
_RUN_TIMEOUT_S = 6 * 3600.0


class ValkeyGet:
    """The workload; one object serves one command."""

    name = "valkey_get"

    def __init__(self, order: ValkeyGetOrder, host: Host) -> None:
        self._order = order
        self._host = host
        self._directory = host.scratch / f"{host.workers.name}.valkey"
        data_bytes = min(order.maxmemory_bytes, order.keys * key_bytes(order.value_bytes))
        needs = Needs(memory_bytes=data_bytes, disk_bytes=data_bytes if order.bgsave else 0)
        self._rig = Rig(host, swap=order.swap, pressure=order.pressure, needs=needs)
        self._stack = AsyncExitStack()
        self._server: Server | None = None

    def inspect(self) -> Inspection:
        """Say what would be touched."""
        saves = f", saves in the background into {self._directory}" if self._order.bgsave else ""
        inspection = self._rig.inspect(
            f"starts a key-value server on a free loopback port{saves}, and ends it; removes {self._directory}"
        )
        return Inspection(touches=inspection.touches, refusals=(*inspection.refusals, *self._refusals()))

    async def prepare(self, step: StepReporter) -> None:
        """Set the rig up, start the server and fill it. Raises RigError, KernelWanting, WorkloadDied."""
        refusals = self._refusals()
        if refusals:
            raise RigError("this host is not touched: " + "; ".join(refusals))
        await self._rig.set_up(step)
        self._rig.own(MadeDirectory(path=str(self._directory)))
        self._host.files.make_directory(self._directory)
        step("starting the server")
        server = await self._stack.enter_async_context(running_server(self._host, self._order, self._directory))
        self._server = server
        step("filling the server")
        writes = fill_writes(self._order.keys, self._order.value_bytes, self._order.maxmemory_bytes)
        ended = await server.benchmark(self._order, "set", writes, timeout_s=_FILL_TIMEOUT_S)
        self._result_of(ended, "SET", deaths=killed_for_memory(self._host))

    async def run(self, step: StepReporter) -> Measurement:
        """Read once. Raises WorkloadDied; RigError also when the run is not valid."""
        server, order = self._server, self._order
        assert server is not None, "prepared"
        step("reading" + (" while the server saves" if order.bgsave else ""))
        info_before, deaths_before = await server.info(), killed_for_memory(self._host)
        async with AsyncExitStack() as saving:
            if order.bgsave:
                await saving.enter_async_context(server.saving())
            before = self._rig.counters()
            ended = await server.benchmark(order, "get", order.requests, timeout_s=_RUN_TIMEOUT_S)
            swapped = self._rig.counters().since(before)
        result = self._result_of(ended, "GET", deaths=killed_for_memory(self._host) - deaths_before)
        info = await server.info()
        hits, misses, saves = (
            int(info.get(name, 0)) - int(info_before.get(name, 0))
            for name in ("keyspace_hits", "keyspace_misses", "total_forks")
        )
        hit_percent = 100 * hits / max(1, hits + misses)
        self._check(hit_percent, saves, info.get("rdb_last_bgsave_status", ""))
        self._rig.check_swapped_in(swapped, order.min_swapped_in_bytes)
        suffix = "_bgsave" if order.bgsave else ""
        return Measurement(
            samples=(
                Sample(metric=f"valkey.get_rate{suffix}", value=result.requests_per_s, unit="requests/s"),
                Sample(metric=f"valkey.p50{suffix}", value=result.p50_ms, unit="ms"),
                Sample(metric=f"valkey.p99{suffix}", value=result.p99_ms, unit="ms"),
                Sample(metric=f"valkey.hits{suffix}", value=hit_percent, unit="%"),
                Sample(metric=f"valkey.swapped_in{suffix}", value=pages_to_mib(swapped.all_in), unit="MiB"),
                Sample(metric=f"valkey.swapped_out{suffix}", value=pages_to_mib(swapped.all_out), unit="MiB"),
                Sample(metric=f"valkey.background_saves{suffix}", value=float(saves), unit="count"),
            ),
            evidence={
                **self._rig.evidence(),
                "server": f"{server.family} {info.get('valkey_version', info.get('redis_version', '?'))}",
                "server_command": shlex.join(server_command(server.family, order, self._directory, server.port)),
                "command": shlex.join(server.benchmark_command(order, "get", order.requests)),
                "benchmark": ended.stdout.strip(),
                "dataset": f"{info.get('used_memory', '?')} bytes used by the server",
            },
        )

    async def clean_up(self) -> None:
        """End the server, take everything down."""
        try:
            await run_to_end(self._stack.aclose())
        finally:
            await self._rig.take_down()

    def _result_of(self, ended: Ended, test: str, *, deaths: int) -> BenchmarkResult:
        if deaths or ended.status < 0:
            raise WorkloadDied(
                f"{deaths} processes of the workload were killed for memory during {test}: {ended.complaint}"
            )
        if "OOM command not allowed" in ended.complaint:
            raise RigError(f"the server's --maxmemory does not hold the keys: {ended.complaint}")
        if ended.status:
            # The usual cause is a server that has gone.
            raise WorkloadDied(f"the benchmark's {test} ended early: {ended.complaint}")
        try:
            return parse_benchmark(ended.stdout, test)
        except ValueError as error:
            raise RigError(f"{error}: {ended.complaint}") from error

    def _check(self, hit_percent: float, saves: int, save_status: str) -> None:
        if hit_percent < self._order.min_hit_percent:
            raise RigError(
                f"the run is not valid: {hit_percent:.0f} % of the reads found a value, fewer than "
                f"{self._order.min_hit_percent} %; does --maxmemory hold the keys?"
            )
        if not self._order.bgsave:
            return
        if not saves:
            raise RigError("the run is not valid: the server counts no background save meanwhile")
        if save_status == "err":
            raise RigError(f"the run is not valid: a background save failed; is there room in {self._directory}?")

    def _refusals(self) -> tuple[str, ...]:
        if family_of(self._host):
            return ()
        return ("neither valkey's nor redis's server, benchmark and cli are installed; install valkey or redis-server",)
