"""Reading /dev/kmsg records, and which of them a controller should see."""

from collections.abc import Iterable

from agent.domain.numbers import is_number
from agent.domain.results import KernelRecord

_WARNING = 4
# Announced at lower severities by some kernels, or needed to understand a swap failure.
_HINTS = (
    "BUG:",
    "Oops",
    "swap",
    "WARNING:",
    "hung_task",
    "blocked for more than",
    "Out of memory",
    "zram",
    "suspected memory leaks",
)
# A line of a call trace: reports of hung tasks and stalls print theirs as information, and are told apart by them.
_FRAME = ("+0x", "/0x")
_LONGEST_TEXT = 1000


def parse_record(raw: bytes) -> KernelRecord | None:
    """Parse one read of /dev/kmsg.

    None for records that user space wrote (their facility is not the kernel's, and nobody may forge a kernel failure)
    and for what is not a record. The text is cut at 1000 characters.
    """
    prefix, separator, rest = raw.decode("utf-8", "replace").partition(";")
    fields = prefix.split(",")
    if not separator or len(fields) < 3 or not all(is_number(field) for field in fields[:3]):
        return None
    priority, sequence, monotonic_us = (int(field) for field in fields[:3])
    if priority >> 3:
        return None
    # Lines that begin with a space are the record's device dictionary.
    text = rest.split("\n", 1)[0][:_LONGEST_TEXT]
    return KernelRecord(sequence=sequence, monotonic_us=monotonic_us, level=priority & 7, text=text)


def sequence_of(raw: bytes) -> int | None:
    """Return the sequence number of one read of /dev/kmsg, whoever wrote it; None for what is not a record."""
    fields = raw.split(b";", 1)[0].split(b",")
    return int(fields[1]) if len(fields) >= 3 and is_number(fields[1].decode("ascii", "replace")) else None


def worth_reporting(record: KernelRecord) -> bool:
    """Return whether the record is a warning or worse, hints at swap or a kernel bug, or is part of a call trace."""
    if record.level <= _WARNING or any(hint in record.text for hint in _HINTS):
        return True
    return all(part in record.text for part in _FRAME)


def gap(last_sequence: int, sequence: int) -> int:
    """Return how many records between two were overwritten unread; `last_sequence` is -1 at the start of a boot."""
    return max(0, sequence - last_sequence - 1)


def after(records: Iterable[KernelRecord], last_sequence: int) -> tuple[KernelRecord, ...]:
    """Return the records that follow `last_sequence`."""
    return tuple(record for record in records if record.sequence > last_sequence)
