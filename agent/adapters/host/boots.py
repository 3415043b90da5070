"""The mark that an agent leaves of its boot, and what else a host keeps of boots that ended badly.

Everything is read and nothing changed: the kernel's own store (pstore), kdump's dumps, wtmp, systemd's journal.
"""

import json
import platform
import re
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.adapters.host.processes import find_tool
from agent.adapters.state.durable import replace_file
from agent.adapters.state.state_files import load_json
from agent.domain.host.boot_witnesses import journal_entries, told_by_dumps, told_by_journal, told_by_wtmp
from agent.domain.host.facts import architecture_name
from agent.domain.session.previous_boot import BootMark
from agent.domain.tagged import Unreadable, text_of

# Where the kernel shows its store, and where systemd moves what is in it at the beginning of a boot.
STORES = (Path("/sys/fs/pstore"), Path("/var/lib/systemd/pstore"))
# What the store calls its records: the log's end at a panic, and the console's log of every boot.
_RECORDS = ("dmesg-*", "console-*")
# Where kdump puts a dump, and the log out of it, in a directory for each crash.
CRASHES = Path("/var/crash")
# What Debian (dmesg.TIME), SUSE (dmesg.txt) and Red Hat call the log, also one that could not be written to its end.
# The capture kernel's own log lies beside it (kexec-dmesg.log).
_CRASH_LOGS = ("dmesg.*", "vmcore-dmesg*.txt")
_DUMPS = re.compile(r"dump\..+|vmcore(?!-dmesg)(?!.*\.(?:txt|log)$).*")
WTMP = Path("/var/log/wtmp")
_MOST_BYTES = 1 << 20
# Whole records of either architecture's size.
_WTMP_BYTES = 384 * 400 * 4
_JOURNAL_LINES = 50
_JOURNAL_TIMEOUT_S = 10.0


class BootMarkFile:
    """One small file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> BootMark | None:
        """Return the mark; None when there is none that can be read. Raises NewerState, RigError."""
        return load_json(self._path, _mark_of)

    def save(self, mark: BootMark) -> None:
        """Make the mark durable. Raises OSError."""
        replace_file(self._path, json.dumps(asdict(mark)).encode())


def _mark_of(saved: dict[str, Any]) -> BootMark:
    stopped, known, seen = saved["stopped"], saved["known"], saved.get("seen", [])
    if not isinstance(stopped, bool) or not isinstance(known, list) or not isinstance(seen, list):
        raise Unreadable("it is no mark of a boot")
    return BootMark(
        boot_id=text_of(saved["boot_id"]),
        stopped=stopped,
        known=tuple(text_of(each) for each in known),
        seen=tuple(text_of(each) for each in seen),
        kernel_release=text_of(saved.get("kernel_release", "")),
    )


def kept_logs(stores: tuple[Path, ...] = STORES, crashes: Path = CRASHES) -> dict[str, str]:
    """Return the kept logs that this process may read, by path."""
    found = {}
    places = (
        *((store, pattern) for store in stores for pattern in _RECORDS),
        *((crashes, pattern) for pattern in _CRASH_LOGS),
    )
    for directory, pattern in places:
        for path in sorted(directory.rglob(pattern)) if directory.is_dir() else ():
            try:
                found[str(path)] = path.read_bytes()[-_MOST_BYTES:].decode("utf-8", "replace")
            except OSError:
                # Removed since it was listed, or compressed in a way this kernel cannot undo.
                continue
    return found


def crash_dumps(crashes: Path = CRASHES) -> dict[str, int]:
    """Return the sizes of the dumps that kdump left, in bytes by path."""
    found = {}
    for path in sorted(crashes.rglob("*")) if crashes.is_dir() else ():
        try:
            if _DUMPS.fullmatch(path.name) and path.is_file():
                found[str(path)] = path.stat().st_size
        except OSError:
            # Removed since it was listed.
            continue
    return found


def witnesses(mark: BootMark, dumps: dict[str, int], wtmp: Path = WTMP) -> tuple[str, ...]:
    """Return what the host wrote down of the end of a boot, a sentence from each that knows something."""
    try:
        with wtmp.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _WTMP_BYTES))
            content = file.read()
    except OSError:
        content = b""
    found = (
        told_by_wtmp(content, architecture_name(platform.machine())),
        told_by_journal(journal_entries(_journal(mark.boot_id))),
        *told_by_dumps(dumps, mark.known),
    )
    return tuple(each for each in found if each)


def _journal(boot_id: str) -> str:
    """Return the last entries of a boot's journal as JSON; empty where there is no journal, or none of that boot."""
    journalctl = find_tool("journalctl")
    if journalctl is None:
        return ""
    command = [journalctl, f"--boot={boot_id.replace('-', '')}", f"--lines={_JOURNAL_LINES}", "--output=json"]
    try:
        done = subprocess.run(
            [*command, "--no-pager", "--quiet"], capture_output=True, timeout=_JOURNAL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""
