"""What /proc/PID/status and /proc/PID/smaps say of a process's memory."""

import re
from dataclasses import dataclass

from agent.domain.numbers import is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """One reading, in bytes. 0 where a kernel thread or an ended process shows nothing."""

    resident_bytes: int
    swapped_bytes: int
    page_table_bytes: int


def parse_status(text: str) -> ProcessMemory:
    """Parse /proc/PID/status."""
    sizes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and is_number(fields[0]) and fields[1] == "kB":
            sizes[name] = int(fields[0]) * 1024
    return ProcessMemory(
        resident_bytes=sizes.get("VmRSS", 0),
        swapped_bytes=sizes.get("VmSwap", 0),
        page_table_bytes=sizes.get("VmPTE", 0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """One mapping of a process."""

    begin: int
    end: int
    swapped_bytes: int
    # Every swapped page divided by its count (SwapPss).
    swap_share_bytes: int


_AREA = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*$", re.MULTILINE)
_SIZE = re.compile(r"^(Swap|SwapPss): +([0-9]{1,20}) kB$", re.MULTILINE)


def parse_smaps(text: str) -> tuple[Area, ...]:
    """Parse /proc/PID/smaps."""
    headers = list(_AREA.finditer(text))
    # A process that has ended shows nothing.
    ends = [header.start() for header in headers[1:]] + ([len(text)] if headers else [])
    areas = []
    for header, end in zip(headers, ends, strict=True):
        sizes = {found[1]: int(found[2]) * 1024 for found in _SIZE.finditer(text, header.end(), end)}
        areas.append(
            Area(
                begin=int(header[1], 16),
                end=int(header[2], 16),
                swapped_bytes=sizes.get("Swap", 0),
                swap_share_bytes=sizes.get("SwapPss", 0),
            )
        )
    return tuple(areas)
