"""Swap in a file: written in full, or sparse under a loop device."""

from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.orders.swap_source import SwapSource
from agent.domain.work.leftovers import LoopDevice, LoopModule, MadeFile
from agent.workloads.port import Host
from agent.workloads.rig.modules import is_loaded, unload
from agent.workloads.rig.swap_device import DELETED

_TOOL_TIMEOUT_S = 60.0
# Between asking for a free loop device and attaching it somebody else may take it.
_ATTEMPTS = 5


def swap_file_path(host: Host, swap: SwapSource) -> Path:
    """Return where the file is made, as the kernel will call it: without links."""
    return (Path(swap.directory).resolve() if swap.directory else host.scratch) / f"{host.workers.name}.swap"


async def make_swap_file(host: Host, swap: SwapSource) -> str:
    """Return the path of a new file whose room is taken. Raises RigError."""
    path = _noted_path(host, swap)
    try:
        await host.files.allocate(path, swap.size_bytes)
    except OSError as error:
        raise RigError(f"{path} of {swap.size_bytes} bytes cannot be written: {error.strerror}") from error
    return str(path)


async def attach_loop(host: Host, swap: SwapSource) -> str:
    """Return the path of a loop device over a new sparse file. Raises RigError."""
    path = _noted_path(host, swap)
    try:
        host.files.make_sparse(path, swap.size_bytes)
    except OSError as error:
        raise RigError(f"{path} of {swap.size_bytes} bytes cannot be made: {error.strerror}") from error
    if not is_loaded(host, "loop"):
        # Asking for a device loads it only where somebody has made the node that is asked.
        host.leftovers.note(LoopModule())
        loaded = await host.tools.run(("modprobe", "loop"), timeout_s=_TOOL_TIMEOUT_S)
        if loaded.status:
            raise RigError(
                f"loop cannot be loaded ({loaded.complaint}): this kernel has no such module; use another swap"
            )
    host.leftovers.note(LoopDevice(file=str(path)))
    complaint = ""
    for _ in range(_ATTEMPTS):
        free = await host.tools.run(("losetup", "-f"), timeout_s=_TOOL_TIMEOUT_S)
        device = free.stdout.strip()
        if free.status or not device:
            raise RigError(f"no loop device is free: {free.complaint}; detach one (losetup -d), or use another swap")
        attached = await host.tools.run(("losetup", device, str(path)), timeout_s=_TOOL_TIMEOUT_S)
        if not attached.status:
            return device
        complaint = attached.complaint
    raise RigError(f"{path} cannot be attached to a loop device: {complaint}")


async def detach_loop(host: Host, loop: LoopDevice) -> None:
    """Detach whatever loop device the file is attached to. Raises RigError."""
    # The tool knows the file by its inode; the kernel's word is its name in the mounts of whoever attached it.
    listed = await host.tools.run(("losetup", "-n", "-O", "NAME", "-j", loop.file), timeout_s=_TOOL_TIMEOUT_S)
    for device in sorted({*_attached(host, loop.file), *listed.stdout.split()}):
        completed = await host.tools.run(("losetup", "-d", device), timeout_s=_TOOL_TIMEOUT_S)
        if completed.status and (host.sys / "block" / Path(device).name / "loop/backing_file").exists():
            raise RigError(f"{device} cannot be detached: {completed.complaint}")


async def unload_loop(host: Host) -> None:
    """Unload the module that was loaded for this agent, unless somebody uses one of its devices. Raises RigError."""
    if not any((host.sys / "block").glob("loop*/loop/backing_file")) and is_loaded(host, "loop"):
        await unload(host, "loop", "")


def _noted_path(host: Host, swap: SwapSource) -> Path:
    path = swap_file_path(host, swap)
    if host.files.exists(path):
        raise RigError(f"{path} is there already, and this agent did not note it; remove it, or name another directory")
    host.leftovers.note(MadeFile(path=str(path)))
    return path


def _attached(host: Host, file: str) -> list[str]:
    """Return the loop devices over a file, also over one that somebody has removed since."""
    found = []
    for backing in sorted((host.sys / "block").glob("loop*/loop/backing_file")):
        try:
            if host.files.read(backing).removesuffix(DELETED) == file:
                found.append(f"/dev/{backing.parent.parent.name}")
        except OSError:
            # Detached since it was listed.
            continue
    return found
