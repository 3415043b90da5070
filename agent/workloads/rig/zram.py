"""A zram device for one command: added where the kernel can, else one that is there and idle."""

import errno
from pathlib import Path

from agent.domain.errors import RigError
from agent.domain.orders.swap_source import SwapSource
from agent.domain.work.leftovers import ZramAdding, ZramDevice, ZramModule
from agent.to_end import run_to_end
from agent.workloads.port import Host
from agent.workloads.rig.modules import brought_along, unload

_TOOL_TIMEOUT_S = 60.0
_DEVICE_TIMEOUT_S = 10.0
_PAUSE_S = 0.1


async def set_up_zram(host: Host, swap: SwapSource) -> str:
    """Return the path of a zram device of the wanted size. Raises RigError."""
    if not zram_is_there(host):
        await _load(host)
    name = await _added(host) or _idle(host)
    if not name:
        raise RigError("every zram device of this host is in use and none can be added; free one, or use another swap")
    block = host.sys / "block" / name
    try:
        before = _current(host.files.read(block / "comp_algorithm"))
        change = bool(swap.algorithm) and swap.algorithm != before
        added = any(
            isinstance(each.leftover, ZramDevice) and each.leftover.name == name for each in host.leftovers.noted()
        )
        if not added:
            host.leftovers.note(ZramDevice(name=name, added=False, algorithm_before=before if change else ""))
        if change:
            _choose_algorithm(host, block, swap.algorithm)
        host.files.write(block / "disksize", str(swap.size_bytes))
    except OSError as error:
        raise RigError(f"/dev/{name} cannot be given {swap.size_bytes} bytes: {error.strerror}") from error
    return f"/dev/{name}"


def zram_is_there(host: Host) -> bool:
    """Return whether zram is loaded, or built in."""
    return (host.sys / "class/zram-control").exists()


async def undo_zram(host: Host, device: ZramDevice) -> None:
    """Give the device's memory back; restore or remove it. Raises RigError."""
    block = host.sys / "block" / device.name
    if not block.exists():
        return
    try:
        if host.files.read(block / "disksize") != "0":
            await _patiently(host, block / "reset", "1")
        if device.algorithm_before:
            host.files.write(block / "comp_algorithm", device.algorithm_before)
        if device.added:
            number = device.name.removeprefix("zram")
            await _patiently(host, host.sys / "class/zram-control/hot_remove", number)
    except OSError as error:
        raise RigError(f"/dev/{device.name} cannot be reset: {error.strerror}; is somebody else using it?") from error


async def undo_adding(host: Host, adding: ZramAdding) -> None:
    """Remove a device that was added just before the agent died: one that nobody has given a size."""
    known = adding.known.split()
    for block in sorted((host.sys / "block").glob("zram*")):
        if block.name not in known and host.files.read(block / "disksize") == "0":
            await undo_zram(host, ZramDevice(name=block.name, added=True, algorithm_before=""))


async def unload_zram(host: Host, loaded: ZramModule) -> None:
    """Unload the module that this agent loaded, and what came with it. Raises RigError."""
    if any((host.sys / "block").glob("zram*")):
        # Devices that somebody else has added since keep it.
        return
    await unload(host, "zram", loaded.brought)


async def _load(host: Host) -> None:
    host.leftovers.note(ZramModule(brought=await brought_along(host, "zram")))
    completed = await host.tools.run(("modprobe", "zram", "num_devices=0"), timeout_s=_TOOL_TIMEOUT_S)
    if completed.status:
        raise RigError(
            f"zram cannot be loaded ({completed.complaint}): this kernel has no such module; use another swap"
        )


async def _added(host: Host) -> str:
    """Add a device and return its name; empty when this host cannot."""
    control = host.sys / "class/zram-control/hot_add"
    if not control.exists():
        return ""
    adding = ZramAdding(known=" ".join(sorted(each.name for each in (host.sys / "block").glob("zram*"))))
    host.leftovers.note(adding)
    try:
        name = f"zram{host.files.read(control)}"
    except OSError:
        host.leftovers.forget(adding)
        return ""
    device = ZramDevice(name=name, added=True, algorithm_before="")
    host.leftovers.note(device)
    host.leftovers.forget(adding)
    deadline = host.monotonic() + _DEVICE_TIMEOUT_S
    while not host.devices.is_block_device(f"/dev/{name}"):
        if host.monotonic() > deadline:
            # A /dev without devtmpfs or udev: the device is there, and nobody makes its node.
            await run_to_end(undo_zram(host, device))
            host.leftovers.forget(device)
            return ""
        await host.sleep(_PAUSE_S)
    return name


def _idle(host: Host) -> str:
    """Return the name of a device that has no size, so nobody uses it; empty when there is none."""
    for block in sorted((host.sys / "block").glob("zram*")):
        try:
            if host.files.read(block / "disksize") == "0" and host.devices.is_block_device(f"/dev/{block.name}"):
                return block.name
        except OSError:
            continue
    return ""


def _choose_algorithm(host: Host, block: Path, algorithm: str) -> None:
    try:
        host.files.write(block / "comp_algorithm", algorithm)
    except OSError as error:
        known = host.files.read(block / "comp_algorithm")
        raise RigError(f"zram cannot compress with {algorithm!r} here; it knows {known}") from error


def _current(algorithms: str) -> str:
    """Return the word in brackets of "lzo [lzo-rle] lz4"."""
    return algorithms.partition("[")[2].partition("]")[0]


async def _patiently(host: Host, path: Path, text: str) -> None:
    """Write, and again while the device is busy: udev opens what changes for a moment."""
    deadline = host.monotonic() + _DEVICE_TIMEOUT_S
    while True:
        try:
            host.files.write(path, text)
        except OSError as error:
            if error.errno != errno.EBUSY or host.monotonic() > deadline:
                raise
            await host.sleep(_PAUSE_S)
        else:
            return
