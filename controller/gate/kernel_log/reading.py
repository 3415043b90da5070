"""A kernel log read: findings with their signatures, what could not be read, and the panic of a console."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controller.gate.kernel_log.forms import Line, Origin, entries, pieces
from controller.gate.kernel_log.signature import FRAMES_IN_SIGNATURE, frame_of, named_function, place_of, words_of
from controller.gate.kernel_log.table import GOES_ON, HARDWARE_KIND, TABLE, WARNING_IN_MM, Row, Severity

# A part of a log that nobody could read, as the kind of a finding.
UNREAD_KIND: Final = "log_not_read"
# A report that has not ended after this many lines was cut off.
_REPORT_LINES: Final = 120
_PANIC: Final = re.compile(r"(?:[\w./-]+: )?Kernel panic - not syncing")
_VAGUE_PANIC: Final = re.compile(r"not syncing: (?:Oops: )?Fatal exception")
_END: Final = re.compile(r"---\[ end ")
_LIKE_A_KERNELS: Final = re.compile(
    r"(?:[\w./#()-]{1,64}(?: [\w./#()-]{1,64}){0,5}(?:\[\d+\])?: ?\S|Linux version "
    r"|Command line|\s*[\w.]+\+0x|\s*<TASK>)"
)
# What a program says that was to bring the log, and brought none.
_OF_A_TOOL: Final = re.compile(
    r"(?:-?(?:ba|da|z|k|a)?sh|dmesg|journalctl|sudo|su|doas|ssh|scp|rsync|cat|tail|head|grep|zcat|kubectl|adb|virsh"
    r"|timeout|client_loop|kex_exchange_identification|ssh_exchange_identification|Error from server|error|fatal|Hint"
    r"|Failed to .{1,80})(?: \([^()]{1,40}\))?: "
)
# The words of faults, wherever they stand: behind something that this reader does not know they may be the kernel's.
_WORDS_OF_A_FAULT: Final = re.compile(
    r"(?:BUG: (?:[Uu]nable to handle|kernel NULL|K(?:ASAN|FENCE|MSAN): |Bad page|soft lockup)"
    r"|Kernel panic - not syncing: |kernel BUG at |Unable to handle kernel |Internal error: Oops|WARNING: CPU: \d)"
)
_OF_A_PROGRAM: Final = re.compile(r"(?<!\S)[\w.@()/-]{1,64}\[\d+\]:(?:\s|$)|[\"'`]")
_LOST: Final = re.compile(
    r"\*\* \d+ printk messages dropped|: Missed \d+ kernel messages|/dev/kmsg buffer overrun, some messages lost"
)
_TOLD_CHARACTERS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One event in a kernel log."""

    severity: Severity
    # The row of the table, for example "null_or_paging".
    kind: str
    # The line that shows it, without time stamp and terminal codes.
    line: str
    # Type and place with everything that differs from boot to boot taken out; the same fault has the same signature.
    signature: str
    # The boot it was seen under, for telling a repetition from an echo; filled in by the caller, may be empty.
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The report that the last line read belongs to: the lines to come may be the rest of it."""

    row: Row
    line: str
    place: str
    frames: tuple[str, ...] = ()
    # Lines read since the one that opened it.
    length: int = 0

    @property
    def finding(self) -> Finding:
        """What is known of it so far."""
        where = self.place or " < ".join(self.frames) or words_of(self.line)
        return Finding(
            severity=self.row.severity, kind=self.row.kind, line=self.line, signature=f"{self.row.kind}: {where}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """What further lines of a log show."""

    findings: tuple[Finding, ...]
    # None when the last line read belongs to no report.
    tail: Tail | None
    # The finding that the tail before was, when the further lines told more of it: it is `findings[0]` now.
    replaced: Finding | None = None


def classify(lines: Iterable[str]) -> tuple[Finding, ...]:
    """Return what a kernel log shows, in its order. Lines may be in any of the forms that `forms` knows."""
    return read_on((line.text for line in entries(lines) if line.origin is not Origin.OTHER), None).findings


def read_log(lines: Sequence[str]) -> tuple[Finding, ...]:
    """Return what a whole log shows, and, as findings of severity UNREAD, what of it could not be read."""
    read = list(entries(lines))
    found = read_on((line.text for line in read if line.origin is not Origin.OTHER), None).findings
    counts = Counter(line.origin for line in read)
    unread = []
    if counts[Origin.UNKNOWN]:
        first = next(line.text for line in read if line.origin is Origin.UNKNOWN)
        unread.append(
            f"{counts[Origin.UNKNOWN]} of {len(read)} lines are in a form that is not known, the first:"
            f' "{first[:_TOLD_CHARACTERS]}"; bring the log as dmesg or journalctl -k print it'
        )
    if counts[Origin.LOST]:
        unread.append(
            f"{counts[Origin.LOST]} of {len(read)} entries have no text, their MESSAGE is null;"
            " journalctl --all tells it"
        )
    if hidden := [line.text for line in read if _hides_a_fault(line)]:
        unread.append(
            f"{len(hidden)} of {len(read)} lines have the words of a fault behind something that is not known,"
            f' the first: "{hidden[0][:_TOLD_CHARACTERS]}"; bring the log as dmesg or journalctl -k print it'
        )
    if lost := [line.text for line in read if _LOST.search(line.text)]:
        unread.append(f'it says itself that messages were lost: "{lost[0][:_TOLD_CHARACTERS]}"')
    if lines and not unread and not found and not any(map(_is_the_kernels, read)):
        unread.append(
            f"none of its {len(lines)} lines looks like a kernel's; bring it as dmesg or journalctl -k print it"
        )
    return (*found, *(unread_finding(sentence) for sentence in unread))


def unread_finding(sentence: str, boot_id: str = "") -> Finding:
    """Return the finding that part of a log was not read; the sentence says what, and has no full stop."""
    return Finding(
        severity=Severity.UNREAD,
        kind=UNREAD_KIND,
        line=sentence,
        signature=f"{UNREAD_KIND}: {words_of(sentence)[:_TOLD_CHARACTERS]}",
        boot_id=boot_id,
    )


def read_on(texts: Iterable[str], tail: Tail | None) -> Continued:
    """Read further lines of a log, each the kernel's words alone; `tail` is what the lines before them ended with.

    A report that is cut in two between calls has in the end the signature that it would have had whole.
    """
    before = None if tail is None else tail.finding
    # The tail, if any, is the first of these until it is known that nothing more was told of it.
    reports: list[Tail] = [] if tail is None else [tail]
    current: int | None = None if tail is None else 0
    for text in texts:
        found = match(text)
        open_one = None if current is None else reports[current]
        if found is not None and not _goes_on(open_one, found, reports):
            reports.append(found)
            current = None if found.row.alone else len(reports) - 1
        elif current is not None and open_one is not None:
            after = _continue(open_one, text)
            if after is None:
                current = None
            else:
                reports[current] = after
    findings = tuple(report.finding for report in reports)
    unchanged = before is not None and findings[0] == before
    return Continued(
        findings=findings[1:] if unchanged else findings,
        tail=None if current is None else reports[current],
        replaced=None if unchanged else before,
    )


def panic_line(text: str) -> str | None:
    """Return the line of a console text that says best why the kernel died; None when it shows no panic.

    A panic that only repeats that something fatal came before it ("Fatal exception") is told by what came before.
    """
    lines = [piece for line in text.splitlines() for piece in console_lines(line)]
    panic = next((line for line in lines if _PANIC.match(line)), None)
    if panic is None:
        return None
    if _VAGUE_PANIC.search(panic):
        before = lines[: lines.index(panic)]
        causes = [found for found in map(match, before) if found and found.row.severity is Severity.FATAL]
        causes = [found for found in causes if found.row.kind != "oops"] or causes
        if causes:
            return causes[-1].line
    return panic


def console_lines(line: str) -> tuple[str, ...]:
    """Return the lines that stand in one line of a console: a panic does not wait for a login or a status to end."""
    return tuple(piece.text for piece in pieces(line) if piece.origin is not Origin.OTHER)


def match(text: str) -> Tail | None:
    """Return the report that a line opens; None when it opens none."""
    for row in TABLE:
        found = row.pattern.match(text)
        if found is None:
            continue
        place = found.groupdict().get("place") or ""
        if place and "/" not in place:
            continue
        path = place_of(text, place) if place else named_function(text) if row.kind == "warning" else ""
        return Tail(row=WARNING_IN_MM if path.startswith("mm/") else row, line=text, place=path)
    return None


def _goes_on(current: Tail | None, found: Tail, reports: Sequence[Tail]) -> bool:
    """Whether a line that could open a report is a further line of one that is open, or repeats one."""
    if found.line.startswith("---[ end Kernel panic"):
        return any(report.row.kind in ("panic", HARDWARE_KIND) for report in reports)
    if current is None:
        return False
    if found.row.kind == "oops" or found.line.startswith("KASAN: "):
        return current.row.kind in GOES_ON
    if found.row.kind == current.row.kind == "hung_task":
        # Who holds the lock is told after the trace of who waits.
        return " likely owned by " in found.line
    return False


def _continue(report: Tail, text: str) -> Tail | None:
    """Read one more line of a report; return None when it ends there."""
    if _END.search(text) or report.length >= _REPORT_LINES:
        return None
    frames = report.frames
    if len(frames) < FRAMES_IN_SIGNATURE and (name := frame_of(text)) and name not in frames:
        frames = (*frames, name)
    return replace(report, length=report.length + 1, frames=frames)


def _is_the_kernels(line: Line) -> bool:
    if line.origin is not Origin.PLAIN:
        return line.origin is Origin.KERNEL
    return bool(_LIKE_A_KERNELS.match(line.text)) and not _OF_A_TOOL.match(line.text)


def _hides_a_fault(line: Line) -> bool:
    """Whether a line has the words of a fault, and something before them that hides whose they are."""
    if line.origin not in (Origin.KERNEL, Origin.PLAIN) or not (words := _WORDS_OF_A_FAULT.search(line.text)):
        return False
    return match(line.text) is None and not _OF_A_PROGRAM.search(line.text, 0, words.start())
