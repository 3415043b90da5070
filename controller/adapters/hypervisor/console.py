"""Reads a boot's console log as it grows: the panic line at once, the most telling line when there is no panic."""

import re
from pathlib import Path

# The kernel's own line, at the start of a line after its time stamp: a program that quotes one does not match.
_STAMP = re.compile(r"^(<\d+>)?\[\s*\d+\.\d+\]\s?(\[\s*[TC]\d+\]\s?)?")
_PANIC = re.compile(r"^Kernel panic - not syncing")
# Worth showing when a boot hung or reset, most telling first.
_TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(BUG:|kernel BUG at|Oops:|Internal error:|Unable to handle kernel)",
        r"(soft lockup|hard LOCKUP|blocked for more than|detected stalls|Out of memory: Killed)",
        r"^(VFS: |Run .* as init process|reboot: )",
    )
)
_READ_BYTES = 1 << 16
_TAIL_BYTES = 1 << 16
_LINE_MAX = 300


class ConsoleLog:
    """Follows one console file. Survives that the file does not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._carry = b""
        self._panic = ""

    def panic_line(self, *, final: bool = False) -> str:
        """Return the first panic line so far, empty when none; `final`: nothing will follow an unfinished line."""
        if self._panic:
            return self._panic
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                while not self._panic and (chunk := file.read(_READ_BYTES)):
                    self._offset += len(chunk)
                    self._scan(chunk)
        except FileNotFoundError:
            return ""
        if final and not self._panic:
            self._panic = panic_line(self._carry.decode(errors="replace"))
        return self._panic

    def telling_line(self) -> str:
        """Return the most telling line near the end of the log, empty when the log is empty."""
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                return telling_line(file.read(_TAIL_BYTES).decode(errors="replace"))
        except FileNotFoundError:
            return ""

    def _scan(self, chunk: bytes) -> None:
        whole, _, rest = (self._carry + chunk).rpartition(b"\n")
        # A line without an end must not eat memory.
        self._carry = rest[-_READ_BYTES:]
        self._panic = panic_line(whole.decode(errors="replace"))


def panic_line(text: str) -> str:
    """Return the first kernel panic message of a console text, without its time stamp; empty when there is none."""
    for line in _lines(text):
        if _PANIC.match(line):
            return line[:_LINE_MAX]
    return ""


def telling_line(text: str) -> str:
    """Return the line that says most about a hang or reset: the last of the worst kind, else the last line."""
    lines = list(_lines(text))
    for pattern in _TELLING:
        for line in reversed(lines):
            if pattern.search(line):
                return line[:_LINE_MAX]
    return lines[-1][:_LINE_MAX] if lines else ""


def _lines(text: str) -> "list[str]":
    cleaned = (_STAMP.sub("", line.strip()) for line in text.splitlines())
    return ["".join(c for c in line if c.isprintable()) for line in cleaned if line]
