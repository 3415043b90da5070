"""A host that exists in a directory only: for tests, and for running agents where there is no swap device to spare.

The directory holds what a kernel would (/proc, /sys, devices), so that several agent processes can come and go over it.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from fake_kernel import RELEASE, FakeKernel
from fake_workers import FakeFiles, FakeProgram, FakeWorkers

from agent.adapters.host.environment import environment_document
from agent.adapters.host.processes import Completed
from agent.adapters.host.readings import KernelReadings
from agent.adapters.state.leftovers import LeftoversFile
from agent.domain.errors import RigError
from agent.domain.work.leftovers import Leftover, Noted
from agent.workloads.port import Host

# What tools print that succeed.
_PRINTED = {
    ("losetup", "-f"): "/dev/loop0\n",
    ("modprobe", "--show-depends", "zram"): "insmod /lib/mm/zsmalloc.ko.xz \ninsmod /lib/zram.ko num_devices=1\n",
}


class ProcessKilled(Exception):
    """Every call of a process that `kill_at` has killed ends with this, and has no effect."""


class FakeProcess:
    """One agent process on a FakeKernel: time passes only in its sleeps and tools, and every wait is a checkpoint."""

    def __init__(self, kernel: FakeKernel, *, boot_id: str = "boot-1", state_dir: Path | None = None) -> None:
        self.kernel = kernel
        self.boot_id = boot_id
        self.now_s = 0.0
        self.checkpoints = 0
        self.commands: list[tuple[str, ...]] = []
        self.missing: set[str] = {"free"}
        # Complaint by tool.
        self.failing: dict[str, str] = {}
        # Swap that no swapoff switches off.
        self.stubborn: set[str] = set()
        # Tools that never return; they have had their effect when they are killed, as swapon may.
        self.hanging: set[str] = set()
        self.kill_at: int | None = None
        # Called at every checkpoint with its number.
        self.on_checkpoint: Callable[[int], Awaitable[None]] | None = None
        self.killed = False
        # What a workload's process does, by the name of its tool; others end at once and well.
        self.programs: dict[str, FakeProgram | Callable[[Sequence[str]], FakeProgram]] = {}
        self._leftovers = LeftoversFile((state_dir or kernel.root) / "leftovers.json", boot_id)

    def host(self) -> Host:
        """Return the host as workloads see it."""
        return Host(
            tools=self,
            devices=self,
            leftovers=self,
            workers=FakeWorkers(self),
            files=FakeFiles(self),
            readings=KernelReadings(self.kernel.proc, self.kernel.sys),
            environment=lambda: environment_document(self, proc=self.kernel.proc, sys=self.kernel.sys),
            monotonic=lambda: self.now_s,
            sleep=self._sleep,
            boot_id=self.boot_id,
            kernel_release=RELEASE,
            scratch=self.kernel.scratch,
            is_root=True,
            allows_active_swap=False,
            free_port=lambda: 16379,
            proc=self.kernel.proc,
            sys=self.kernel.sys,
            modules=self.kernel.root / "modules",
        )

    def has(self, tool: str) -> bool:
        """Return whether the tool is installed."""
        return tool not in self.missing

    async def run(self, command: Sequence[str], *, timeout_s: float) -> Completed:
        """Do what the tool would."""
        if command[0] in self.missing:
            raise RigError(f"{command[0]} is not installed")
        if tuple(command[1:]) == ("--version",):
            return Completed(status=0, stdout=f"{command[0]} of the fake host\n", stderr="")
        await self.checkpoint()
        self.commands.append(tuple(command))
        complaint = self.failing.get(command[0], "")
        if command[0] == "swapoff" and command[-1] in self.stubborn:
            complaint = f"swapoff: {command[-1]}: Input/output error"
        if not complaint:
            complaint = self.kernel.act(command)
        if command[0] in self.hanging:
            await asyncio.Event().wait()
        self.now_s += 0.5
        await self.checkpoint()
        stdout = _PRINTED.get(tuple(command), "")
        if tuple(command[:-1]) == ("losetup", "-n", "-O", "NAME", "-j"):
            stdout = "".join(f"{each}\n" for each in self.kernel.loops_over(command[-1]))
        return Completed(status=1 if complaint else 0, stdout=stdout, stderr=complaint)

    async def wait_until_gone(self, command: Sequence[str], *, timeout_s: float) -> None:
        """Nothing of this host outlives its process."""
        await self.checkpoint()

    def is_block_device(self, path: str) -> bool:
        """Return whether the host has the device."""
        self.alive()
        return self.kernel.has_device(path)

    def size_bytes(self, path: str) -> int:
        """Return the size."""
        self.alive()
        return self.kernel.size_of(path)

    def claim(self, path: str) -> None:
        """OSError EBUSY while it is switched on."""
        self.alive()
        if path in self.kernel.swaps:
            raise OSError(errno.EBUSY, "Device or resource busy")

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return bytes; all but the first MiB are zero."""
        self.alive()
        return bytes(self.kernel.head(path)[:size]) if offset == 0 else bytes(size)

    def write(self, path: str, offset: int, content: bytes) -> None:
        """Change the first MiB."""
        self.claim(path)
        self.kernel.head(path)[offset : offset + len(content)] = content

    def note(self, leftover: Leftover) -> None:
        """Make it durable."""
        self.alive()
        self._leftovers.note(leftover)

    def unknown(self) -> str:
        """See Leftovers.unknown."""
        return self._leftovers.unknown()

    def forget(self, leftover: Leftover) -> None:
        """Make it durable."""
        self.alive()
        self._leftovers.forget(leftover)

    def noted(self) -> tuple[Noted, ...]:
        """Return what is not taken down."""
        self.alive()
        return self._leftovers.noted()

    async def _sleep(self, duration_s: float) -> None:
        await self.checkpoint()
        self.now_s += duration_s
        self.kernel.disturb()

    async def checkpoint(self) -> None:
        """Pass a moment at which the process may be killed or disturbed."""
        self.alive()
        number = self.checkpoints
        self.checkpoints += 1
        if number == self.kill_at:
            self.killed = True
        self.alive()
        if self.on_checkpoint is not None:
            await self.on_checkpoint(number)
        # Lets a cancellation arrive here.
        await asyncio.sleep(0)

    def program_of(self, command: Sequence[str]) -> FakeProgram:
        """Return what the command does."""
        program = self.programs.get(Path(command[0]).name, FakeProgram())
        return program(command) if callable(program) else program

    def alive(self) -> None:
        """Raise ProcessKilled when the process was killed."""
        if self.killed:
            raise ProcessKilled
