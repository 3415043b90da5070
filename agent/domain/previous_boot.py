"""What is told of a boot that ended without a shutdown: that it did, and the last words that the kernel kept of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.domain.results import KernelLog, KernelRecord

# Above what any boot counts to, so that these records never share a report's name with those read while it ran.
FIRST_SEQUENCE = 1 << 40
_WARNING = 4
# The kernel keeps the end of its log, which may be long; the end of that says why it died.
_MOST_RECORDS = 200
_LONGEST_TEXT = 1000
_HEADER = re.compile(r"^(?:Panic|Oops|Emergency|Shutdown|Unknown)#(?P<count>\d+) Part(?P<part>\d+)$")
_LINE = re.compile(r"^<(?P<level>\d+)>\[ *(?P<second>\d+)\.(?P<micro>\d{6})\](?:\[[^\]]*\])? (?P<text>.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootMark:
    """What an agent has written down of the boot in which it runs."""

    boot_id: str
    # True when an agent of this boot was told to end, as every shutdown does, and none has started since.
    stopped: bool
    # Kept logs that were there already, by path: they tell of earlier boots.
    known: tuple[str, ...]


def ended_badly(mark: BootMark | None, boot_id: str) -> bool:
    """Return whether the boot of the mark is over and nobody was told to end; False when nothing is known of it."""
    return mark is not None and mark.boot_id != boot_id and not mark.stopped


def last_words(files: Mapping[str, str], known: Iterable[str]) -> tuple[KernelRecord, ...]:
    """Return the kernel's kept log, oldest line first, from pstore's files by path; those that are known are left out.

    A log that does not fit into one record of the store lies in parts of which the first is the newest.
    """
    parts: list[tuple[int, int, list[str]]] = []
    for path in sorted(set(files) - set(known)):
        header, *lines = files[path].splitlines() or [""]
        found = _HEADER.match(header)
        if found:
            parts.append((int(found["count"]), -int(found["part"]), lines))
    records: list[KernelRecord] = []
    for _, _, lines in sorted(parts, key=lambda part: part[:2]):
        for line in lines:
            fields = _LINE.match(line)
            if fields is not None:
                records.append(
                    KernelRecord(
                        sequence=FIRST_SEQUENCE + 1 + len(records),
                        monotonic_us=int(fields["second"]) * 1_000_000 + int(fields["micro"]),
                        level=int(fields["level"]) & 7,
                        text=fields["text"][:_LONGEST_TEXT],
                    )
                )
    return tuple(records[-_MOST_RECORDS:])


def obituary(words: tuple[KernelRecord, ...]) -> KernelLog:
    """Return what is reported of a boot that ended without a shutdown."""
    what = f"the kernel kept {len(words)} lines of its log" if words else "the kernel kept nothing of its log"
    remark = KernelRecord(
        sequence=FIRST_SEQUENCE,
        monotonic_us=words[-1].monotonic_us if words else 0,
        level=_WARNING,
        text=f"kernroll: this boot ended without a shutdown; {what}",
    )
    return KernelLog(records=(remark, *words), lost_records=0)
