"""Memory figures read from /proc/meminfo and /proc/zoneinfo, in bytes, and what a swap device costs."""

from dataclasses import dataclass

from agent.domain.numbers import is_number, kibibytes

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One reading of /proc/meminfo."""

    total_bytes: int
    free_bytes: int
    available_bytes: int
    # What the kernel holds for itself: VmallocUsed and SUnreclaim. Swap maps live there, and programs hardly move it.
    kernel_bytes: int
    # Free pages that wait on the processors' own lists. /proc/meminfo counts them as used, and the lists grow by tens
    # of MiB after a large structure was freed and shrink much later.
    parked_bytes: int
    # The file as read, kept as evidence.
    text: str

    @property
    def used_bytes(self) -> int:
        """What `free` of procps 4 prints as used: MemTotal - MemAvailable, so reclaimable caches do not count."""
        return self.total_bytes - self.available_bytes

    @property
    def taken_bytes(self) -> int:
        """What is really taken: used memory without the free pages on the processors' lists."""
        return self.used_bytes - self.parked_bytes


def parse_meminfo(text: str, *, parked_bytes: int = 0) -> Memory:
    """Parse /proc/meminfo; `parked_bytes` comes from /proc/zoneinfo of the same moment.

    Raises ValueError when a line that every supported kernel writes is missing.
    """
    values = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        size_bytes = kibibytes(rest.split(maxsplit=1)[0]) if rest.strip() else None
        if size_bytes is not None:
            values[name] = size_bytes
    missing = [name for name in ("MemTotal", "MemFree", "MemAvailable") if name not in values]
    if missing:
        raise ValueError(f"meminfo has no {' and no '.join(missing)}")
    return Memory(
        total_bytes=values["MemTotal"],
        free_bytes=values["MemFree"],
        available_bytes=values["MemAvailable"],
        kernel_bytes=values.get("VmallocUsed", 0) + values.get("SUnreclaim", 0),
        parked_bytes=parked_bytes,
        text=text,
    )


def parked_pages(zoneinfo: str) -> int:
    """Return the pages on all processors' free lists: the `count` lines below every zone's `pagesets`."""
    return sum(
        int(number)
        for name, _, number in (line.strip().partition(":") for line in zoneinfo.splitlines())
        if name == "count" and is_number(number.strip())
    )


def cost_mib_per_tib(delta_bytes: int, device_bytes: int) -> float:
    """Return what one TiB of swap costs, given what this device cost."""
    if device_bytes <= 0:
        raise ValueError("a swap device has a positive size")
    return (delta_bytes / MIB) / (device_bytes / TIB)
