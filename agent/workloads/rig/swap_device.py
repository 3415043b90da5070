"""The device under a swap workload: an existing block device that is proven unused and blank, or a brd disk of our own.

Every change is noted in the leftovers before it is made; `undoing` takes one back.
"""

import errno
import os
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.host.facts import SwapArea, parse_swaps
from agent.domain.host.swap_header import EDGE_BYTES, Content, content_of, first_mark
from agent.domain.work.leftovers import BrdModule
from agent.workloads.port import Host

TOOL_TIMEOUT_S = 120.0
# Switching an idle 1 TiB on or off takes some ten seconds in an emulated guest; this is the limit of a hung one.
SWAP_TIMEOUT_S = 600.0
# What the kernel appends to the path of what is in use and has no name any more.
DELETED = " (deleted)"
BRD_DEVICE = "/dev/ram0"
_DEVICE_TIMEOUT_S = 10.0
_PAUSE_S = 0.1


def swap_area(host: Host, device: str) -> SwapArea | None:
    """Return the device's line in /proc/swaps, also when its name is gone; None when it has none."""
    areas = parse_swaps((host.proc / "swaps").read_text())
    return next((area for area in areas if area.path.removesuffix(DELETED) == device), None)


def claim_block_device(host: Host, path: str) -> str:
    """Prove that nobody uses the device and that it carries nobody's data; return its real path. Raises RigError."""
    device = os.path.realpath(path)
    if not host.devices.is_block_device(device):
        raise RigError(f"{path} is not a block device on this host; name one in the workload's block_device")
    if swap_area(host, device):
        raise RigError(f"{path} is in use as swap; give the workload a device of its own")
    node = host.sys / "class/block" / Path(device).name
    if any((node / "holders").glob("*")):
        holder = next((node / "holders").glob("*")).name
        raise RigError(f"{path} is held by {holder}; give the workload a device of its own")
    if any(node.glob("*/partition")):
        raise RigError(f"{path} has partitions; give the workload a device of its own")
    if _read(node / "ro") == "1":
        raise RigError(f"{path} is read-only; give the workload a device that can be written")
    try:
        # The kernel refuses this for anything mounted, held or swapped on, under whatever name.
        host.devices.claim(device)
        head, tail = edges(host, device)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise RigError(f"{path} is in use (mounted, or held by a driver); give the workload another") from error
        raise RigError(f"{path} cannot be read: {error.strerror or error}") from error
    if content_of(head, tail) is Content.FOREIGN:
        offset = first_mark(head)
        where = f"at byte {offset}" if offset is not None else "in its last MiB"
        raise RigError(
            f"{path} carries data {where} and is left alone; if it is not needed, clear its first and last MiB first"
        )
    return device


def require_no_brd(host: Host) -> None:
    """Raise RigError when brd is loaded already: its disks are somebody's."""
    if (host.sys / "module/brd").exists() or any((host.sys / "block").glob("ram*")):
        raise RigError("brd is loaded already, by somebody else; unload it (rmmod brd) or give a block device")


async def load_brd(host: Host, size_bytes: int) -> str:
    """Load brd with one disk of this size and return its path. Raises RigError, also when brd is there already."""
    require_no_brd(host)
    size_kib = size_bytes // 1024
    host.leftovers.note(BrdModule(size_kib=size_kib))
    command = ("modprobe", "brd", "rd_nr=1", f"rd_size={size_kib}", "max_part=0")
    completed = await host.tools.run(command, timeout_s=TOOL_TIMEOUT_S)
    if completed.status:
        raise RigError(
            f"brd cannot be loaded ({completed.complaint}): this kernel has no such module; give a block device"
        )
    deadline = host.monotonic() + _DEVICE_TIMEOUT_S
    while not host.devices.is_block_device(BRD_DEVICE):
        if host.monotonic() > deadline:
            raise RigError(f"{BRD_DEVICE} did not appear within {_DEVICE_TIMEOUT_S:g} s after brd was loaded")
        await host.sleep(_PAUSE_S)
    return BRD_DEVICE


def edges(host: Host, device: str) -> tuple[bytes, bytes]:
    """Return the first and the last MiB of a device, where marks are kept. Raises OSError."""
    size = host.devices.size_bytes(device)
    edge = min(EDGE_BYTES, size)
    return host.devices.read(device, 0, edge), host.devices.read(device, size - edge, edge)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
