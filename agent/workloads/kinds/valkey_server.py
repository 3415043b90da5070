"""One server of one command: valkey's or redis's, on a loopback port of its own, without persistence."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.domain.errors import RigError, WorkloadDied
from agent.domain.orders.orders import ValkeyGetOrder
from agent.domain.work.valkey import parse_info
from agent.workloads.deaths import killed_for_memory
from agent.workloads.port import Ended, Host, Worker

_START_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 120.0
_SAVED_TIMEOUT_S = 3600.0
_PAUSE_S = 0.2
# Of both, valkey is preferred.
_FAMILIES = ("valkey", "redis")
_PROGRAMS = ("server", "benchmark", "cli")
# Background saves follow one another without a gap that counts.
_SAVE_PAUSE_S = 0.2


def family_of(host: Host) -> str:
    """Return whose programs are installed in full; empty when neither's are."""
    return next((each for each in _FAMILIES if all(host.tools.has(f"{each}-{part}") for part in _PROGRAMS)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    host: Host
    family: str
    port: int
    worker: Worker

    async def benchmark(self, order: ValkeyGetOrder, test: str, requests: int, *, timeout_s: float) -> Ended:
        """Run the benchmark with the order's flags. Raises TimeoutError, RigError."""
        return await self.host.workers.run(self.benchmark_command(order, test, requests), timeout_s=timeout_s)

    def benchmark_command(self, order: ValkeyGetOrder, test: str, requests: int) -> tuple[str, ...]:
        """Return the cover letter's command with the order's numbers; --csv changes what is printed only."""
        where = ("-h", "127.0.0.1", "-p", str(self.port))
        what = ("-r", str(order.keys), "-n", str(requests), "-d", str(order.value_bytes))
        how = ("-c", str(order.clients), "-P", str(order.pipeline), "-t", test, "--csv")
        return (f"{self.family}-benchmark", *where, *what, *how)

    async def info(self) -> Mapping[str, str]:
        """Return the server's own accounts. Raises WorkloadDied when it does not answer."""
        ended = await self._ask("INFO", "all")
        if ended.status:
            deaths = killed_for_memory(self.host)
            why = f"{deaths} processes of the workload were killed for memory; " if deaths else ""
            raise WorkloadDied(f"the {self.family} server does not answer any more: {why}{ended.complaint}")
        return parse_info(ended.stdout)

    async def answers(self) -> bool:
        """Return whether the server is ready."""
        return (await self._ask("PING")).stdout.strip() == "PONG"

    @asynccontextmanager
    async def saving(self) -> AsyncIterator[None]:
        """Keep the server saving in the background, one save after the other, as long as the context lasts.

        Raises RigError when a save of before does not end, the first one does not begin, or no further ones could be
        asked for to the end; WorkloadDied when that is because a process was killed for memory.
        """
        deadline = self.host.monotonic() + _SAVED_TIMEOUT_S
        # The save that an earlier run left half-way would cover a share of this one that nobody knows.
        while (await self.info()).get("rdb_bgsave_in_progress") == "1":
            if self.host.monotonic() > deadline:
                raise RigError(f"the server's last background save did not end within {_SAVED_TIMEOUT_S:g} s")
            await self.host.sleep(_PAUSE_S)
        async with self.host.workers.started(self._cli()) as cli:
            await cli.say("BGSAVE")
            reply = await cli.line(timeout_s=_ANSWER_TIMEOUT_S)
            if "started" not in reply:
                raise RigError(f"no background save begins: {reply}; allow the fork (vm.overcommit_memory=1)?")
            deaths_before = killed_for_memory(self.host)
            task = asyncio.create_task(self._save_for_ever(cli))
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()):
                raise self._saving_stopped(error, killed_for_memory(self.host) - deaths_before) from error

    async def _save_for_ever(self, cli: Worker) -> None:
        while True:
            # Refused while a save is under way, which is what keeps them from piling up.
            await cli.say("BGSAVE")
            await cli.line(timeout_s=_ANSWER_TIMEOUT_S)
            await self.host.sleep(_SAVE_PAUSE_S)

    def _saving_stopped(self, error: BaseException, deaths: int) -> Exception:
        """Return what to raise for a run that from some moment on read from a server that did not save."""
        if deaths:
            return WorkloadDied(f"{deaths} processes of the workload were killed for memory while it saved: {error}")
        return RigError(f"the run is not valid: the server was not asked to save to its end: {error}")

    async def _ask(self, *words: str) -> Ended:
        return await self.host.workers.run((*self._cli(), *words), timeout_s=_ANSWER_TIMEOUT_S)

    def _cli(self) -> tuple[str, ...]:
        return (f"{self.family}-cli", "-h", "127.0.0.1", "-p", str(self.port))


@asynccontextmanager
async def running_server(host: Host, order: ValkeyGetOrder, directory: Path) -> AsyncIterator[Server]:
    """Start a server and yield it when it answers; it is killed at the end. Raises RigError."""
    family = family_of(host)
    port = host.free_port()
    command = server_command(family, order, directory, port)
    async with host.workers.started(command, directory=directory) as worker:
        server = Server(host=host, family=family, port=port, worker=worker)
        deadline = host.monotonic() + _START_TIMEOUT_S
        while not await server.answers():
            if host.monotonic() > deadline:
                raise RigError(f"{family}-server did not answer within {_START_TIMEOUT_S:g} s")
            await host.sleep(_PAUSE_S)
        yield server


def server_command(family: str, order: ValkeyGetOrder, directory: Path, port: int) -> tuple[str, ...]:
    """Return the cover letter's command; without persistence, where nobody else reaches it."""
    where = ("--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory))
    alone = ("--save", "", "--appendonly", "no", "--daemonize", "no")
    return (f"{family}-server", "--maxmemory", str(order.maxmemory_bytes), *where, *alone)
