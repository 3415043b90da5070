"""What a host itself wrote down of a boot that ended without a shutdown: wtmp, the journal, a crash dump.

Each gives sentences. None of them decides anything: that the boot ended badly is known from the agent's own mark.
"""

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.domain.numbers import is_number

# struct utmp of glibc: type, process, line, id, user, host, exit, session, seconds, ...; arm64 has longer fields.
_UTMP = {"x86_64": struct.Struct("<h2xi32s4s32s256s4sii4x36x"), "arm64": struct.Struct("<h2xi32s4s32s256s4sqq44x4x")}
_RUN_LEVEL, _BOOT = 1, 2
_SHUTDOWN = re.compile(r"Reached target .*(Reboot|Power-?Off|Shutdown|Halt|System Shutdown)|systemd-shutdown", re.I)
_LONGEST_QUOTE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One entry of systemd's journal."""

    # Microseconds since the boot's start.
    monotonic_us: int
    # Empty where the journal does not print it.
    text: str
    # Whether the kernel said it.
    kernel: bool


def told_by_wtmp(content: bytes, architecture: str) -> str:
    """Return what wtmp says of the time between its last two boots; empty when it does not know two.

    `content` may begin in the middle of the file as long as it does so between two records.
    """
    record = _UTMP.get(architecture)
    if record is None:
        return ""
    boots, shutdown_at = [], None
    for offset in range(0, len(content) - record.size + 1, record.size):
        kind, _, _, _, user, _, _, _, at_s = record.unpack_from(content, offset)
        if kind == _BOOT:
            boots.append((at_s, shutdown_at))
            shutdown_at = None
        elif kind == _RUN_LEVEL and user.rstrip(b"\0") == b"shutdown":
            shutdown_at = at_s
    if len(boots) < 2:
        return ""
    (before_s, _), (now_s, stopped_s) = boots[-2:]
    between = f"between the boots of {_moment(before_s)} and {_moment(now_s)}"
    if stopped_s is None:
        return f"wtmp has no shutdown {between}"
    return f"wtmp has a shutdown at {_moment(stopped_s)}, {between}"


def journal_entries(text: str) -> tuple[JournalEntry, ...]:
    """Parse what journalctl prints with --output=json; lines that are no entries are left out."""
    entries = []
    for line in text.splitlines():
        try:
            fields: Mapping[str, Any] = json.loads(line)
            at_us = str(fields["__MONOTONIC_TIMESTAMP"])
            said, kernel = _message(fields.get("MESSAGE")), fields.get("_TRANSPORT") == "kernel"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if is_number(at_us):
            entries.append(JournalEntry(monotonic_us=int(at_us), text=said, kernel=kernel))
    return tuple(entries)


def _message(said: Any) -> str:
    """Return a message as text: journalctl writes null for a long one, numbers for bytes, a list for several."""
    if isinstance(said, list) and all(isinstance(each, int) and 0 <= each < 256 for each in said):
        return bytes(said).decode("utf-8", "replace").strip()
    if isinstance(said, list):
        return next(filter(None, map(_message, said)), "")
    return said.strip() if isinstance(said, str) else ""


def told_by_journal(entries: tuple[JournalEntry, ...]) -> str:
    """Return how the journal of the boot ends; empty when there is none."""
    if not entries:
        return ""
    end_s = entries[-1].monotonic_us / 1e6
    if any(_SHUTDOWN.search(each.text) for each in entries if not each.kernel):
        return f"its journal ends with a shutdown, {end_s:.0f} s after its start"
    last = next((each.text for each in reversed(entries) if each.text and not each.kernel), "")
    return f"its journal ends without a shutdown, {end_s:.0f} s after its start" + (
        f", with {last[:_LONGEST_QUOTE]!r}" if last else ""
    )


def told_by_dumps(dumps: Mapping[str, int], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return a sentence for each crash dump that is new; `dumps` is the size in bytes by path."""
    return tuple(
        f"kdump left {path} ({size / (1 << 20):.0f} MiB)" for path, size in sorted(dumps.items()) if path not in known
    )


def _moment(at_s: int) -> str:
    try:
        return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        # Of a damaged record; no calendar has it.
        return f"second {at_s}"
