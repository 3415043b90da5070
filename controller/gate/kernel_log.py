"""What a kernel says in its log when it is broken: a table of patterns, and signatures to compare two kernels by."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Severity(StrEnum):
    """How much one finding weighs."""

    FATAL = "fatal"  # reverts on first sight
    SERIOUS = "serious"  # reverts when the old kernel does not do it and a second host or boot confirms it
    COUNT = "count"  # only its rate says anything


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One event in a kernel log."""

    severity: Severity
    # The row of the table below, for example "null_or_paging".
    kind: str
    # The line that shows it, without time stamp and terminal codes.
    line: str
    # Type and place with everything that differs from boot to boot taken out; the same fault has the same signature.
    signature: str
    # The boot it was seen under, for telling a repetition from an echo; filled in by the caller, may be empty.
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    severity: Severity
    kind: str
    pattern: re.Pattern[str]


def _row(severity: Severity, kind: str, pattern: str) -> _Row:
    # Kernel messages may carry a subsystem or function ("watchdog: ", "get_swap_device: "); those of user space carry
    # a process number ("systemd[1]: ") and must not match.
    return _Row(severity=severity, kind=kind, pattern=re.compile(rf"(?:[\w./-]+: ){{0,3}}?{pattern}"))


_SOURCE: Final = r"(?:\./)?(?P<place>[\w.-]+(?:/[\w.-]+)+\.(?:c|h|S|rs):\d+)"

# The first row that matches decides.
_TABLE: Final[Sequence[_Row]] = (
    _row(Severity.FATAL, "panic", r"Kernel panic - not syncing"),
    _row(Severity.FATAL, "kernel_bug", r"kernel BUG at "),
    _row(Severity.FATAL, "null_or_paging", r"BUG: (?:unable to handle|kernel NULL pointer dereference)"),
    _row(Severity.FATAL, "null_or_paging", r"Unable to handle kernel "),
    _row(Severity.FATAL, "general_protection", r"general protection fault[,:] "),
    _row(Severity.FATAL, "memory_checker", r"BUG: K(?:ASAN|FENCE|MSAN): "),
    _row(Severity.FATAL, "bad_page", r"BUG: Bad (?:page (?:state|map|cache)|rss-counter)"),
    _row(Severity.FATAL, "bad_page", r"Bad (?:page (?:state|map|cache)|rss-counter) "),
    _row(Severity.FATAL, "refcount", r"refcount_t: "),
    _row(Severity.FATAL, "lockup", r"(?:BUG: soft lockup|Watchdog detected hard LOCKUP|NMI watchdog: .*hard LOCKUP)"),
    _row(Severity.FATAL, "swap_entry", r"(?:Bad|Unused) swap (?:file|offset) entry [0-9a-f]+"),
    _row(Severity.FATAL, "list_corruption", r"list_(?:add|del) (?:corruption|double add)"),
    _row(Severity.FATAL, "oops", r"(?:Internal error: |Oops(?::| - ))"),
    _row(Severity.FATAL, "warning_in_mm", r"WARNING: (?:.* at )?(?:\./)?(?P<place>mm/[\w./-]+\.[ch]:\d+)"),
    _row(Severity.SERIOUS, "lockdep", r"WARNING: (?:possible |inconsistent |suspicious |bad unlock |held lock )"),
    _row(Severity.SERIOUS, "lockdep", r"(?:possible circular locking|inconsistent lock state|BUG: MAX_LOCK)"),
    _row(Severity.SERIOUS, "warning", rf"WARNING: (?:.* at )?{_SOURCE}"),
    _row(Severity.SERIOUS, "rcu_stall", r"(?:INFO: )?rcu_\w+ (?:self-)?detected (?:expedited )?stalls?"),
    _row(Severity.SERIOUS, "hung_task", r"INFO: task \S+ (?:is )?blocked .*for more than \d+ seconds"),
    _row(Severity.SERIOUS, "atomic_sleep", r"BUG: (?:sleeping function called|scheduling while atomic)"),
    _row(Severity.SERIOUS, "undefined_behaviour", r"UBSAN: "),
    _row(Severity.SERIOUS, "data_race", r"BUG: KCSAN: "),
    _row(Severity.SERIOUS, "allocation_failure", r"\S.*: page allocation failure: order:\d+"),
    _row(Severity.SERIOUS, "swap_device_error", r"(?:Read|Write)-error on swap-device"),
    _row(Severity.SERIOUS, "bug", r"BUG: "),
    _row(Severity.COUNT, "memcg_oom", r"Memory cgroup out of memory: Kill"),
    _row(Severity.SERIOUS, "out_of_memory", r"Out of memory(?: \([^)]*\))?: Kill"),
    _row(Severity.COUNT, "fault_oom", r"(?:Huh )?VM_FAULT_OOM leaked"),
    _row(Severity.COUNT, "throttling", r".*(?:temperature above threshold|clock throttled)"),
)

# Sequences of ECMA-48, control characters of both kinds, and what turns the direction of writing or is not seen.
_TERMINAL_CODES: Final = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_STAMP: Final = re.compile(r"^(?:<\d+>)?\s*(?:\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])?\s?)?")
_FRAME: Final = re.compile(
    r"^\s*(?:RIP: [0-9a-f]{4}:|pc : |lr : )?(?P<guess>\? )?(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"
)
_PANIC: Final = re.compile(r"(?:[\w./-]+: )?Kernel panic - not syncing")
_VAGUE_PANIC: Final = re.compile(r"not syncing: (?:Oops: )?Fatal exception")
_END: Final = re.compile(r"---\[ end ")
# It begins where a word does, so that a long word is read once and not once from each of its letters.
_FUNCTION: Final = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+")
_CHANGING: Final = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+|0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\b\d+\b")
# Frames that every report has, whatever broke.
_GENERIC: Final = re.compile(
    r"(?:__)?(?:dump_stack\w*|show_stack|panic|v?panic|warn\w*|report_bug|handle_bug|bug_handler|brk_handler|die\w*|do_trap\w*"
    r"|do_error_trap|exc_\w+|asm_\w+|el[01]\w*|ret_from_fork\w*|kthread|do_syscall_64|entry_SYSCALL\w*|x64_sys_call"
    r"|invoke_syscall|do_el0_svc|page_fault_oops|search_\w+|do_mem_abort|do_translation_fault|kasan_\w+|print_report\w*"
    r"|print_address_description\w*|refcount_warn_saturate|oops_\w+|crash_\w+|dump_backtrace|do_page_fault|do_kern_addr_fault)"
)
_FRAMES_IN_SIGNATURE: Final = 3
# Kinds whose report goes on with an "Oops" line of its own.
_GOES_ON: Final = frozenset({"kernel_bug", "null_or_paging", "general_protection", "list_corruption"})
# A report that has not ended after this many lines was cut off.
_REPORT_LINES: Final = 120
# The kernel's own lines are shorter (LOG_LINE_MAX is 1 KiB less a prefix); what lies beyond is somebody else's.
_LINE_CHARACTERS: Final = 4096


@dataclass(slots=True, kw_only=True)
class _Report:
    row: _Row
    line: str
    place: str
    frames: list[str] = field(default_factory=list)
    length: int = 0

    def finding(self) -> Finding:
        where = self.place or " < ".join(self.frames) or _CHANGING.sub("#", self.line)
        return Finding(
            severity=self.row.severity, kind=self.row.kind, line=self.line, signature=f"{self.row.kind}: {where}"
        )


def clean(line: str) -> str:
    """Return a console or kmsg line without terminal codes, level and time stamp; a very long one is cut off."""
    text = _STAMP.sub("", _TERMINAL_CODES.sub("", line[:_LINE_CHARACTERS]))
    if not text.isprintable():
        # What no standard has assigned a sign yet is as little to be seen as what it has forbidden.
        text = "".join(sign if sign.isprintable() else " " if sign == "\t" else "" for sign in text)
    return text.rstrip()


def classify(lines: Iterable[str]) -> tuple[Finding, ...]:
    """Return what a kernel log shows, in its order. Lines may carry level, time stamp and terminal codes."""
    reports: list[_Report] = []
    # The report whose call trace is being read; None between reports.
    current: _Report | None = None
    for raw in lines:
        text = clean(raw)
        found = _match(text)
        if found is not None and not (
            found.row.kind == "oops" and current is not None and current.row.kind in _GOES_ON
        ):
            current = found
            reports.append(found)
        elif current is not None:
            current = _continue(current, text)
    return tuple(report.finding() for report in reports)


def panic_line(text: str) -> str | None:
    """Return the line of a console text that says best why the kernel died; None when it shows no panic.

    A panic that only repeats that something fatal came before it ("Fatal exception") is told by what came before.
    """
    lines = [clean(line) for line in text.splitlines()]
    panic = next((line for line in lines if _PANIC.match(line)), None)
    if panic is None:
        return None
    if _VAGUE_PANIC.search(panic):
        before = lines[: lines.index(panic)]
        causes = [found for found in map(_match, before) if found and found.row.severity is Severity.FATAL]
        causes = [found for found in causes if found.row.kind != "oops"] or causes
        if causes:
            return causes[-1].line
    return panic


def _match(text: str) -> _Report | None:
    for row in _TABLE:
        if match := row.pattern.match(text):
            place = match.groupdict().get("place") or ""
            return _Report(row=row, line=text, place=_place(text, place) if place else "")
    return None


def _place(text: str, place: str) -> str:
    """Return file and function of a WARNING; the line number moves with every patch, so it stays out."""
    function = _FUNCTION.search(text)
    path = place.rpartition(":")[0]
    return f"{path} {function[1]}" if function else path


def _continue(report: _Report, text: str) -> _Report | None:
    """Read one more line of a report; return None when it ends there."""
    report.length += 1
    if _END.search(text) or report.length > _REPORT_LINES:
        return None
    frame = _FRAME.match(text)
    if frame and not frame["guess"] and len(report.frames) < _FRAMES_IN_SIGNATURE:
        name = frame["name"].partition(".")[0]
        if not _GENERIC.fullmatch(name) and name not in report.frames:
            report.frames.append(name)
    return report
