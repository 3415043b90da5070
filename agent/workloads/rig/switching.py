"""Making a swap area of the kind that was ordered, and switching it on and off."""

from typing import assert_never

from agent.domain.errors import KernelWanting, RigError
from agent.domain.host.swap_header import OUR_LABEL
from agent.domain.orders.preflight import metadata_bytes
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.work.leftovers import SwapHeader, SwapOn
from agent.workloads.port import Host
from agent.workloads.rig.settling import short_of_memory
from agent.workloads.rig.swap_device import SWAP_TIMEOUT_S, TOOL_TIMEOUT_S, claim_block_device, load_brd, swap_area
from agent.workloads.rig.swap_files import attach_loop, make_swap_file
from agent.workloads.rig.zram import set_up_zram

# The highest priority there is (include/linux/swap.h).
_FIRST = 32767
NO_PERMISSION = ("Operation not permitted", "Permission denied", "must be superuser")


async def make_swap_area(host: Host, swap: SwapSource) -> str:
    """Make the device and write a swap area of ours onto it; return its path. Raises RigError."""
    match swap.kind:
        case SourceKind.BLOCK_DEVICE:
            device = claim_block_device(host, swap.path)
            host.leftovers.note(SwapHeader(device=device))
        case SourceKind.BRD:
            device = await load_brd(host, swap.size_bytes)
        case SourceKind.ZRAM:
            device = await set_up_zram(host, swap)
        case SourceKind.LOOP:
            device = await attach_loop(host, swap)
        case SourceKind.FILE:
            device = await make_swap_file(host, swap)
        case SourceKind.EXISTING | SourceKind.NONE:
            raise RigError(f"{swap.kind} swap cannot be made; name a device or a size")
        case _:
            assert_never(swap.kind)
    completed = await host.tools.run(("mkswap", "-L", OUR_LABEL, device), timeout_s=TOOL_TIMEOUT_S)
    if completed.status:
        raise RigError(f"mkswap {device} failed: {completed.complaint}")
    return device


async def switch_swap_on(host: Host, device: str, *options: str) -> float:
    """Switch swap on and return how long it took; without options before all other swap that the host may have.

    Raises KernelWanting; RigError for a file system that cannot hold swap, and for memory that is too short.
    """
    options = options or ("-p", str(_FIRST))
    host.leftovers.note(SwapOn(device=device))
    begun = host.monotonic()
    try:
        completed = await host.tools.run(("swapon", *options, device), timeout_s=SWAP_TIMEOUT_S)
    except TimeoutError as error:
        raise KernelWanting(f"swapon did not end: {error}") from error
    elapsed_s = host.monotonic() - begun
    if not completed.status:
        return elapsed_s
    listed = swap_area(host, device) is not None
    remark = ", and /proc/swaps shows it all the same" if listed else ""
    complaint = f"swapon {device} failed: {completed.complaint}{remark}"
    if "Invalid argument" in completed.complaint and not host.devices.is_block_device(device):
        raise RigError(f"{complaint}; the file system there cannot hold swap: name another directory, or use loop")
    if any(hint in completed.complaint for hint in NO_PERMISSION):
        raise RigError(f"{complaint}; the agent must run as root")
    needed_bytes = metadata_bytes(_size_bytes(host, device), host.kernel_release)
    if short_of_memory(host, completed.complaint, needed_bytes=needed_bytes):
        raise RigError(f"{complaint}; this host has too little memory left, choose a smaller device")
    raise KernelWanting(complaint)


def _size_bytes(host: Host, device: str) -> int:
    return host.devices.size_bytes(device) if host.devices.is_block_device(device) else 0


async def switch_swap_off(host: Host, device: str, *, timeout_s: float = SWAP_TIMEOUT_S) -> float:
    """Switch swap off and return how long it took. Raises KernelWanting; RigError for memory that is too short."""
    begun = host.monotonic()
    try:
        completed = await host.tools.run(("swapoff", device), timeout_s=timeout_s)
    except TimeoutError as error:
        raise KernelWanting(f"swapoff did not end: {error}") from error
    elapsed_s = host.monotonic() - begun
    if completed.status:
        complaint = f"swapoff {device} failed: {completed.complaint}"
        area = swap_area(host, device)
        if short_of_memory(host, completed.complaint, needed_bytes=area.used_bytes if area else 0):
            raise RigError(f"{complaint}; what is in swap does not fit into the memory that this host has left")
        raise KernelWanting(complaint)
    if swap_area(host, device) is not None:
        raise KernelWanting(f"/proc/swaps still shows {device} after swapoff")
    host.leftovers.forget(SwapOn(device=device))
    return elapsed_s
