"""What the kernel counts about memory and swap, parsed. A counter that a kernel does not have is absent, never zero."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.domain.numbers import is_number

# Caches whose size follows what is in swap, on any kernel from 6.1 to 7.3.
_SWAP_CACHE = re.compile(r"swap|swp|zspage|zs_handle|^radix_tree_node$")
_PRESSURE_LINE = re.compile(r"^(some|full) .*\btotal=([0-9]{1,20})$", re.MULTILINE)
_MM_STAT = (
    "stored_bytes",
    "compressed_bytes",
    "memory_bytes",
    "memory_limit_bytes",
    "memory_peak_bytes",
    "same_filled_pages",
    "compacted_pages",
    "incompressible_pages",
)


def parse_pairs(text: str) -> dict[str, int]:
    """Parse lines of a name and a whole number: /proc/vmstat and a cgroup's memory.stat."""
    pairs = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 2 and is_number(fields[1]):
            pairs[fields[0]] = int(fields[1])
    return pairs


def parse_sizes(text: str) -> dict[str, int]:
    """Parse /proc/meminfo into bytes; lines without a unit are numbers of huge pages and are left out."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and is_number(fields[0]) and fields[1] == "kB":
            sizes[name] = int(fields[0]) * 1024
    return sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class StallTime:
    """Time since boot in which tasks waited for one resource, in microseconds (PSI totals)."""

    # At least one task waited.
    some_us: int
    # All tasks waited. None where the kernel does not say, for example for the processors before 5.13.
    full_us: int | None


def parse_pressure(text: str) -> StallTime | None:
    """Parse a file of /proc/pressure; None when there is nothing in it."""
    totals = {kind: int(total) for kind, total in _PRESSURE_LINE.findall(text)}
    return StallTime(some_us=totals["some"], full_us=totals.get("full")) if "some" in totals else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorTime:
    """Time of all processors since boot, in ticks of the kernel's clock."""

    total: int
    # In which the machine underneath ran something else.
    stolen: int


def parse_processor_time(text: str) -> ProcessorTime | None:
    """Parse the first line of /proc/stat; None when it has no stolen time."""
    name, *fields = text.split("\n", 1)[0].split() or [""]
    # user, nice, system, idle, iowait, irq, softirq, steal; what guests get (after it) is in user and nice already.
    if name != "cpu" or len(fields) < 8 or not all(is_number(field) for field in fields[:8]):
        return None
    return ProcessorTime(total=sum(map(int, fields[:8])), stolen=int(fields[7]))


def parse_mm_stat(text: str) -> dict[str, int]:
    """Parse a ZRAM device's mm_stat; empty when there is none. Later kernels have more columns than earlier ones."""
    fields = text.split()
    if not all(is_number(field) for field in fields):
        return {}
    return dict(zip(_MM_STAT, map(int, fields), strict=False))


def parse_slabs(text: str, *, page_bytes: int) -> dict[str, int]:
    """Parse /proc/slabinfo into the bytes of every cache that belongs to swap."""
    sizes = {}
    for line in text.splitlines():
        fields = line.split()
        # name, four numbers, pagesperslab, ": tunables" and three, ": slabdata", active_slabs, num_slabs, ...
        if len(fields) < 16 or not _SWAP_CACHE.search(fields[0]) or fields[12] != "slabdata":
            continue
        if is_number(fields[5]) and is_number(fields[14]):
            sizes[fields[0]] = int(fields[5]) * int(fields[14]) * page_bytes
    return sizes


def chosen(text: str) -> str:
    """Return the chosen word of a file such as transparent_hugepage/enabled: the one in brackets, or all there is."""
    found = re.search(r"\[([^][]+)\]", text)
    return found[1] if found else text.strip()


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Return how much every counter that both readings have has grown; those that stood still are left out."""
    return {name: after[name] - before[name] for name in after if name in before and after[name] != before[name]}
