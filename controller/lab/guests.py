"""Which guests the lab's fleet has, and whether this machine can carry them. Decides only; nothing is started here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.domain.errors import InvalidInput

# What QEMU itself and its supervisor need beside the guest's memory, as measured with the lab's own guests.
OVERHEAD_MIB = 160
# Left to the machine.
RESERVE_MIB = 1024
# A kernel with a static swap map needs 816 MiB for a mounted TiB; the userland needs the rest.
SMALLEST_MIB = 1280
DEFAULT_MEMORY_MIB = 1536

Channel = Literal["serial", "network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One VM of the fleet."""

    name: str
    # "x86_64" or "arm64".
    architecture: str
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlan:
    """The guests that will be started, and what to tell about it."""

    guests: tuple[Guest, ...]
    message: str


def plan_guests(wanted: Mapping[str, int], memory_mib: int, available_mib: int) -> GuestPlan:
    """Fit the fleet into memory, dropping the last guest of the largest group first; every architecture keeps one.

    Raises InvalidInput when not even one guest of each wanted architecture fits, or when a guest is too small.
    """
    if memory_mib < SMALLEST_MIB:
        raise InvalidInput(
            f"--memory: a guest needs at least {SMALLEST_MIB} MiB to mount 1 TiB of swap (got {memory_mib})"
        )
    counts = {architecture: count for architecture, count in wanted.items() if count > 0}
    if not counts:
        raise InvalidInput("the fleet has no guests: give --x86-64 or --arm64 a number above 0")
    each = memory_mib + OVERHEAD_MIB
    asked = sum(counts.values())
    while sum(counts.values()) * each + RESERVE_MIB > available_mib:
        largest = max(counts, key=lambda architecture: counts[architecture])
        if counts[largest] == 1:
            needed = len(counts) * each + RESERVE_MIB
            raise InvalidInput(
                f"the smallest fleet needs {needed} MiB of free memory, this machine has {available_mib} MiB: "
                "free some, or leave an architecture out"
            )
        counts[largest] -= 1
    guests = tuple(
        Guest(name=f"{architecture.replace('_', '-')}-{number}", architecture=architecture, memory_mib=memory_mib)
        for architecture, count in sorted(counts.items(), reverse=True)
        for number in range(1, count + 1)
    )
    need = len(guests) * each
    need_text = "1 guest needs" if len(guests) == 1 else f"{len(guests)} guests need"
    message = f"{need_text} {need} MiB of memory; {available_mib} MiB are free"
    if len(guests) < asked:
        message += f", so {asked - len(guests)} of the {asked} asked for are left out"
    return GuestPlan(guests=guests, message=message)


def available_memory_mib(meminfo: str) -> int:
    """Return MemAvailable of a /proc/meminfo text in MiB."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) // 1024
    raise InvalidInput("/proc/meminfo has no MemAvailable line: this is not a Linux machine the lab can run on")
