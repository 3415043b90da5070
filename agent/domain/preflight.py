"""Whether a workload may run here: what it needs against what the host has, refusals in whole sentences."""

from dataclasses import dataclass

from agent.domain.facts import SwapArea
from agent.domain.memory import MIB
from agent.domain.swap_source import Pressure, SourceKind, SwapSource

# What must stay free of memory and disk whatever a workload does: the host has other work.
RESERVED_MEMORY_BYTES = 128 * MIB
RESERVED_DISK_BYTES = 512 * MIB
_IN_MEMORY = (SourceKind.ZRAM, SourceKind.BRD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a workload takes beyond its swap."""

    # What its processes fill with data at the worst, in memory or in swap.
    memory_bytes: int = 0
    # What it writes to disk, its swap file apart.
    disk_bytes: int = 0
    # Whether pages that go to another swap would spoil it.
    alone: bool = True


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


def refusals(swap: SwapSource, pressure: Pressure, needs: Needs, view: HostView) -> tuple[str, ...]:
    """Return why the workload must not run on this host; empty when it may."""
    limit_bytes = pressure.memory_limit_bytes
    found = []
    if not view.running_as_root:
        found.append("switching swap on takes root; run the agent as root")
    if limit_bytes and view.no_limit:
        found.append(f"memory cannot be limited: {view.no_limit}")
    found += _about_active_swap(swap, view) if needs.alone else []
    if limit_bytes:
        # With swap in memory, everything stays in memory at the worst: what compresses badly is not made smaller.
        held_bytes = max(limit_bytes, needs.memory_bytes) if swap.kind in _IN_MEMORY else limit_bytes
        room_bytes = view.available_bytes - RESERVED_MEMORY_BYTES
        if held_bytes > room_bytes:
            found.append(
                f"it may take {_mib(held_bytes)} of memory and {_mib(room_bytes)} are available (without the "
                f"{_mib(RESERVED_MEMORY_BYTES)} that stay free); choose smaller sizes, or stop what else runs"
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


def _about_active_swap(swap: SwapSource, view: HostView) -> list[str]:
    active = ", ".join(area.path for area in view.swaps)
    if swap.kind is SourceKind.EXISTING and not active:
        return ["the host's own swap was ordered, and none is switched on"]
    if active and not swap.allow_active_swap:
        return [
            f"the host swaps to {active} already, so pages would go there too; switch it off, or allow it "
            "(--allow-active-swap)"
        ]
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
