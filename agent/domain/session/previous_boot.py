"""What is told of a boot that ended without a shutdown: that it did, and the last words that the kernel kept of it."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.domain.results import KernelLog, KernelRecord

# Above what any boot counts to, so that these records never share a report's name with those read while it ran.
FIRST_SEQUENCE = 1 << 40
_WARNING = 4
# The kernel keeps the end of its log, which may be long; the end of that says why it died.
_MOST_RECORDS = 200
_LONGEST_TEXT = 1000
# Before 5.8 a shutdown was told by its kind.
_HEADER = re.compile(
    r"^(?P<boot>(?:Panic|Oops|Emergency|Shutdown|Restart|Halt|Poweroff|Unknown)#(?P<count>[0-9]{1,9}))"
    r" Part(?P<part>[0-9]{1,9})$"
)
# kdump writes no levels, and puts a space before who wrote a line.
_LINE = re.compile(
    r"(?:<(?P<level>[0-9]{1,3})>)?\[ *(?P<second>[0-9]{1,12})\.(?P<micro>[0-9]{6})\]"
    r"(?:\[[^\]]*\]| \[ *[TC][0-9]{1,10}\])? (?P<text>.*)$"
)
# Directories of crashes are called after an address and the time, or the time alone.
_MOMENT = re.compile(
    r"(?<![0-9])(20[0-9]{2})-?([0-9]{2})-?([0-9]{2})[-T_]?([0-9]{2}):?([0-9]{2})(?::?([0-9]{2}))?(?![0-9])"
)
# Where a kernel names its release: at the top of its log, and with every call trace.
# The console's own log, which the store keeps of every boot.
_CONSOLE = re.compile(r"(?:^|/)console-[^/]*$")
_RELEASE = re.compile(r"Linux version (\S+)|[Tt]ainted:? .*?(\S+) #[0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class BootMark:
    """What an agent has written down of the boot in which it runs."""

    boot_id: str
    # True when an agent of this boot was told to end, as every shutdown does, and none has started since.
    stopped: bool
    # Kept logs that were there already, by path: they tell of earlier boots.
    known: tuple[str, ...]
    # What was in them, by digest: a store writes the next log under the same name, and systemd moves it elsewhere.
    # Empty in marks of agents that did not write it.
    seen: tuple[str, ...] = ()
    # Empty in marks of agents that did not write it.
    kernel_release: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """What a kernel kept of its log, oldest line first."""

    records: tuple[KernelRecord, ...] = ()
    # The release that the log names; empty when it names none.
    kernel_release: str = ""


def ended_badly(mark: BootMark | None, boot_id: str) -> bool:
    """Return whether the boot of the mark is over and nobody was told to end; False when nothing is known of it."""
    return mark is not None and mark.boot_id != boot_id and not mark.stopped


def digest_of(log: str) -> str:
    """Return what a log is known by wherever it lies."""
    return hashlib.sha256(log.encode("utf-8", "replace")).hexdigest()


def last_words(files: Mapping[str, str], known: Iterable[str], seen: Iterable[str] = ()) -> LastWords:
    """Return the kernel's kept log from pstore's and kdump's files by path; those that are known are left out.

    A log that does not fit into one record of the store lies in parts of which the first is the newest. What kdump
    wrote is the same log again, and so is what the console showed: each counts where the one before has nothing.
    """
    parts: list[tuple[int, int, list[str]]] = []
    dumped: list[str] = []
    console: list[str] = []
    for path in sorted(_new(files, known, frozenset(seen)), key=_age):
        lines = files[path].splitlines()
        found = _HEADER.match(lines[0]) if lines else None
        if found:
            parts.append((int(found["count"]), -int(found["part"]), lines[1:]))
        elif _CONSOLE.search(path):
            # What the kernel says may follow on a program's unfinished line, such as "login: ".
            console = [found[0] if (found := _LINE.search(line)) else line for line in lines]
        elif any(map(_LINE.match, lines)):
            # Of several the newest one.
            dumped = lines
    kept = [line for _, _, lines in sorted(parts, key=lambda part: part[:2]) for line in lines] or dumped or console
    records: list[KernelRecord] = []
    release = ""
    for line in kept:
        fields = _LINE.match(line)
        if fields is None:
            continue
        records.append(
            KernelRecord(
                sequence=FIRST_SEQUENCE + 1 + len(records),
                monotonic_us=int(fields["second"]) * 1_000_000 + int(fields["micro"]),
                level=int(fields["level"] or _WARNING) & 7,
                text=fields["text"][:_LONGEST_TEXT],
            )
        )
        named = _RELEASE.search(fields["text"][:_LONGEST_TEXT])
        if named:
            release = named[1] or named[2]
    return LastWords(records=tuple(records[-_MOST_RECORDS:]), kernel_release=release)


def _age(path: str) -> tuple[tuple[str, ...], str]:
    """Return what orders kept logs, oldest first: the time in their names, then the names."""
    moments = _MOMENT.findall(path)
    return (moments[-1] if moments else (), path)


def _new(files: Mapping[str, str], known: Iterable[str], seen: frozenset[str]) -> Iterator[str]:
    """Yield the paths of logs that were not there in the boot before, under this name or another."""
    names = frozenset(known)
    for path, log in files.items():
        if digest_of(log) not in seen if seen else path not in names:
            yield path


def obituary(mark: BootMark, words: LastWords, witnesses: Iterable[str] = ()) -> KernelLog:
    """Return what is reported of a boot that ended without a shutdown; `witnesses` are sentences of others.

    A log of another kernel is of a later boot that died before it had an agent: it is named, and its lines, which would
    speak against the wrong kernel, are not told.
    """
    records = words.records
    if words.kernel_release and mark.kernel_release and words.kernel_release != mark.kernel_release:
        what = f"after it {words.kernel_release} died before it had an agent, and kept {len(records)} lines of its log"
        records = ()
    elif records:
        what = f"the kernel kept {len(records)} lines of its log"
    else:
        what = "the kernel kept nothing of its log"
    at_us = records[-1].monotonic_us if records else 0
    remarks = [f"this boot ended without a shutdown; {what}", *witnesses]
    first = FIRST_SEQUENCE + 1 - len(remarks)
    told = tuple(
        KernelRecord(sequence=first + number, monotonic_us=at_us, level=_WARNING, text=f"kernroll: {text}")
        for number, text in enumerate(remarks)
    )
    return KernelLog(records=(*told, *records), lost_records=0)
