"""Waiting until memory stands still, so that a reading means what it says."""

import os

from agent.domain.errors import RigError
from agent.domain.host.counters import parse_sizes
from agent.domain.host.memory import MIB, Memory, parked_pages, parse_meminfo
from agent.domain.orders.preflight import RESERVED_MEMORY_BYTES
from agent.workloads.port import Host

INTERVAL_S = 1.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# One quiet interval can be chance.
QUIET_INTERVALS = 2


async def settled_memory(host: Host, *, tolerance_bytes: int, timeout_s: float) -> Memory:
    """Return the first reading after the memory taken changed by less than the tolerance over two intervals.

    Nothing is dropped or flushed: that would change what is measured. Raises RigError when `timeout_s` passes first.
    """
    deadline = host.monotonic() + timeout_s
    last = read_memory(host)
    quiet = 0
    while True:
        await host.sleep(INTERVAL_S)
        now = read_memory(host)
        change = abs(now.taken_bytes - last.taken_bytes)
        last = now
        quiet = quiet + 1 if change < tolerance_bytes else 0
        if quiet >= QUIET_INTERVALS:
            return now
        if host.monotonic() >= deadline:
            raise RigError(
                f"memory did not settle within {timeout_s:g} s: it still changed by {change / MIB:.2f} MiB in "
                f"{INTERVAL_S:g} s (tolerance {tolerance_bytes / MIB:.2f} MiB); stop what else runs on the host"
            )


def read_memory(host: Host) -> Memory:
    """Read /proc/meminfo and the processors' free lists. Raises RigError when they lack what is needed."""
    try:
        zoneinfo = host.proc / "zoneinfo"
        parked = parked_pages(zoneinfo.read_text()) if zoneinfo.exists() else 0
        return parse_meminfo((host.proc / "meminfo").read_text(), parked_bytes=parked * PAGE_BYTES)
    except ValueError as error:
        raise RigError(str(error)) from error


def short_of_memory(host: Host, complaint: str, *, needed_bytes: int) -> bool:
    """Tell whether a call failed for memory that the host did not have, so that the kernel is not to blame."""
    least_bytes = needed_bytes + RESERVED_MEMORY_BYTES
    return "Cannot allocate memory" in complaint and read_memory(host).available_bytes < least_bytes


def swap_total_bytes(host: Host) -> int:
    """Return how much swap is switched on, by /proc/meminfo. Raises RigError."""
    return _swap_bytes(host, "SwapTotal")


def swap_free_bytes(host: Host) -> int:
    """Return how much of the swap that is switched on is not in use, by /proc/meminfo. Raises RigError."""
    return _swap_bytes(host, "SwapFree")


def _swap_bytes(host: Host, name: str) -> int:
    sizes = parse_sizes((host.proc / "meminfo").read_text())
    if name not in sizes:
        raise RigError(f"/proc/meminfo has no {name}: this kernel was built without swap")
    return sizes[name]
