"""A host that exists in a directory only: for tests, and for running agents where there is no swap device to spare.

The directory holds what a kernel would (/proc, /sys, devices), so that several agent processes can come and go over it.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agent.adapters.leftovers import LeftoversFile
from agent.adapters.processes import Completed
from agent.domain.errors import RigError
from agent.domain.leftovers import Leftover, Noted
from agent.domain.memory import MIB, TIB
from agent.domain.swap_header import EDGE_BYTES, is_zero
from agent.workloads.port import Host

_HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
_TOTAL_BYTES = 1536 * MIB
_PAGE_BYTES = 4096
DEVICE = "/dev/nvme1n1"
BRD = "/dev/ram0"


class ProcessKilled(Exception):
    """Every call of a process that `kill_at` has killed ends with this, and has no effect."""


class FakeKernel:
    """The part that survives an agent: memory, swap, devices, modules."""

    def __init__(self, root: Path, *, cost_mib_per_tib: float = 816.0, device_bytes: int = TIB) -> None:
        self.root = root
        self.proc = root / "proc"
        self.sys = root / "sys"
        self.cost_mib_per_tib = cost_mib_per_tib
        # What the kernel keeps for good at every swapoff.
        self.leak_bytes = 0
        # Memory that programs take or give with every second, for ever.
        self.unrest_bytes = 0
        self._leaked_bytes = 0
        self._sizes = {DEVICE: device_bytes}
        self._heads = {DEVICE: bytearray(EDGE_BYTES)}
        for directory in (self.proc, self.sys / "block", self.sys / "class/block/nvme1n1/holders"):
            directory.mkdir(parents=True, exist_ok=True)
        if not (self.proc / "swaps").exists():
            self.write_swaps(())
        self.write_meminfo()

    @property
    def swaps(self) -> tuple[str, ...]:
        """Return the devices that are switched on."""
        lines = (self.proc / "swaps").read_text().splitlines()[1:]
        return tuple(line.split()[0] for line in lines)

    @property
    def brd_loaded(self) -> bool:
        """Return whether brd is loaded."""
        return (self.sys / "module/brd").exists()

    def head(self, device: str = DEVICE) -> bytearray:
        """Return the device's first MiB, to look at or to write to."""
        return self._heads[device]

    def is_pristine(self) -> bool:
        """Return whether nothing is left of any workload."""
        return not self.swaps and not self.brd_loaded and is_zero(bytes(self._heads[DEVICE]))

    def write_swaps(self, devices: Sequence[str]) -> None:
        """Switch exactly these devices on."""
        lines = [f"{each}\tpartition\t{(self._sizes[each] - _PAGE_BYTES) // 1024}\t0\t-2\n" for each in devices]
        (self.proc / "swaps").write_text(_HEADER + "".join(lines))

    def write_meminfo(self) -> None:
        """Account for what is switched on."""
        mounted = sum(self._sizes[each] for each in self.swaps)
        kernel = int(mounted / TIB * self.cost_mib_per_tib * MIB) + self._leaked_bytes
        available = _TOTAL_BYTES - 36 * MIB - kernel
        lines = (
            ("MemTotal", _TOTAL_BYTES),
            ("MemFree", available - 20 * MIB),
            ("MemAvailable", available),
            ("SUnreclaim", 8 * MIB),
            ("VmallocUsed", 4 * MIB + kernel),
        )
        (self.proc / "meminfo").write_text("".join(f"{name}:{size // 1024:>16} kB\n" for name, size in lines))

    def disturb(self) -> None:
        """Let a second of unrest pass."""
        self._leaked_bytes += self.unrest_bytes
        self.write_meminfo()

    def act(self, command: Sequence[str]) -> str:
        """Do what the tool does; return its complaint, empty when it succeeds."""
        match tuple(command):
            case ("mkswap", "-L", label, device):
                head = self._heads[device]
                head[1024:1036] = b"\1\0\0\0" + b"\xff" * 4 + b"\0" * 4
                head[1052 : 1052 + len(label)] = label.encode()
                head[_PAGE_BYTES - 10 : _PAGE_BYTES] = b"SWAPSPACE2"
            case ("swapon", device):
                self.write_swaps((*self.swaps, device))
            case ("swapoff", device):
                if device not in self.swaps:
                    return f"swapoff: {device}: Invalid argument"
                self._leaked_bytes += self.leak_bytes
                self.write_swaps(tuple(each for each in self.swaps if each != device))
            case ("modprobe", "brd", *parameters):
                self._load_brd(dict(each.split("=") for each in parameters))
            case ("rmmod", "brd"):
                if BRD in self.swaps:
                    return "rmmod: ERROR: Module brd is in use"
                for path in sorted((self.sys / "module/brd").rglob("*"), reverse=True):
                    path.unlink() if path.is_file() else path.rmdir()
                (self.sys / "module/brd").rmdir()
                del self._sizes[BRD], self._heads[BRD]
            case _:
                return f"{command[0]}: unknown arguments"
        self.write_meminfo()
        return ""

    def size_of(self, device: str) -> int:
        """Return a device's size; OSError when there is none."""
        if device not in self._sizes:
            raise OSError(errno.ENOENT, "No such file or directory")
        return self._sizes[device]

    def _load_brd(self, parameters: dict[str, str]) -> None:
        directory = self.sys / "module/brd/parameters"
        directory.mkdir(parents=True)
        for name, value in parameters.items():
            (directory / name).write_text(value + "\n")
        self._sizes[BRD] = int(parameters["rd_size"]) * 1024
        self._heads[BRD] = bytearray(EDGE_BYTES)


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
        # Tools that never return; they have had their effect when they are killed, as swapon may.
        self.hanging: set[str] = set()
        self.kill_at: int | None = None
        # Called at every checkpoint with its number.
        self.on_checkpoint: Callable[[int], Awaitable[None]] | None = None
        self._killed = False
        self._leftovers = LeftoversFile((state_dir or kernel.root) / "leftovers.json", boot_id)

    def host(self) -> Host:
        """Return the host as workloads see it."""
        return Host(
            tools=self,
            devices=self,
            leftovers=self,
            monotonic=lambda: self.now_s,
            sleep=self._sleep,
            boot_id=self.boot_id,
            kernel_release="7.1.13-fake",
            proc=self.kernel.proc,
            sys=self.kernel.sys,
        )

    def has(self, tool: str) -> bool:
        """Return whether the tool is installed."""
        return tool not in self.missing

    async def run(self, command: Sequence[str], *, timeout_s: float) -> Completed:
        """Do what the tool would."""
        if command[0] in self.missing:
            raise RigError(f"{command[0]} is not installed")
        await self._checkpoint()
        self.commands.append(tuple(command))
        complaint = self.failing.get(command[0], "")
        if not complaint:
            complaint = self.kernel.act(command)
        if command[0] in self.hanging:
            await asyncio.Event().wait()
        self.now_s += 0.5
        await self._checkpoint()
        return Completed(status=1 if complaint else 0, stdout="", stderr=complaint)

    async def wait_until_gone(self, command: Sequence[str], *, timeout_s: float) -> None:
        """Nothing of this host outlives its process."""
        await self._checkpoint()

    def is_block_device(self, path: str) -> bool:
        """Return whether the host has the device."""
        self._alive()
        try:
            return self.kernel.size_of(path) > 0
        except OSError:
            return False

    def size_bytes(self, path: str) -> int:
        """Return the size."""
        self._alive()
        return self.kernel.size_of(path)

    def claim(self, path: str) -> None:
        """OSError EBUSY while it is switched on."""
        self._alive()
        if path in self.kernel.swaps:
            raise OSError(errno.EBUSY, "Device or resource busy")

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return bytes; all but the first MiB are zero."""
        self._alive()
        return bytes(self.kernel.head(path)[:size]) if offset == 0 else bytes(size)

    def write(self, path: str, offset: int, content: bytes) -> None:
        """Change the first MiB."""
        self.claim(path)
        self.kernel.head(path)[offset : offset + len(content)] = content

    def note(self, leftover: Leftover) -> None:
        """Make it durable."""
        self._alive()
        self._leftovers.note(leftover)

    def forget(self, leftover: Leftover) -> None:
        """Make it durable."""
        self._alive()
        self._leftovers.forget(leftover)

    def noted(self) -> tuple[Noted, ...]:
        """Return what is not taken down."""
        self._alive()
        return self._leftovers.noted()

    async def _sleep(self, duration_s: float) -> None:
        await self._checkpoint()
        self.now_s += duration_s
        self.kernel.disturb()

    async def _checkpoint(self) -> None:
        self._alive()
        number = self.checkpoints
        self.checkpoints += 1
        if number == self.kill_at:
            self._killed = True
        self._alive()
        if self.on_checkpoint is not None:
            await self.on_checkpoint(number)
        # Lets a cancellation arrive here.
        await asyncio.sleep(0)

    def _alive(self) -> None:
        if self._killed:
            raise ProcessKilled
