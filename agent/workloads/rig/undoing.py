"""Takes back what a workload set up: for the workload itself and for the start-up sweep alike."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from agent.domain.errors import KernelWanting, RigError
from agent.domain.host.facts import SwapArea, parse_swaps
from agent.domain.host.swap_header import Content, content_of, is_zero
from agent.domain.work.leftovers import (
    BrdModule,
    KernelSettings,
    Leftover,
    LoopDevice,
    LoopModule,
    MadeDirectory,
    MadeFile,
    SelftestCgroups,
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
from agent.workloads.port import Host
from agent.workloads.rig.kernel_settings import restore_settings
from agent.workloads.rig.selftest_cgroups import remove_cgroups
from agent.workloads.rig.settling import short_of_memory
from agent.workloads.rig.swap_device import DELETED, SWAP_TIMEOUT_S, TOOL_TIMEOUT_S, edges, swap_area
from agent.workloads.rig.swap_files import detach_loop, unload_loop
from agent.workloads.rig.zram import undo_adding, undo_zram, unload_zram
from agent.workloads.rig.zswap import restore_zswap

# What swap may lie on: taken away from under swap that cannot be switched off, it would be lost from sight.
_UNDER_SWAP = (SwapHeader, BrdModule, ZramModule, ZramAdding, ZramDevice, LoopDevice, LoopModule, MadeFile)
# What swapoff says of a device that is not switched on, or not there.
_WAS_OFF = ("Invalid argument", "No such file", "No such device")


async def sweep(host: Host) -> tuple[Leftover, ...]:
    """Take down what an earlier process of this agent left, newest first, and return it.

    What cannot be taken down stays noted, with what swap may lie on if swap is among it; everything else is taken down
    all the same. Then raises as `undo` does.
    """
    undone: list[Leftover] = []
    failures: list[KernelWanting | RigError | OSError] = []
    noted_all, unknown = host.leftovers.noted(), host.leftovers.unknown()
    if unknown:
        failures.append(RigError(unknown))
    # What is not known may be swap on any of it.
    swap_stays = bool(unknown)
    for noted in reversed(noted_all):
        if still_there(noted, host.boot_id):
            if swap_stays and isinstance(noted.leftover, _UNDER_SWAP):
                continue
            try:
                await undo(host, noted.leftover)
            except (KernelWanting, RigError, OSError) as error:
                failures.append(error)
                swap_stays |= isinstance(noted.leftover, SwapOn | SwapFilesBelow)
                continue
            except ValueError as error:
                # Noted in another way than this agent notes it.
                failures.append(RigError(f"{noted.leftover!r} cannot be taken down: {error}"))
                continue
        host.leftovers.forget(noted.leftover)
        undone.append(noted.leftover)
    if failures:
        raise _together(failures)
    return tuple(undone)


def _together(failures: Sequence[KernelWanting | RigError | OSError]) -> KernelWanting | RigError | OSError:
    """Return the first failure, one that speaks against the kernel before others, with what the others say."""
    first = next((each for each in failures if isinstance(each, KernelWanting)), failures[0])
    others = "; ".join(str(each) for each in failures if each is not first)
    if not others:
        return first
    if isinstance(first, KernelWanting):
        return KernelWanting(f"{first}; {others}", evidence=first.evidence)
    return RigError(f"{first}; {others}")


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
            for path in _swap_files_below(host, Path(directory)):
                await _switch_off(host, path)
        case ZswapSettings() as settings:
            restore_zswap(host, settings)
        case KernelSettings() as before:
            restore_settings(host, before)
        case SelftestCgroups() as beside:
            await remove_cgroups(host, beside)
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
    if not _swaps(host):
        return
    # Not only when /proc/swaps has it: that shows a name in the mounts of the process that switched it on, and under
    # systemd's protection those were the process's own and ended with it. The call goes by the file itself.
    try:
        completed = await host.tools.run(("swapoff", device), timeout_s=SWAP_TIMEOUT_S)
    except TimeoutError as error:
        raise KernelWanting(f"swapoff did not end: {error}") from error
    area = swap_area(host, device)
    if area is None and (not completed.status or any(hint in completed.complaint for hint in _WAS_OFF)):
        return
    if area is not None and area.path.endswith(DELETED) and not host.files.exists(Path(device)):
        raise RigError(
            f"{device} was removed while it was switched on, and the kernel switches off only what has a name; restart "
            "the host"
        )
    complaint = f"swapoff {device} left it switched on: {completed.complaint}"
    used_bytes = sum(each.used_bytes for each in _swaps(host))
    if short_of_memory(host, completed.complaint, needed_bytes=used_bytes):
        raise RigError(f"{complaint}: what is in swap does not fit into memory; end something, then try again")
    raise KernelWanting(complaint)


def _swap_files_below(host: Host, directory: Path) -> list[str]:
    """Return the files in a directory that may be switched on, also under a name that /proc/swaps does not show."""
    swaps = _swaps(host)
    shown = [area.path for area in swaps if area.path.startswith(f"{directory}/")]
    # One whose name is shown otherwise is found by looking at every file, which only then is worth while.
    hidden = len(shown) < len(swaps) and directory.is_dir()
    there = [str(path) for path in sorted(directory.rglob("*")) if path.is_file()] if hidden else []
    return [*shown, *(path for path in there if path not in shown)]


def _swaps(host: Host) -> tuple[SwapArea, ...]:
    return parse_swaps((host.proc / "swaps").read_text())


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
