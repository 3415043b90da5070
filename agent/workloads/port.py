"""The port of all workloads, and what they need from the host."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.domain.results import Sample, WorkloadRun
from agent.domain.work.leftovers import Leftover, Noted
from agent.domain.work.recording import Reading


class Completed(Protocol):
    """A tool that ended by itself."""

    @property
    def status(self) -> int:
        """Return the exit status."""

    @property
    def stdout(self) -> str:
        """Return what it printed."""

    @property
    def complaint(self) -> str:
        """Return what it said about its failure, in one line."""


class Tools(Protocol):
    """Runs the system's tools."""

    def has(self, tool: str) -> bool:
        """Return whether the tool is installed."""

    async def run(self, command: Sequence[str], *, timeout_s: float) -> Completed:
        """Run a tool to its end; killed and awaited when cancelled. Raises RigError (missing), TimeoutError."""

    async def wait_until_gone(self, command: Sequence[str], *, timeout_s: float) -> None:
        """Wait until no process on the host runs the tool with these last words. Raises TimeoutError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a workload's process ended, and what it and its children used."""

    # The exit status; negative is the signal that ended it.
    status: int
    # The end of what it printed and complained about.
    stdout: str
    stderr: str
    elapsed_s: float
    user_s: float
    system_s: float
    # Of the largest process.
    peak_bytes: int

    @property
    def complaint(self) -> str:
        """Return what it said about its failure, in one line."""
        text = (self.stderr or self.stdout).strip()[-400:].replace("\n", "; ")
        if self.status < 0:
            return f"ended by signal {-self.status}; {text}" if text else f"ended by signal {-self.status}"
        return text or f"exit status {self.status}"


# Of what a worker prints and complains about, what is kept unless more is asked for.
KEPT_BYTES = 64 << 10


class Worker(Protocol):
    """A running process of a workload."""

    @property
    def printed(self) -> str:
        """Return the end of what it has printed so far, as far as somebody waited for a line or for its end."""

    async def line(self, *, timeout_s: float) -> str:
        """Return the next line of output without its end; empty at the end of output. Raises TimeoutError."""

    async def say(self, line: str) -> None:
        """Write a line to the process. Raises RigError when it has ended."""

    def terminate(self) -> None:
        """Ask it and its children to end."""

    async def ended(self, *, timeout_s: float) -> Ended:
        """Wait for the end and return it. Raises TimeoutError, RigError."""


class Workers(Protocol):
    """Runs the processes that do a workload's work, apart from the agent and, where asked, short of memory."""

    @property
    def name(self) -> str:
        """Return the name that finds them again; note it as a leftover before the first."""

    def can_limit(self) -> str:
        """Return why memory cannot be limited on this host; empty when it can."""

    def confine(self, memory_limit_bytes: int) -> None:
        """Make the cgroup that workers will enter; 0 sets no limit. Raises RigError."""

    def statistics(self) -> Mapping[str, str]:
        """Return the cgroup's own accounts by file name; empty without a cgroup."""

    def started(
        self,
        command: Sequence[str],
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> AbstractAsyncContextManager[Worker]:
        """Start a process; it and its group are killed at the end of the context. Raises RigError (missing).

        Of what it prints, the last `kept_bytes` are kept for `printed` and `ended`.
        """

    async def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a process to its end. Raises RigError (missing), TimeoutError (it is killed then)."""

    async def end_all(self) -> None:
        """Kill what was ever started under this name and still runs; take its cgroup down. Raises RigError."""


class Files(Protocol):
    """Reads and writes files of the kernel and of the workloads. Every verb raises OSError."""

    def read(self, path: Path) -> str:
        """Return a file's text, stripped; some files of the kernel act when they are read."""

    def write(self, path: Path, text: str) -> None:
        """Write a file that exists, in one write."""

    def exists(self, path: Path) -> bool:
        """Return whether there is anything of this name."""

    def names(self, directory: Path) -> tuple[str, ...]:
        """Return the names in a directory, sorted; none when there is no such directory."""

    def make_sparse(self, path: Path, size_bytes: int) -> None:
        """Make a new file of this size that takes no room yet."""

    async def allocate(self, path: Path, size_bytes: int) -> None:
        """Make a new file of this size whose room is taken."""

    def remove(self, path: Path) -> None:
        """Remove a file; it may be gone already."""

    def make_directory(self, path: Path) -> None:
        """Make a directory."""

    async def remove_tree(self, path: Path) -> None:
        """Remove a directory and everything in it; it may be gone already."""

    def free_bytes(self, directory: Path) -> int:
        """Return the room that is left where the directory is, or will be made."""


class BlockDevices(Protocol):
    """Reads and writes block devices. Every verb raises OSError."""

    def is_block_device(self, path: str) -> bool:
        """Return whether the path is a block device; False when it does not exist."""

    def size_bytes(self, path: str) -> int:
        """Return the size."""

    def claim(self, path: str) -> None:
        """Open the device for exclusive use and close it again; OSError EBUSY when the kernel uses it for anything."""

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return bytes from the medium."""

    def write(self, path: str, offset: int, content: bytes) -> None:
        """Write bytes through to the medium; refused with EBUSY while anybody uses the device."""


class Leftovers(Protocol):
    """Remembers on disk what was set up."""

    def note(self, leftover: Leftover) -> None:
        """Make it durable that this is about to be set up in the present boot."""

    def forget(self, leftover: Leftover) -> None:
        """Make it durable that this was taken down."""

    def noted(self) -> tuple[Noted, ...]:
        """Return all that is known and not taken down, in the order of setting up."""

    def unknown(self) -> str:
        """Say what else may have been set up and cannot be known; empty when all is known."""


class Readings(Protocol):
    """Reads the kernel's counters."""

    def read(self, at_s: float) -> Reading:
        """Read everything."""

    def glance(self, at_s: float) -> Reading:
        """Read what a time series shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The host as workloads see it. Tests give another one."""

    tools: Tools
    devices: BlockDevices
    leftovers: Leftovers
    workers: Workers
    files: Files
    readings: Readings
    # Returns what stays as it is until the next boot, as a document.
    environment: Callable[[], Awaitable[str]]
    # Seconds, from any origin.
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    boot_id: str
    kernel_release: str
    # Where workloads make their files when the order does not say where.
    scratch: Path
    is_root: bool
    # Whether its configuration allows workloads beside swap that it has switched on by itself.
    allows_active_swap: bool
    # Returns a TCP port of the loopback interface that nobody listens on now.
    free_port: Callable[[], int]
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    # Where kernels' modules are, in a directory for each release.
    modules: Path = Path("/lib/modules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a workload would do to this host, found out without touching anything."""

    # One sentence each, in the order in which it happens.
    touches: tuple[str, ...]
    # Why it will not run here; empty when it will.
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one run of a workload found."""

    samples: tuple[Sample, ...]
    evidence: Mapping[str, str] = field(default_factory=dict)


class Listener(Protocol):
    """Hears how a command goes on."""

    async def run_begun(self, index: int) -> None:
        """Take note, durably, before the run touches anything."""

    async def run_ended(self, run: WorkloadRun) -> None:
        """Report the run."""

    def clean_up_begun(self) -> None:
        """Take note, durably, that no further run follows and everything is about to be taken down."""

    def progress(self, step: str, fraction: float) -> None:
        """Show what is being done; `fraction` of the command, 0 to 1."""


StepReporter = Callable[[str], None]


class Workload(Protocol):
    """One kind of work. Raises KernelWanting, RigError; may be cancelled at any moment."""

    @property
    def name(self) -> str:
        """Return the name under which runs are reported."""

    def inspect(self) -> Inspection:
        """Say what would be touched and what speaks against it; touches nothing itself."""

    async def prepare(self, step: StepReporter) -> None:
        """Set up what all runs share."""

    async def run(self, step: StepReporter) -> Measurement:
        """Measure once, and take down what only this run needed."""

    async def clean_up(self) -> None:
        """Take down everything; called once, on every path, also when `prepare` did not come to its end."""
