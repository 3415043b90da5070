"""Reads a boot's console log as it grows: the panic line at once, the most telling line when there is no panic."""

import re
from pathlib import Path

from controller.gate.kernel_log import console_lines

# Before the kernel's own lines.
_STAMP = re.compile(r"^(<\d+>)?\[\s*\d+\.\d+\]\s?(\[\s*[TC]\d+\]\s?)?")
_PANIC = "Kernel panic - not syncing"
# Worth showing when a boot hung or reset, most telling first.
_TROUBLE = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(BUG:|kernel BUG at|Oops:|Internal error:|Unable to handle kernel)",
        r"(soft lockup|hard LOCKUP|blocked for more than|detected stalls|Out of memory: Killed)",
    )
)
# An agent that did not start says why itself; that it ended, and how, is said after it.
_AGENT, _AGENT_ENDED = "kernroll-agent: ", "kernroll-init: the agent ended"
# How far a boot came; what user space printed after that says it even better.
_STAGE = re.compile(r"^(VFS: (Cannot|Unable)|Waiting for root device|Run .* as init process|reboot: )")
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
    """Return the first kernel panic message of a console text, without its time stamp; empty when there is none.

    It may stand anywhere in a line: the kernel does not wait for a login or a status to end theirs.
    """
    for line in text.splitlines():
        if _PANIC not in line:
            continue
        for piece in console_lines(line):
            if piece.startswith(_PANIC):
                return _printable(piece)[:_LINE_MAX]
    return ""


def telling_line(text: str) -> str:
    """Return the line that says most about a hang or reset.

    That is the last line of trouble, else how far the boot came, else the last line.
    """
    lines = list(reversed(_lines(text)))
    for pattern in _TROUBLE:
        for line, _ in lines:
            if pattern.search(line):
                return line[:_LINE_MAX]
    for place, (line, by_kernel) in enumerate(lines):
        if line.startswith(_AGENT_ENDED) and place + 1 < len(lines) and lines[place + 1][0].startswith(_AGENT):
            continue
        if not by_kernel or _STAGE.search(line):
            return line[:_LINE_MAX]
    return lines[0][0][:_LINE_MAX] if lines else ""


def _lines(text: str) -> list[tuple[str, bool]]:
    """Return the lines without time stamps, and whether they had one: then the kernel printed them."""
    found = []
    for raw in filter(None, map(str.strip, text.splitlines())):
        line, stamps = _STAMP.subn("", raw)
        found.append((_printable(line), bool(stamps)))
    return found


def _printable(line: str) -> str:
    return "".join(character for character in line if character.isprintable())
