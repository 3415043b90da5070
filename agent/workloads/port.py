"""The port of all workloads, and what they need from the host."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.domain.leftovers import Leftover, Noted
from agent.domain.results import Sample, WorkloadRun


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
        """Wait until no process on the host runs this very command line. Raises TimeoutError."""


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
        """Return all that is not taken down, in the order of setting up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The host as workloads see it. Tests give another one."""

    tools: Tools
    devices: BlockDevices
    leftovers: Leftovers
    # Seconds, from any origin.
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    boot_id: str
    kernel_release: str
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


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

    def progress(self, step: str, fraction: float) -> None:
        """Show what is being done; `fraction` of the command, 0 to 1."""


StepReporter = Callable[[str], None]


class Workload(Protocol):
    """One kind of work. Raises KernelWanting, RigError; may be cancelled at any moment."""

    @property
    def name(self) -> str:
        """Return the name under which runs are reported."""

    async def prepare(self, step: StepReporter) -> None:
        """Set up what all runs share."""

    async def run(self, step: StepReporter) -> Measurement:
        """Measure once, and take down what only this run needed."""

    async def clean_up(self) -> None:
        """Take down everything; called once, on every path, also when `prepare` did not come to its end."""
