"""The forms in which kernel logs are kept, and the kernel's own words in each of them."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Origin(StrEnum):
    """Who wrote a line, as far as its form tells."""

    KERNEL = "kernel"  # in a known form, and of the kernel
    OTHER = "other"  # in a known form, and of user space
    PLAIN = "plain"  # without time, level and name: of the kernel, or nobody knows
    LOST = "lost"  # an entry whose text was not kept
    UNKNOWN = "unknown"  # begins like a line of some log that this reader does not know


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one line of a log says, without level, time stamp, names and terminal codes."""

    text: str
    origin: Origin


# The kernel's own lines are shorter (LOG_LINE_MAX is 1 KiB less a prefix); what lies beyond is somebody else's.
_LINE_CHARACTERS: Final = 4096
# An entry of a journal has a few dozen fields beside its text.
_ENTRY_CHARACTERS: Final = 65_536
# Sequences of ECMA-48, control characters of both kinds, and what turns the direction of writing or is not seen.
_TERMINAL_CODES: Final = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
# With printk.time the kernel puts this before each of its lines, and callers with CONFIG_PRINTK_CALLER; phones put
# processor and task. dmesg -d puts the time since the line before beside it, or in its place.
_TASK: Final = (
    r"(?:[VDIWEF]?\[\d+:[^\[\]]{0,40}:\s*\d+\]|\(\d+\)\[\d+:[^\[\]]{0,40}\]"
    r"|\[pid:\d+,cpu\d+,[^\[\]]{0,40}\]"
    r"|[^\s\[\]:]{1,16}: (?=\[name:))(?:\[name:[^\[\]]{0,40}\])?"
)
_CALLER: Final = rf"(?:\s?\[\s*[TC]\d+\s*\])?(?:\s{{0,2}}-?{_TASK})?"
_STAMP: Final = re.compile(
    rf"\s*(?:\[\s*\d+\.\d+(?:,\d{{1,3}}|s)?(?:\s*<\s*\+?[\d.]+\s*>)?\s*\]|\[<\s*[\d.]+\s*>\]){_CALLER}\s?"
)
# Six digits after the point, as the kernel writes it and nobody else: also in the middle of a line, on a console.
_GLUED: Final = re.compile(rf"\[ {{0,4}}\d{{1,7}}\.\d{{6}}\]{_CALLER} ")
_DMESG_TIME: Final = re.compile(
    r"\[(?:\w{1,5}\.? {1,2}\w{2,7}\.? {1,3}\d{1,2} \d\d:\d\d:\d\d (?:[A-Z]{3,5} )?\d{4}"
    r"|[A-Z]\w{2} {1,2}\d{1,2} \d\d:\d\d"
    rf"|\s*\+\d+\.\d+)\]{_CALLER} ?|\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{{3,6}}[+-]\d\d:?\d\d{_CALLER} "
)
_FACILITIES: Final = "user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|res[0-9]{1,2}|local[0-7]"
_LEVELS: Final = "emerg|panic|alert|crit|err|error|warn|warning|notice|info|debug"
_DECODED: Final = re.compile(rf"(?P<facility>kern|{_FACILITIES})\s{{0,8}}:(?:{_LEVELS})\s{{0,8}}: ?")
_PRIORITY: Final = re.compile(r"<(?P<priority>\d{1,3})>")
_KMSG: Final = re.compile(r"(?:\d+\.\d+[\w.+~-]*,)?(?P<priority>\d{1,5}),\d+,\d+,[-cC+](?:,[\w=/:.+-]+)*;(?P<text>.*)")
_CLOCK: Final = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
# Abbreviated in the language of the machine.
_MONTH: Final = r"(?:[^\W\d_]{2,6}\.?|\d{1,2}[月월])"
_TIME: Final = re.compile(
    rf"\[?(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?:"
    rf"(?:\d{{4}} )? {{0,2}}{_MONTH} {{1,2}}\d{{1,2}} (?:\d{{4}} )?{_CLOCK}(?: \d{{4}})?"
    rf"|\d{{4}}-\d\d-\d\d[T ]{_CLOCK}(?: ?Z| ?[+-]\d\d:?\d\d)?"
    rf"|\d{{9,10}}\.\d{{3,9}}|{_CLOCK})(?: (?:[A-Z]{{3,5}}|[+-]\d\d(?:\d\d)?)(?= ))?\]?(?:\s+|$)"
)
_RFC5424: Final = re.compile(r"1 \S+ \S+ (?P<tag>\S+) \S+ \S+ (?:-|(?:\[[^\]]{0,400}\]){1,4}) ?(?:\ufeff)?")
_PHONE: Final = re.compile(
    r"(?:\d{4}-)?\d\d-\d\d \d\d:\d\d:\d\d\.\d{3,6}\s+(?:[a-z]\w{0,15}\s+)?(?P<task>\d+)\s+\d+ [VDIWEF] "
    r"(?:(?:KERNEL)?\s*: )?"
)
_WORDS: Final = r"(?:[\w.:@/-]{1,255}\s{1,2}){0,3}?"
_KERNELS_TAG: Final = re.compile(rf"{_WORDS}(?:(?:kernel|vmunix)(?:\[\d+\])?:(?:\s|$)|\[kernel\] |kernel - - - )")
# Where no time stands before it: host and level at most, and no word that ends like the name of a program.
_UNTIMED_TAG: Final = re.compile(
    r"(?:[\w.@/-]{1,255}(?::[\w.@/-]{1,255}){0,8}\s{1,2}){0,2}?(?:kernel|vmunix)(?:\[\d+\])?:(?:\s|$)"
)
# What a console shows when the kernel begins to speak; it does not wait for others to end their line.
_LOGIN: Final = re.compile(r"(?:\S{1,64} login|Password): ")
# Without printk.time: where the console's own line was broken off; a program that quotes the kernel puts a space or
# a quotation mark before it.
_PANIC_GLUED: Final = re.compile(r"(?<![\s\"'`(:])Kernel panic - not syncing")
_OTHERS_TAG: Final = re.compile(rf"{_WORDS}(?:[\w./@()-]{{1,255}}\[\d+\]:(?:\s|$)|(?<=\s)[\w./@()-]{{1,255}}:(?:\s|$))")
_KERNEL_SOMEWHERE: Final = re.compile(r".{0,120}?\skernel(?:\[\d+\])?: ")
_QUOTED: Final = re.compile(r"(?:> ?){1,8}")
_LIKE_A_RECORD: Final = re.compile(
    r"\W{0,3}(?:\d{1,4}[-/.:]\d{1,2}[-/.:T]\d{1,4}|\d{1,2}[-/ ][A-Z][a-z]{2}[-/ ]\d{4}|\d{10})|\s*[{<]\??[\"'\w]"
)
# How an entry of many lines begins and ends, and the fields that matter: journalctl -o export, verbose, json-pretty,
# and dmesg --json.
_FIELD: Final = re.compile(r'\s*(?:(?P<name>[A-Z_][A-Z0-9_]*)=|"(?P<quoted>\w+)"\s*:\s*)(?P<value>.*)$')
_BETWEEN: Final = frozenset({"", "{", "}", "},", "},{", "[", "]", '"dmesg": ['})
_TEXTS: Final = ("MESSAGE", "msg", "message", "log")
_SENDERS: Final = ("_TRANSPORT", "SYSLOG_IDENTIFIER")


def _signs(line: str) -> str:
    """Return a line without what a terminal obeys and what no standard has assigned a sign; a long one is cut off."""
    text = _TERMINAL_CODES.sub("", line[:_LINE_CHARACTERS])
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else " " if sign == "\t" else "" for sign in text)


def clean(line: str) -> str:
    """Return a line without what its form puts around the kernel's words; a very long one is cut off."""
    return unwrapped(line).text


def journal_line(entry: Mapping[str, Any] | list[Any] | None) -> str:
    """Return an entry of a journal, or the MESSAGE of one, as one line that `unwrapped` reads.

    A MESSAGE that is no text is a list of its bytes; one that was too long to be told is null.
    """
    if not isinstance(entry, Mapping):
        entry = {"MESSAGE": entry}
    kept = {name: entry[name] for name in (*_TEXTS, *_SENDERS, "pri") if name in entry}
    return json.dumps({name: _text_of(value) if name in _TEXTS else value for name, value in kept.items()})


def unwrapped(raw: str) -> Line:
    """Return what one line says and of whom it is."""
    # journalctl -o json-sse and json-seq put something before each entry.
    bare = raw.lstrip(" \t\x1e").removeprefix("data: ")
    if bare[:1] == "{" and (entry := _json_entry(bare)) is not None:
        return entry
    text = _signs(raw).rstrip()
    text = text[quoted.end() :] if (quoted := _QUOTED.match(text)) else text
    if found := _KMSG.match(text):
        return Line(text=found["text"], origin=Origin.OTHER if int(found["priority"]) >> 3 else Origin.KERNEL)
    known = False
    if found := _PRIORITY.match(text):
        if int(found["priority"]) >> 3:
            return Line(text=text[found.end() :], origin=Origin.OTHER)
        known, text = True, text[found.end() :]
    if found := _DECODED.match(text):
        if found["facility"] != "kern":
            return Line(text=text[found.end() :], origin=Origin.OTHER)
        known, text = True, text[found.end() :]
    if known and (found := _RFC5424.match(text)):
        origin = Origin.KERNEL if found["tag"] in ("kernel", "-") else Origin.OTHER
        return Line(text=_unstamped(text[found.end() :])[0], origin=origin)
    return _timed(text, known=known)


def entries(lines: Iterable[str]) -> Iterator[Line]:
    """Yield what a log says, line by line; entries of several lines and lines that were glued together as they are."""
    fields: dict[str, str] = {}
    previous = ""
    for raw in lines:
        stripped = raw.strip()
        if previous == "MESSAGE":
            # Binary text follows its name, and its length in eight bytes.
            fields["MESSAGE"] = raw[8:]
        elif field := _FIELD.match(raw):
            name = field["name"] or field["quoted"]
            if name == "__CURSOR":
                yield from _told(fields)
                fields = {}
            fields[name] = field["value"]
        elif stripped != "MESSAGE":
            yield from _told(fields)
            fields = {}
            if stripped not in _BETWEEN:
                yield from pieces(raw)
        previous = stripped
    yield from _told(fields)


def pieces(raw: str) -> Iterator[Line]:
    """Yield the lines that stand in one: the kernel does not wait for others to end theirs on a console."""
    line = unwrapped(raw)
    if line.origin is Origin.OTHER:
        yield line
        return
    if line.origin is Origin.PLAIN and (login := _LOGIN.match(line.text)):
        yield Line(text=login[0], origin=Origin.PLAIN)
        line = unwrapped(line.text[login.end() :])
    begin, by_kernel = 0, line.origin
    for stamp in _GLUED.finditer(line.text):
        if before := line.text[begin : stamp.start()].strip():
            yield from _broken_off(Line(text=before, origin=by_kernel))
        begin, by_kernel = stamp.end(), Origin.KERNEL
    yield from _broken_off(Line(text=line.text[begin:], origin=by_kernel))


def _broken_off(line: Line) -> Iterator[Line]:
    """Yield a line without the kernel's time as two when a panic broke it off."""
    glued = _PANIC_GLUED.search(line.text) if line.origin is Origin.PLAIN else None
    begin = glued.start() if glued else 0
    if begin:
        yield Line(text=line.text[:begin], origin=line.origin)
    yield Line(text=line.text[begin:], origin=line.origin)


def _timed(text: str, *, known: bool) -> Line:
    """Return a line that may begin with a time, or several, and with the names of host and program."""
    rest, by_kernel = _unstamped(text)
    if by_kernel:
        # journalctl -o short-monotonic puts names after it.
        tag = _KERNELS_TAG.match(rest) if " kernel: " in rest[:300] else None
        return Line(text=rest[tag.end() :] if tag else rest, origin=Origin.KERNEL)
    if phone := _PHONE.match(text):
        origin = Origin.OTHER if int(phone["task"]) else Origin.KERNEL
        return Line(text=_unstamped(text[phone.end() :])[0], origin=origin)
    time = _TIME.match(text)
    rest = text[time.end() :].lstrip(">| ") if time else text
    if time or known:
        if tag := _KERNELS_TAG.match(rest):
            rest = rest[tag.end() :]
            rest = rest[level.end() :] if (level := _PRIORITY.match(rest)) else rest
            return Line(text=_unstamped(rest)[0], origin=Origin.KERNEL)
        rest, by_kernel = _unstamped(rest)
        if by_kernel or known:
            return Line(text=rest, origin=Origin.KERNEL)
        return Line(text=rest, origin=Origin.OTHER if _OTHERS_TAG.match(rest) else Origin.PLAIN)
    if tag := _UNTIMED_TAG.match(text):
        return Line(text=_unstamped(text[tag.end() :])[0], origin=Origin.KERNEL)
    if _LIKE_A_RECORD.match(text) and not _GLUED.search(text):
        somewhere = _KERNEL_SOMEWHERE.match(text)
        return (
            Line(text=text[somewhere.end() :], origin=Origin.KERNEL)
            if somewhere
            else Line(text=text, origin=Origin.UNKNOWN)
        )
    return Line(text=text, origin=Origin.PLAIN)


def _unstamped(text: str) -> tuple[str, bool]:
    """Return the text after the stamps of kernel and dmesg, and whether there was one."""
    begin = 0
    while found := _STAMP.match(text, begin) or _DMESG_TIME.match(text, begin):
        begin = found.end()
    return text[begin:], begin > 0


def _json_entry(raw: str) -> Line | None:
    try:
        entry = json.loads(raw[:_ENTRY_CHARACTERS])
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    return _of_fields(entry)


def _of_fields(entry: Mapping[str, Any]) -> Line:
    name = next((name for name in _TEXTS if name in entry), None)
    if name is None:
        return Line(text="", origin=Origin.UNKNOWN)
    text = _text_of(entry[name])
    transport, identifier = entry.get("_TRANSPORT"), entry.get("SYSLOG_IDENTIFIER")
    # What systemd writes to the kernel's log has the kernel's transport and a name of its own.
    others = (transport is not None and transport != "kernel") or (identifier is not None and identifier != "kernel")
    others = others or (isinstance(entry.get("pri"), int) and entry["pri"] >> 3 != 0)
    if others:
        return Line(text=text or "", origin=Origin.OTHER)
    if text is None:
        return Line(text="", origin=Origin.LOST)
    inner = _signs(text).rstrip()
    return Line(text=_unstamped(inner)[0], origin=Origin.KERNEL)


def _told(fields: Mapping[str, str]) -> Iterator[Line]:
    """Yield the entry that these fields of several lines make; nothing when they have no text."""
    entry: dict[str, Any] = {}
    for name, value in fields.items():
        quoted = value.rstrip().rstrip(",")
        try:
            entry[name] = json.loads(quoted) if quoted[:1] in '"[n0123456789' else value
        except ValueError:
            entry[name] = value
    if any(name in entry for name in _TEXTS):
        yield _of_fields(entry)


def _text_of(value: Any) -> str | None:
    """Return the text of a MESSAGE; None for one that is not there. Several values are several lines of one."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        if all(isinstance(one, int) and 0 <= one < 256 for one in value):
            return bytes(value).decode("utf-8", "replace")
        if all(isinstance(one, str) for one in value):
            return " ".join(value)
    return None
