"""Takes back what a workload set up: for the workload itself and for the start-up sweep alike."""

import errno
from pathlib import Path
from typing import assert_never

from agent.domain.errors import KernelWanting, RigError
from agent.domain.facts import parse_swaps
from agent.domain.leftovers import (
    BrdModule,
    KernelSettings,
    Leftover,
    LoopDevice,
    LoopModule,
    MadeDirectory,
    MadeFile,
    SwapFilesBelow,
    SwapHeader,
    SwapOn,
    Workers,
    ZramAdding,
    ZramDevice,
    ZramModule,
    ZswapSettings,
    still_there,
)
from agent.domain.swap_header import Content, content_of, is_zero
from agent.workloads.kernel_settings import restore_settings
from agent.workloads.port import Host
from agent.workloads.swap_device import DELETED, SWAP_TIMEOUT_S, TOOL_TIMEOUT_S, edges, swap_area
from agent.workloads.swap_files import detach_loop, unload_loop
from agent.workloads.zram import undo_adding, undo_zram, unload_zram
from agent.workloads.zswap import restore_zswap


async def sweep(host: Host) -> tuple[Leftover, ...]:
    """Take down what an earlier process of this agent left, newest first, and return it. Raises as `undo` does."""
    undone = []
    for noted in reversed(host.leftovers.noted()):
        if still_there(noted, host.boot_id):
            await undo(host, noted.leftover)
        host.leftovers.forget(noted.leftover)
        undone.append(noted.leftover)
    return tuple(undone)


async def undo(host: Host, leftover: Leftover) -> None:
    """Take one thing back, if it is there, and forget it. Raises KernelWanting, RigError, OSError."""
    match leftover:
        case SwapOn(device=device):
            await _switch_off(host, device)
        case SwapHeader(device=device):
            _erase(host, device)
        case BrdModule(size_kib=size_kib):
            await _unload_brd(host, size_kib)
        case ZramModule() as loaded:
            await unload_zram(host, loaded)
        case ZramAdding() as adding:
            await undo_adding(host, adding)
        case ZramDevice() as zram:
            await undo_zram(host, zram)
        case LoopDevice() as loop:
            await detach_loop(host, loop)
        case LoopModule():
            await unload_loop(host)
        case MadeFile(path=path):
            host.files.remove(Path(path))
        case MadeDirectory(path=path):
            await host.files.remove_tree(Path(path))
        case SwapFilesBelow(directory=directory):
            for area in parse_swaps((host.proc / "swaps").read_text()):
                if area.path.startswith(f"{directory}/"):
                    await _switch_off(host, area.path)
        case ZswapSettings() as settings:
            restore_zswap(host, settings)
        case KernelSettings() as before:
            restore_settings(host, before)
        case Workers():
            await host.workers.end_all()
        case _:
            assert_never(leftover)
    host.leftovers.forget(leftover)


async def _switch_off(host: Host, device: str) -> None:
    for tool in ("swapon", "swapoff"):
        # One that was killed finishes its system call first, and only then is /proc/swaps final.
        try:
            await host.tools.wait_until_gone((tool, device), timeout_s=SWAP_TIMEOUT_S)
        except TimeoutError as error:
            raise KernelWanting(f"{tool} {device} does not end, even when killed") from error
    if swap_area(host, device) is None:
        return
    try:
        completed = await host.tools.run(("swapoff", device), timeout_s=SWAP_TIMEOUT_S)
    except TimeoutError as error:
        raise KernelWanting(f"swapoff did not end: {error}") from error
    area = swap_area(host, device)
    if area is None:
        return
    if area.path.endswith(DELETED) and not host.files.exists(Path(device)):
        raise RigError(
            f"{device} was removed while it was switched on, and the kernel switches off only what has a name; restart "
            "the host"
        )
    raise KernelWanting(f"swapoff {device} left it switched on: {completed.complaint}")


def _erase(host: Host, device: str) -> None:
    if not host.devices.is_block_device(device):
        return
    head, tail = edges(host, device)
    if content_of(head, tail) is not Content.OURS:
        return
    try:
        # The device was blank; the kernel may have swapped pages out to either end of it. The header goes last, because
        # it is what marks the rest as ours.
        if not is_zero(tail):
            host.devices.write(device, host.devices.size_bytes(device) - len(tail), bytes(len(tail)))
        host.devices.write(device, 0, bytes(len(head)))
    except OSError as error:
        # Somebody has taken it into use since; then it is not ours to change.
        if error.errno != errno.EBUSY:
            raise


async def _unload_brd(host: Host, size_kib: int) -> None:
    module = host.sys / "module/brd"
    if not module.exists():
        return
    parameters = module / "parameters"
    if (_read(parameters / "rd_size"), _read(parameters / "rd_nr")) != (str(size_kib), "1"):
        return
    completed = await host.tools.run(("rmmod", "brd"), timeout_s=TOOL_TIMEOUT_S)
    if completed.status and module.exists():
        raise RigError(f"brd cannot be unloaded: {completed.complaint}")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
