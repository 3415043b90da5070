"""The order of unacknowledged reports, and what gives way when there are too many bytes of them.

Results are never dropped: when they alone exceed the limit, the agent refuses new commands instead. Kernel log batches
are dropped, oldest first, and the records in them are counted as lost, with those whose loss they told of. A batch that
has no records takes nobody's place and gives way to nobody: dropped, it would take the only word of a hole with it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One report on disk."""

    # Grows with every report; the order of sending.
    number: int
    report_id: str
    size_bytes: int
    boot_id: str = ""
    # Kernel log records of which nobody would know without this entry, at least one; 0 marks a result.
    lost_records: int = 0
    # Kernel log records are in it, which may be dropped.
    droppable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """All unacknowledged reports, oldest first."""

    limit_bytes: int
    # Never repeats while a process lives, also when the queue runs empty: sessions remember how far they have sent.
    next_number: int = 1
    entries: tuple[Entry, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Return the bytes on disk."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def no_room(self) -> str:
        """Say why no further command can be taken; empty when one can."""
        held = sum(entry.size_bytes for entry in self.entries if not entry.droppable)
        if held < self.limit_bytes:
            return ""
        return f"the report spool is full: {held} bytes of results wait for the controller's acknowledgement"

    def holds(self, report_id: str) -> bool:
        """Return whether the report waits already."""
        return any(entry.report_id == report_id for entry in self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What admitting a report changes."""

    queue: Queue
    dropped: tuple[Entry, ...] = ()

    @property
    def lost_records(self) -> int:
        """Return the kernel log records that were dropped."""
        return sum(entry.lost_records for entry in self.dropped)

    @property
    def lost_by_boot(self) -> Mapping[str, int]:
        """Return the kernel log records that were dropped, by boot."""
        return lost_by_boot(self.dropped)


def lost_by_boot(entries: tuple[Entry, ...]) -> Mapping[str, int]:
    """Return the kernel log records that are lost with these entries, by boot."""
    lost: Counter[str] = Counter()
    for entry in entries:
        lost[entry.boot_id] += entry.lost_records
    return lost


def admit(queue: Queue, entry: Entry) -> Admission:
    """Append an entry; kernel log batches give way, oldest first, the new one last of all."""
    entries = [*queue.entries, entry]
    tells_of_losses_alone = entry.lost_records and not entry.droppable
    excess = 0 if tells_of_losses_alone else sum(each.size_bytes for each in entries) - queue.limit_bytes
    dropped = []
    for candidate in entries:
        if excess <= 0:
            break
        if candidate.droppable:
            dropped.append(candidate)
            excess -= candidate.size_bytes
    numbers = {each.number for each in dropped}
    kept = tuple(each for each in entries if each.number not in numbers)
    return Admission(queue=replace(queue, entries=kept, next_number=entry.number + 1), dropped=tuple(dropped))


def without(queue: Queue, entries: tuple[Entry, ...]) -> Queue:
    """Return the queue without some of its entries."""
    return replace(queue, entries=tuple(each for each in queue.entries if each not in entries))


def resize(queue: Queue, number: int, size_bytes: int) -> Queue:
    """Return the queue with another size of one report."""
    entries = tuple(replace(each, size_bytes=size_bytes) if each.number == number else each for each in queue.entries)
    return replace(queue, entries=entries)


def acknowledge(queue: Queue, report_ids: frozenset[str]) -> Admission:
    """Remove what the controller holds durably; ids that are not waiting were acknowledged before."""
    gone = tuple(entry for entry in queue.entries if entry.report_id in report_ids)
    kept = tuple(entry for entry in queue.entries if entry.report_id not in report_ids)
    return Admission(queue=replace(queue, entries=kept), dropped=gone)
