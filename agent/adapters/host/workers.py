"""Processes of workloads: confined, accounted for as a whole tree, found again after the agent's death, and ended.

They carry a mark in their environment and sit in cgroups of the same name where the host has any, so that the sweep
of a later agent process ends exactly them.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agent.adapters.host.cgroups import Cgroups
from agent.adapters.host.processes import find_tool
from agent.domain.errors import RigError
from agent.domain.numbers import is_number
from agent.to_end import run_to_end
from agent.workloads.port import KEPT_BYTES, Ended

_MARK = "KERNROLL_WORKLOAD"
_LAUNCHER = Path(__file__).with_name("launcher.py")
# The kernel ends a workload before anything else of the host, and the agent last.
_OOM_SCORE_ADJUSTMENT = 500
_START_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 60.0
_PAUSE_S = 0.05
# Longest line a worker may print.
_LINE_LIMIT_BYTES = 1 << 20


class HostWorkers:
    """Starts and ends the processes of one agent's workloads."""

    def __init__(self, name: str, cgroups: Cgroups, proc: Path = Path("/proc")) -> None:
        self._name = name
        self._cgroups = cgroups
        self._proc = proc

    @property
    def name(self) -> str:
        """Return the name that the processes' cgroups and marks carry."""
        return self._name

    def confine(self, memory_limit_bytes: int) -> None:
        """Make the cgroups that workers will enter; 0 sets no limit. Raises RigError when a limit cannot be had."""
        self._cgroups.make(self._name, memory_limit_bytes)

    def statistics(self) -> Mapping[str, str]:
        """Return the cgroup's own accounts by file name; empty without cgroups."""
        return self._cgroups.statistics(self._name)

    def can_limit(self) -> str:
        """Return why memory cannot be limited on this host; empty when it can."""
        return self._cgroups.problem

    @asynccontextmanager
    async def started(
        self,
        command: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> AsyncIterator["HostWorker"]:
        """Start a process and yield it; its whole group is killed and awaited at the end. Raises RigError."""
        executable = find_tool(command[0])
        if executable is None:
            raise RigError(f"{command[0]} is not installed on this host; install the package that carries it")
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        settings = {
            "command": [executable, *command[1:]],
            "cgroups": [str(path) for path in self._cgroups.paths(self._name)],
            "oom_score_adj": _OOM_SCORE_ADJUSTMENT,
            "parent": os.getpid(),
            "report_fd": write_fd,
        }
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(_LAUNCHER),
                json.dumps(settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **(environment or {}), "LC_ALL": "C", _MARK: self._name},
                cwd=directory,
                pass_fds=(write_fd,),
                start_new_session=True,
                limit=_LINE_LIMIT_BYTES,
            )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        worker = HostWorker(process, tuple(command), kept_bytes)
        try:
            await worker.begin(read_fd)
            yield worker
        finally:
            await run_to_end(worker.kill())

    async def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a process to its end. Raises RigError (missing), TimeoutError (killed then)."""
        async with self.started(command, directory=directory, environment=environment) as worker:
            return await worker.ended(timeout_s=timeout_s)

    async def end_all(self) -> None:
        """Kill every process that was started under this name, and take its cgroups down. Raises RigError."""
        try:
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                while found := {*self._cgroups.processes(self._name), *self._marked()}:
                    for pid in found:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError as error:
            raise RigError(f"processes of {self._name} do not end, even when killed: {sorted(found)}") from error
        await self._cgroups.remove(self._name)

    def _marked(self) -> set[int]:
        mark = f"{_MARK}={self._name}".encode()
        found = set()
        for entry in self._proc.iterdir():
            if not is_number(entry.name) or int(entry.name) == os.getpid():
                continue
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
        return found


class HostWorker:
    """One process of a workload and all its children."""

    def __init__(self, process: asyncio.subprocess.Process, command: tuple[str, ...], kept_bytes: int) -> None:
        self._process = process
        self._command = command
        # Of each stream, for reports and complaints.
        self._kept_bytes = kept_bytes
        # The launcher's account, and the process group of what it launched; 0 until it says so.
        self._report = asyncio.StreamReader()
        self._report_transport: asyncio.BaseTransport | None = None
        self._group = 0
        self._out = bytearray()
        self._err = bytearray()
        assert process.stderr is not None, "started with pipes"
        # Somebody must read, or the process stops when the pipe is full.
        self._err_reader = asyncio.create_task(self._keep(process.stderr, self._err))

    @property
    def printed(self) -> str:
        """Return the end of what it has printed so far, as far as somebody waited for a line or for its end."""
        return self._out.decode("utf-8", "replace")

    async def begin(self, report_fd: int) -> None:
        """Wait until the process has been started. Raises RigError."""
        protocol = asyncio.StreamReaderProtocol(self._report)
        pipe = os.fdopen(report_fd, "rb", buffering=0)
        loop = asyncio.get_running_loop()
        self._report_transport, _ = await loop.connect_read_pipe(lambda: protocol, pipe)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                started = await self._report.readline()
        except TimeoutError:
            raise RigError(f"{self._command[0]} did not start within {_START_TIMEOUT_S:g} s") from None
        if not started:
            raise RigError(f"{self._command[0]} did not start: {self._complaint()}")
        self._group = int(json.loads(started)["group"])

    async def line(self, *, timeout_s: float) -> str:
        """Return the next line of output without its end; empty at the end of output. Raises TimeoutError."""
        assert self._process.stdout is not None, "started with pipes"
        async with asyncio.timeout(timeout_s):
            line = await self._process.stdout.readline()
        self._append(self._out, line)
        return line.decode("utf-8", "replace").rstrip("\n")

    async def say(self, line: str) -> None:
        """Write a line to the process. Raises RigError when it has ended."""
        assert self._process.stdin is not None, "started with pipes"
        try:
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise RigError(f"{self._command[0]} ended too early: {self._complaint()}") from error

    def terminate(self) -> None:
        """Ask the process and its children to end."""
        with suppress(ProcessLookupError):
            os.killpg(self._group, signal.SIGTERM)

    async def ended(self, *, timeout_s: float) -> Ended:
        """Wait for the end and return it. Raises TimeoutError; RigError when nobody can tell how it ended."""
        assert self._process.stdout is not None, "started with pipes"
        try:
            async with asyncio.timeout(timeout_s):
                await self._keep(self._process.stdout, self._out)
                await self._process.wait()
                await self._err_reader
                line = await self._report.readline()
        except TimeoutError:
            raise TimeoutError(f"{' '.join(self._command[:6])} took longer than {timeout_s:g} s") from None
        if not line:
            raise RigError(f"{self._command[0]} was killed together with its launcher: {self._complaint()}")
        report: dict[str, Any] = json.loads(line)
        return Ended(
            status=int(report["status"]),
            stdout=self.printed,
            stderr=self._err.decode("utf-8", "replace"),
            elapsed_s=float(report["elapsed_s"]),
            user_s=float(report["user_s"]),
            system_s=float(report["system_s"]),
            peak_bytes=int(report["peak_kib"]) * 1024,
        )

    async def kill(self) -> None:
        """Kill the process and its group, and wait until it is gone."""
        for group in filter(None, (self._group, self._process.pid)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_TIMEOUT_S):
                await self._process.wait()
        self._err_reader.cancel()
        if self._report_transport is not None:
            self._report_transport.close()
        # Closes the pipes, also where a child that got away holds their other ends.
        transport: Any = getattr(self._process, "_transport", None)
        if transport is not None:
            transport.close()

    def _complaint(self) -> str:
        return self._err.decode("utf-8", "replace").strip()[-400:] or "it said nothing"

    async def _keep(self, stream: asyncio.StreamReader, kept: bytearray) -> None:
        while part := await stream.read(1 << 16):
            self._append(kept, part)

    def _append(self, kept: bytearray, part: bytes) -> None:
        kept += part
        # The end is what says why a process failed.
        del kept[: max(0, len(kept) - self._kept_bytes)]
