"""Files and workers of the host that exists in a directory only; zram and zswap react as a kernel's do."""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.domain.errors import RigError
from agent.workloads.port import KEPT_BYTES, Ended

if TYPE_CHECKING:
    from fake_host import FakeProcess

_ALGORITHMS = ("lzo", "lzo-rle", "lz4")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeProgram:
    """What a workload's process does here, and what the kernel counts meanwhile."""

    lines: tuple[str, ...] = ()
    status: int = 0
    stdout: str = ""
    stderr: str = ""
    elapsed_s: float = 1.0
    user_s: float = 0.5
    system_s: float = 0.25
    swapped_in_pages: int = 0
    swapped_out_pages: int = 0
    # Processes that the kernel kills for memory meanwhile.
    oom_kills: int = 0
    # Goes on until it is told to end, as a server does.
    stays: bool = False
    # Files it writes, with their text.
    writes: Mapping[Path, str] = field(default_factory=dict)
    # Returns the lines with which it answers a line that it is told.
    answers: Callable[[str], Sequence[str]] = lambda line: ()


class FakeFiles:
    """Files of a FakeProcess."""

    def __init__(self, process: "FakeProcess") -> None:
        self._process = process
        self._kernel = process.kernel

    def read(self, path: Path) -> str:
        """Return the text; reading hot_add adds a zram device."""
        self._process.alive()
        if path.name == "hot_add":
            return str(self._kernel.add_zram())
        return path.read_text().strip()

    def write(self, path: Path, text: str) -> None:
        """Write, and do what the kernel does then."""
        self._process.alive()
        if not path.exists():
            raise OSError(errno.ENOENT, "No such file or directory")
        device = f"/dev/{path.parent.name}"
        match path.name:
            case "disksize":
                self._kernel.give_device(device, int(text))
            case "reset":
                if device in self._kernel.swaps:
                    raise OSError(errno.EBUSY, "Device or resource busy")
                self._kernel.take_device(device)
                (path.parent / "disksize").write_text("0")
                return
            case "comp_algorithm":
                if text not in _ALGORITHMS:
                    raise OSError(errno.EINVAL, "Invalid argument")
                text = " ".join(f"[{each}]" if each == text else each for each in _ALGORITHMS)
            case "hot_remove":
                self._kernel.remove_zram(int(text))
                return
            case _:
                pass
        path.write_text(text)

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""
        self._process.alive()
        return path.exists()

    def names(self, directory: Path) -> tuple[str, ...]:
        """Return the names in a directory of the fake host; it has none of the machine's own."""
        self._process.alive()
        inside = directory.is_relative_to(self._kernel.root) and directory.is_dir()
        return tuple(sorted(each.name for each in directory.iterdir())) if inside else ()

    def make_sparse(self, path: Path, size_bytes: int) -> None:
        """Make a file."""
        self._process.alive()
        if self._kernel.disk_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        path.write_bytes(b"")
        self._kernel.give_device(str(path), size_bytes)

    async def allocate(self, path: Path, size_bytes: int) -> None:
        """Make a file, which takes time."""
        await self._process.checkpoint()
        self.make_sparse(path, size_bytes)
        await self._process.checkpoint()

    def remove(self, path: Path) -> None:
        """Remove a file."""
        self._process.alive()
        path.unlink(missing_ok=True)
        self._kernel.take_device(str(path))

    def make_directory(self, path: Path) -> None:
        """Make a directory."""
        self._process.alive()
        path.mkdir(parents=True)

    async def remove_tree(self, path: Path) -> None:
        """Remove a directory, which takes time."""
        await self._process.checkpoint()
        shutil.rmtree(path, ignore_errors=True)

    def free_bytes(self, directory: Path) -> int:
        """Return what the fake disk has."""
        self._process.alive()
        return self._kernel.free_disk_bytes


class FakeWorkers:
    """Workers of a FakeProcess; what they run is `FakeProcess.programs`."""

    name = "kernroll-fake"

    def __init__(self, process: "FakeProcess") -> None:
        self._process = process
        self._kernel = process.kernel

    def can_limit(self) -> str:
        """Return what the test has set."""
        return self._kernel.no_limit

    def confine(self, memory_limit_bytes: int) -> None:
        """Remember the limit."""
        self._process.alive()
        if memory_limit_bytes and self._kernel.no_limit:
            raise RigError(self._kernel.no_limit)
        self._kernel.cgroup_limit_bytes = memory_limit_bytes

    def statistics(self) -> Mapping[str, str]:
        """Return one account."""
        limit_bytes = self._kernel.cgroup_limit_bytes
        if limit_bytes is None:
            return {}
        return {"memory.max": str(limit_bytes), "memory.events": f"oom 0\noom_kill {self._kernel.oom_kills}"}

    @asynccontextmanager
    async def started(
        self,
        command: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> AsyncIterator["FakeWorker"]:
        """Start a program."""
        tool = Path(command[0]).name
        if tool in self._process.missing:
            raise RigError(f"{tool} is not installed")
        await self._process.checkpoint()
        self._process.commands.append(tuple(command))
        # A process outlives the agent that was killed.
        self._kernel.running.append(tuple(command))
        await self._process.checkpoint()
        try:
            yield FakeWorker(self._process, self._process.program_of(command))
        finally:
            if not self._process.killed:
                self._kernel.running.remove(tuple(command))

    async def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a program."""
        async with self.started(command, directory=directory, environment=environment) as worker:
            return await worker.ended(timeout_s=timeout_s)

    async def end_all(self) -> None:
        """Kill everything, remove the cgroup."""
        await self._process.checkpoint()
        self._kernel.running.clear()
        self._kernel.cgroup_limit_bytes = None


class FakeWorker:
    """One running program."""

    def __init__(self, process: "FakeProcess", program: FakeProgram) -> None:
        self._process = process
        self._program = program
        self._lines = list(program.lines)
        self._told_to_end = asyncio.Event()
        self._told = asyncio.Event()
        self.heard: list[str] = []

    @property
    def printed(self) -> str:
        """Return what the program prints."""
        return "\n".join((*self._program.lines, self._program.stdout))

    async def line(self, *, timeout_s: float) -> str:
        """Return the next line; a program that stays says something only when it is told something."""
        await self._process.checkpoint()
        while self._program.stays and not self._lines and not self._told_to_end.is_set():
            self._told.clear()
            await self._told.wait()
        return self._lines.pop(0) if self._lines else ""

    async def say(self, line: str) -> None:
        """Keep what was said."""
        await self._process.checkpoint()
        self.heard.append(line)
        self._lines += self._program.answers(line)
        self._told.set()

    def terminate(self) -> None:
        """End a program that stays."""
        self._told_to_end.set()
        self._told.set()

    async def ended(self, *, timeout_s: float) -> Ended:
        """Let the program's time pass."""
        program = self._program
        await self._process.checkpoint()
        if program.stays and not self._told_to_end.is_set():
            raise TimeoutError("the program took longer")
        self._process.now_s += program.elapsed_s
        for path, text in program.writes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._process.kernel.oom_kills += program.oom_kills
        self._process.kernel.count_swapping(program.swapped_in_pages, program.swapped_out_pages)
        await self._process.checkpoint()
        return Ended(
            status=program.status,
            stdout=self.printed,
            stderr=program.stderr,
            elapsed_s=program.elapsed_s,
            user_s=program.user_s,
            system_s=program.system_s,
            peak_bytes=1 << 20,
        )
