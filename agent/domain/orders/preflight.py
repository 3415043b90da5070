"""Whether a workload may run here: what it needs against what the host has, refusals in whole sentences."""

import re
from dataclasses import dataclass

from agent.domain.host.facts import SwapArea
from agent.domain.host.memory import MIB, TIB
from agent.domain.orders.swap_source import Pressure, SourceKind, SwapSource

# What must stay free of memory and disk whatever a workload does: the host has other work.
RESERVED_MEMORY_BYTES = 128 * MIB
RESERVED_DISK_BYTES = 512 * MIB
_IN_MEMORY = (SourceKind.ZRAM, SourceKind.BRD)
# The most that kernels keep of their own for a device that is switched on, by the size of it: 816 to 820 MiB were
# measured per TiB up to 7.0, 565 on 7.1, and 24 since 7.2, which allocates most of it as pages are swapped out.
_METADATA_PER_TIB = 850 * MIB
_METADATA_PER_TIB_SINCE_7_2 = 64 * MIB
# Programs that end others when all of a machine's memory runs short, as /proc/PID/comm has them.
GUARDS = ("earlyoom", "kubelet", "nohang", "oomd", "systemd-oomd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a workload takes beyond its swap."""

    # What its processes fill with data at the worst, in memory or in swap.
    memory_bytes: int = 0
    # Of those, what zram cannot make smaller.
    incompressible_bytes: int = 0
    # What it writes to disk, its swap file apart.
    disk_bytes: int = 0
    # Whether pages that go to another swap would spoil it.
    alone: bool = True
    # Whether that is so whatever order and host allow.
    strictly_alone: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """What the host has now."""

    available_bytes: int
    swaps: tuple[SwapArea, ...]
    # Where the swap's file, and where the workload's files would be made.
    swap_directory: str
    swap_directory_free_bytes: int
    scratch: str
    scratch_free_bytes: int
    # Why memory cannot be limited; empty when it can.
    no_limit: str
    running_as_root: bool
    # Of the block device that was ordered; 0 with other swap, and when there is no such device.
    device_bytes: int = 0
    # As "7.1.13+deb13-amd64".
    kernel_release: str = ""
    # Which of GUARDS run here.
    guards: tuple[str, ...] = ()
    # Whether what zswap holds counts as memory of the cgroup whose pages it are: so with version 2, not with version 1.
    zswap_is_charged: bool = False
    # Whether this host's own configuration allows workloads beside its active swap.
    allows_active_swap: bool = False


def refusals(swap: SwapSource, pressure: Pressure, needs: Needs, view: HostView) -> tuple[str, ...]:
    """Return why the workload must not run on this host; empty when it may."""
    limit_bytes = pressure.memory_limit_bytes
    found = []
    if not view.running_as_root:
        found.append("switching swap on takes root; run the agent as root")
    if limit_bytes and view.no_limit:
        found.append(f"memory cannot be limited: {view.no_limit}")
    found += _about_active_swap(swap, needs, view) if needs.alone else []
    found += _about_memory(swap, limit_bytes, needs, view)
    if swap.zswap and view.zswap_is_charged and limit_bytes and needs.incompressible_bytes >= limit_bytes:
        found.append(
            f"what zswap holds counts within the limit of {_mib(limit_bytes)}, and {_mib(needs.incompressible_bytes)} "
            "of the data cannot be made smaller; set a higher limit, or choose less data"
        )
    # A build does not know beforehand how much it needs.
    short = needs.alone and not 0 < needs.memory_bytes <= view.available_bytes - RESERVED_MEMORY_BYTES
    if view.guards and not limit_bytes and short:
        found.append(
            f"{' and '.join(view.guards)} would end other programs of this host when all of its memory runs short; set "
            "a limit (--memory-limit), or stop it first"
        )
    swap_bytes = swap.size_bytes or sum(area.size_bytes for area in view.swaps if swap.kind is SourceKind.EXISTING)
    beyond_bytes = needs.memory_bytes - (limit_bytes or view.available_bytes)
    if swap_bytes and beyond_bytes > swap_bytes:
        found.append(
            f"its data of {_mib(needs.memory_bytes)} does not fit into memory and {_mib(swap_bytes)} of swap together; "
            "choose a larger swap"
        )
    found += _about_disk(swap, needs, view)
    return tuple(found)


def metadata_bytes(size_bytes: int, kernel_release: str) -> int:
    """Return the most that the kernel keeps of its own for a swap device of this size that is switched on and idle."""
    match = re.match(r"([0-9]{1,9})\.([0-9]{1,9})", kernel_release)
    recent = match is not None and (int(match[1]), int(match[2])) >= (7, 2)
    return size_bytes * (_METADATA_PER_TIB_SINCE_7_2 if recent else _METADATA_PER_TIB) // TIB


def _about_memory(swap: SwapSource, limit_bytes: int, needs: Needs, view: HostView) -> list[str]:
    """Refuse what may take memory that the kernel cannot get back by ending the workload, or that others need."""
    in_memory = swap.kind in _IN_MEMORY
    # With swap in memory everything stays in memory at the worst. Without a limit memory is meant to run short: then
    # only what no swapping makes smaller counts.
    data_bytes = needs.memory_bytes if limit_bytes else needs.incompressible_bytes
    held_bytes = max(limit_bytes, data_bytes if in_memory else 0)
    kernel_bytes = metadata_bytes(swap.size_bytes or view.device_bytes, view.kernel_release)
    room_bytes = view.available_bytes - RESERVED_MEMORY_BYTES
    if held_bytes + kernel_bytes <= room_bytes:
        return []
    takes = f"it may take {_mib(held_bytes)} of memory" if held_bytes else "it may take memory"
    kernel = f", and the kernel {_mib(kernel_bytes)} to keep track of the swap," if kernel_bytes >= MIB else ""
    return [
        f"{takes}{kernel} and {_mib(max(0, room_bytes))} are available (without the {_mib(RESERVED_MEMORY_BYTES)} that "
        "stay free); choose smaller sizes, or stop what else runs"
    ]


def _about_active_swap(swap: SwapSource, needs: Needs, view: HostView) -> list[str]:
    active = ", ".join(area.path for area in view.swaps)
    if swap.kind is SourceKind.EXISTING and not active:
        return ["the host's own swap was ordered, and none is switched on"]
    allowed = (swap.allow_active_swap or view.allows_active_swap) and not needs.strictly_alone
    if active and not allowed:
        allow = "" if needs.strictly_alone else ", or allow it (--allow-active-swap, or in the agent's configuration)"
        return [f"the host swaps to {active} already, so pages would go there too; switch it off{allow}"]
    return []


def _about_disk(swap: SwapSource, needs: Needs, view: HostView) -> list[str]:
    # A sparse file takes as much room as is swapped out, at the worst all that does not fit.
    taken_bytes = {SourceKind.FILE: swap.size_bytes, SourceKind.LOOP: min(swap.size_bytes, needs.memory_bytes)}
    wanted = {view.swap_directory: taken_bytes.get(swap.kind, 0)}
    wanted[view.scratch] = wanted.get(view.scratch, 0) + needs.disk_bytes
    free = {view.swap_directory: view.swap_directory_free_bytes, view.scratch: view.scratch_free_bytes}
    return [
        f"{directory} has {_mib(free[directory])} free and {_mib(wanted_bytes)} are needed, with "
        f"{_mib(RESERVED_DISK_BYTES)} to spare; name another directory"
        for directory, wanted_bytes in wanted.items()
        if wanted_bytes and wanted_bytes + RESERVED_DISK_BYTES > free[directory]
    ]


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.0f} MiB"
