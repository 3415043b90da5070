"""What a workload has set up on the host and not yet taken down: written down before it is set up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapOn:
    """Swapping onto a device was, or was about to be, switched on."""

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


Leftover = SwapOn | SwapHeader | BrdModule


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """A leftover and the boot it belongs to: a reboot switches swap off and unloads modules by itself."""

    boot_id: str
    leftover: Leftover


def still_there(noted: Noted, boot_id: str) -> bool:
    """Return whether the present boot may still have it. Only what is written on a device survives a reboot."""
    return noted.boot_id == boot_id or isinstance(noted.leftover, SwapHeader)
