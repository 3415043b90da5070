"""What a workload has set up on the host and not yet taken down: written down before it is set up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapOn:
    """Swapping onto a device or file was, or was about to be, switched on."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapHeader:
    """A swap area was, or was about to be, written onto a device that was blank."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BrdModule:
    """The brd module was, or was about to be, loaded."""

    # Tells our brd from one that somebody else loads later.
    size_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZramModule:
    """The zram module was, or was about to be, loaded without devices."""

    # Modules that were loaded along with it, in the order of loading, separated by spaces.
    brought: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopModule:
    """The loop module was, or was about to be, loaded, with as many devices as it makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZramAdding:
    """A zram device was about to be added beside these; which number it got was not yet known."""

    # Names as "zram0", separated by spaces.
    known: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZramDevice:
    """A zram device was, or was about to be, given a size."""

    # As "zram0".
    name: str
    # True when this agent added it; an idle one that was there is reset and stays.
    added: bool
    # Restored with the reset; empty when it was not changed.
    algorithm_before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopDevice:
    """A loop device was, or was about to be, attached to this file."""

    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFile:
    """A file was, or was about to be, made."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDirectory:
    """A directory was, or was about to be, made and filled."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFilesBelow:
    """A program was, or was about to be, started that switches swap files of its own in this directory on and off."""

    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZswapSettings:
    """Parameters of zswap were, or were about to be, changed; their values before. Empty: not changed."""

    enabled: str
    compressor: str
    max_pool_percent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSettings:
    """Programs were, or were about to be, started that change settings of the kernel; as they were before."""

    # A line each: the file's path, a space, the value.
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestCgroups:
    """Programs were, or were about to be, started that make cgroups beside these, directly below the root."""

    # Separated by spaces.
    known: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Processes were, or were about to be, started under this name, in cgroups of this name where there are any."""

    name: str


Leftover = (
    SwapOn
    | SwapHeader
    | BrdModule
    | ZramModule
    | ZramAdding
    | ZramDevice
    | LoopDevice
    | LoopModule
    | MadeFile
    | MadeDirectory
    | SwapFilesBelow
    | ZswapSettings
    | KernelSettings
    | SelftestCgroups
    | Workers
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A leftover and the boot it belongs to: a reboot switches swap off and unloads modules by itself."""

    boot_id: str
    leftover: Leftover


def still_there(noted: Noted, boot_id: str) -> bool:
    """Return whether the present boot may still have it. Only what is written on a disk survives a reboot."""
    return noted.boot_id == boot_id or isinstance(noted.leftover, SwapHeader | MadeFile | MadeDirectory)
