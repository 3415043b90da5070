"""What a workload swaps to, and how memory is made short for it."""

from dataclasses import dataclass
from enum import StrEnum

from agent.domain.errors import InvalidOrder
from agent.domain.orders.fields import setting


class SourceKind(StrEnum):
    """What is mounted as swap."""

    NONE = "none"  # nothing was named
    BLOCK_DEVICE = "block_device"  # a blank device that nobody uses
    BRD = "brd"  # a RAM disk, made by loading the brd module
    ZRAM = "zram"  # compressed memory: an idle zram device, or one that is added for the run
    LOOP = "loop"  # a loop device over a sparse file
    FILE = "file"  # a swap file, written in full
    EXISTING = "existing"  # the swap that the host has switched on already


_WITH_SIZE = (SourceKind.BRD, SourceKind.ZRAM, SourceKind.LOOP, SourceKind.FILE)
_WITH_FILE = (SourceKind.LOOP, SourceKind.FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapSource:
    """Where swap goes for the run. All of it is set up for the command and taken down after it."""

    kind: SourceKind = setting(SourceKind.NONE, "what is mounted as swap")
    path: str = setting("", "the block device")
    size_bytes: int = setting(0, "its size")
    directory: str = setting("", "where the file is made; empty: the agent's state directory")
    algorithm: str = setting("", "how zram compresses, for example lzo-rle; empty: as the kernel has it")
    zswap: bool = setting(False, "compress pages in zswap on their way to the device")
    zswap_compressor: str = setting("", "how zswap compresses; empty: as the kernel has it")
    zswap_max_pool_percent: int = setting(0, "how much of memory zswap may take; 0: as the kernel has it")
    allow_active_swap: bool = setting(
        False, "run although the host swaps elsewhere too: the kernel then chooses between the devices"
    )

    def __post_init__(self) -> None:
        if self.kind is SourceKind.BLOCK_DEVICE and not self.path:
            raise InvalidOrder("the swap's block device has no path; name one, for example /dev/nvme1n1")
        if self.kind in _WITH_SIZE and self.size_bytes < 1 << 20:
            raise InvalidOrder(f"{self.kind} swap needs a size of at least 1M (got {self.size_bytes} bytes)")
        if self.algorithm and self.kind is not SourceKind.ZRAM:
            raise InvalidOrder("only zram swap takes an algorithm")
        if self.directory and self.kind not in _WITH_FILE:
            raise InvalidOrder("only a swap file, or loop over a file, takes a directory")
        if self.zswap and self.kind is SourceKind.ZRAM:
            raise InvalidOrder("zswap over zram would compress everything twice; leave one of them out")
        if not self.zswap and (self.zswap_compressor or self.zswap_max_pool_percent):
            raise InvalidOrder("zswap's parameters need zswap to be on")
        if self.zswap_max_pool_percent not in range(101):
            raise InvalidOrder(f"zswap's share of memory is 1 to 100 percent (got {self.zswap_max_pool_percent})")

    @property
    def named(self) -> bool:
        """Return whether anything was named."""
        return self.kind is not SourceKind.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How memory is made short: by a limit on the workload's processes, or only by what the machine has."""

    memory_limit_bytes: int = setting(
        0, "the most memory the workload's processes may have together; 0: what the machine has (global pressure)"
    )

    def __post_init__(self) -> None:
        if 0 < self.memory_limit_bytes < 1 << 20:
            raise InvalidOrder(f"a memory limit is at least 1M (got {self.memory_limit_bytes} bytes)")


def needs_swap(workload: str, swap: SwapSource) -> None:
    """Raise InvalidOrder when no swap is named."""
    if not swap.named:
        raise InvalidOrder(
            f"{workload} needs something to swap to: name a block device, or the size of a brd, zram, loop or file swap"
        )
