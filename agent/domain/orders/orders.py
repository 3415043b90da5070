"""One dataclass a workload: everything that may be chosen about it, with units in the names, checked when it is made.

A field's sentence is what --help prints. Swap source and pressure are the same everywhere.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from agent.domain.errors import InvalidOrder
from agent.domain.host.memory import MIB
from agent.domain.orders.fields import setting
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource, needs_swap

_PROGRAM = re.compile(r"[a-z0-9_]+/[A-Za-z0-9_][A-Za-z0-9_.-]*")


def _at_least(order: object, least: int, *names: str) -> None:
    for name in names:
        value = getattr(order, name)
        if value < least:
            raise InvalidOrder(f"{name} must be at least {least} (got {value})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapMountOrder:
    """S1: what an idle mounted swap device costs in memory."""

    workload: ClassVar[str] = "swap_mount"
    swap: SwapSource = field(default_factory=SwapSource)
    settle_tolerance_bytes: int = setting(MIB // 2, "memory that changes by less in a second has settled")
    settle_timeout_s: float = setting(60.0, "give up when it has not settled by then")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        if self.swap.kind is SourceKind.EXISTING:
            raise InvalidOrder("swap_mount switches swap on and off, so it needs a device of its own")
        if self.swap.zswap:
            raise InvalidOrder("swap_mount keeps the device idle; zswap has no part in it")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFillOrder:
    """What swap costs in memory when half of it is in use: static and dynamic metadata together."""

    workload: ClassVar[str] = "swap_fill"
    swap: SwapSource = field(default_factory=SwapSource)
    fill_percent: int = setting(50, "how much of the device is filled before memory is read")
    seed: int = setting(1, "decides the patterns of the pages")
    settle_tolerance_bytes: int = setting(MIB, "memory that changes by less in a second has settled")
    settle_timeout_s: float = setting(60.0, "give up when it has not settled by then")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        if self.swap.kind is SourceKind.EXISTING or self.swap.allow_active_swap:
            raise InvalidOrder("swap_fill subtracts what its own device takes, so it needs one of its own and no other")
        if self.swap.zswap:
            raise InvalidOrder("zswap would hold the pages itself; swap_fill needs them on the device")
        if self.fill_percent not in range(1, 96):
            raise InvalidOrder(f"fill_percent must be 1 to 95 (got {self.fill_percent})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapIntegrityOrder:
    """What a rewrite of the swap count can break: pages swapped in every way there is, compared byte for byte."""

    workload: ClassVar[str] = "swap_integrity"
    swap: SwapSource = field(default_factory=SwapSource)
    pressure: Pressure = field(default_factory=Pressure)
    memory_bytes: int = setting(128 * MIB, "how much is written, swapped out and compared")
    sharers: int = setting(130, "processes that share the same swapped pages; above 127 the count needs a third byte")
    rounds: int = setting(1, "how often everything is repeated in one run")
    device_count: int = setting(2, "swap devices of different priority, each of the given size")
    discard: bool = setting(True, "switch one device on with discard, where it can")
    seed: int = setting(1, "decides the patterns of the pages")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        if self.swap.kind is SourceKind.EXISTING or self.swap.allow_active_swap:
            raise InvalidOrder(
                "swap_integrity counts the slots of its devices, and no kernel tells on which one a process has its "
                "pages; it needs devices of its own and no other swap"
            )
        _at_least(self, MIB, "memory_bytes")
        _at_least(self, 1, "sharers", "rounds", "device_count")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapMountIndicatorOrder:
    """Whether /proc/swaps is right while swap is switched on, switched off under load, and after a failed swapon."""

    workload: ClassVar[str] = "swap_mount_indicator"
    swap: SwapSource = field(default_factory=SwapSource)
    memory_bytes: int = setting(64 * MIB, "how much is swapped out, so that swapoff has work to do")
    readers: int = setting(2, "processes that read /proc/swaps all the time")
    cycles: int = setting(3, "how often the device is switched on and off in one run")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        if self.swap.kind is SourceKind.EXISTING:
            raise InvalidOrder("swap_mount_indicator switches swap on and off, so it needs a device of its own")
        _at_least(self, MIB, "memory_bytes")
        _at_least(self, 1, "readers", "cycles")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelBuildOrder:
    """S2, S3: building a kernel while memory is short."""

    workload: ClassVar[str] = "kernel_build"
    swap: SwapSource = field(default_factory=SwapSource)
    pressure: Pressure = field(default_factory=Pressure)
    source: str = setting("", "a kernel's source: directory or tarball; empty: Debian's linux-source in /usr/src")
    config: str = setting("tinyconfig", "what is built", choices=("tinyconfig", "defconfig"))
    jobs: int = setting(2, "what make -j is given")
    objects: tuple[str, ...] = setting(
        (), "build only these, for example mm/swapfile.o; never reported as the full build"
    )
    directory: str = setting("", "where the source is unpacked and built; empty: the agent's state directory")
    min_swapped_out_bytes: int = setting(MIB, "a run that swapped out less than this is invalid")
    prepared_directory: str = setting(
        "", "where what --objects need is prepared and kept for later commands; empty: prepared by each, and removed"
    )

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        _at_least(self, 1, "jobs", "min_swapped_out_bytes")
        if self.prepared_directory and not self.objects:
            raise InvalidOrder("prepared_directory keeps what objects need, and none are named; a kernel starts anew")
        if self.prepared_directory and not self.prepared_directory.startswith("/"):
            raise InvalidOrder(f"prepared_directory must start with / (got {self.prepared_directory!r})")
        for each in self.objects:
            if not each.endswith(".o") or each.startswith(("/", "-")) or ".." in each:
                raise InvalidOrder(f"objects are named from the top of the source, as mm/swapfile.o (got {each!r})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyGetOrder:
    """S4, S5: random reads from a key-value server whose data does not fit into memory."""

    workload: ClassVar[str] = "valkey_get"
    swap: SwapSource = field(default_factory=SwapSource)
    pressure: Pressure = field(default_factory=Pressure)
    maxmemory_bytes: int = setting(2560 * MIB, "what the server's --maxmemory is given")
    keys: int = setting(3_000_000, "what the benchmark's -r is given")
    requests: int = setting(3_000_000, "what the benchmark's -n is given")
    value_bytes: int = setting(1024, "what the benchmark's -d is given")
    clients: int = setting(12, "what the benchmark's -c is given")
    pipeline: int = setting(32, "what the benchmark's -P is given")
    bgsave: bool = setting(False, "save in the background while the benchmark runs (S5)")
    min_hit_percent: int = setting(50, "a run with fewer hits than this among its reads is invalid")
    min_swapped_in_bytes: int = setting(MIB, "a run that swapped in less than this is invalid")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        _at_least(self, MIB, "maxmemory_bytes")
        _at_least(self, 1, "keys", "requests", "value_bytes", "clients", "pipeline", "min_swapped_in_bytes")
        if self.min_hit_percent not in range(1, 101):
            raise InvalidOrder(f"min_hit_percent must be 1 to 100 (got {self.min_hit_percent})")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnonSweepOrder:
    """Touching anonymous memory that does not fit, as fast as swap allows."""

    workload: ClassVar[str] = "anon_sweep"
    swap: SwapSource = field(default_factory=SwapSource)
    pressure: Pressure = field(default_factory=Pressure)
    memory_bytes: int = setting(256 * MIB, "how much is touched, by all processes together")
    processes: int = setting(1, "processes that touch at the same time")
    pattern: str = setting("sequential", "the order in which pages are touched", choices=("sequential", "random"))
    passes: int = setting(2, "how often everything is touched after it was written once")
    seed: int = setting(1, "decides the order of random touching")
    min_swapped_in_bytes: int = setting(MIB, "a run that swapped in less than this is invalid")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        _at_least(self, MIB, "memory_bytes")
        _at_least(self, 1, "processes", "passes", "min_swapped_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class StressNgOrder:
    """A soak under stress-ng's vm and swap stressors: survival first, then bogo operations per second."""

    workload: ClassVar[str] = "stress_ng"
    swap: SwapSource = field(default_factory=SwapSource)
    pressure: Pressure = field(default_factory=Pressure)
    vm_workers: int = setting(2, "processes that write and check memory")
    vm_bytes: int = setting(256 * MIB, "memory of all of them together")
    swap_workers: int = setting(1, "processes that switch small swap files of their own on and off")
    duration_s: float = setting(60.0, "how long one run lasts")
    seed: int = setting(1, "what stress-ng's --seed is given")
    min_swapped_out_bytes: int = setting(MIB, "a run that swapped out less than this is invalid")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        _at_least(self, 1, "vm_workers", "min_swapped_out_bytes")
        _at_least(self, 0, "swap_workers")
        _at_least(self, MIB, "vm_bytes")
        if self.duration_s < 1:
            raise InvalidOrder(f"duration_s must be at least 1 (got {self.duration_s:g})")


@dataclass(frozen=True, slots=True, kw_only=True)
class MmSelftestsOrder:
    """The kernel's own selftests that bear on swap, while memory is short: which cases pass, fail, or cannot run."""

    workload: ClassVar[str] = "mm_selftests"
    swap: SwapSource = field(default_factory=SwapSource)
    pressure: Pressure = field(default_factory=Pressure)
    programs: tuple[str, ...] = setting((), "run only these test programs, for example mm/cow cgroup/test_memcontrol")
    program_timeout_s: float = setting(600.0, "a program that takes longer is killed, and has failed")
    memory_bytes: int = setting(256 * MIB, "how much is touched by the programs that can be told so")
    selftests_directory: str = setting(
        "", "what make install of the kernel's selftests has left; empty: /usr/libexec/kselftests, else they are built"
    )
    source: str = setting(
        "", "a kernel's source to build them from: directory or tarball; empty: Debian's linux-source in /usr/src"
    )
    jobs: int = setting(2, "what make -j is given to build them")
    directory: str = setting("", "where they are built; empty: the agent's state directory")
    prepared_directory: str = setting("", "where they are built and kept for later commands; empty: built by each")
    # Most of the programs have the pages that they are about swapped out themselves, and those are few.
    min_swapped_out_bytes: int = setting(64 << 10, "a run that swapped out less than this is invalid")

    def __post_init__(self) -> None:
        needs_swap(self.workload, self.swap)
        _at_least(self, MIB, "memory_bytes")
        _at_least(self, 1, "jobs")
        _at_least(self, 0, "min_swapped_out_bytes")
        if self.program_timeout_s < 1:
            raise InvalidOrder(f"program_timeout_s must be at least 1 (got {self.program_timeout_s:g})")
        if self.selftests_directory and (self.source or self.prepared_directory):
            raise InvalidOrder(
                "selftests_directory has programs that are built; source and prepared_directory build them"
            )
        for name in ("selftests_directory", "prepared_directory"):
            value = getattr(self, name)
            if value and not value.startswith("/"):
                raise InvalidOrder(f"{name} must start with / (got {value!r})")
        for each in self.programs:
            if not _PROGRAM.fullmatch(each):
                raise InvalidOrder(f"programs are named by folder and name, as mm/cow (got {each!r})")


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicDrillOrder:
    """Measures nothing: panics the running kernel, to prove that the host comes back by itself."""

    workload: ClassVar[str] = "panic_drill"
    confirm: bool = setting(False, "really panic: all that is not on disk is lost, and the machine restarts")

    def __post_init__(self) -> None:
        if not self.confirm:
            raise InvalidOrder("panic_drill takes the whole machine down; confirm that this is meant (--confirm)")


Order = (
    SwapMountOrder
    | SwapFillOrder
    | SwapIntegrityOrder
    | SwapMountIndicatorOrder
    | KernelBuildOrder
    | ValkeyGetOrder
    | AnonSweepOrder
    | StressNgOrder
    | MmSelftestsOrder
    | PanicDrillOrder
)
