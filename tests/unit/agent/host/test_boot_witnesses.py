"""What wtmp, the journal and kdump tell of a boot that ended without a shutdown."""

import json
import stat
from pathlib import Path

import pytest

from agent.adapters.host import boots
from agent.domain.host.boot_witnesses import _UTMP, journal_entries, told_by_dumps, told_by_journal, told_by_wtmp
from agent.domain.session.previous_boot import BootMark

MARK = BootMark(boot_id="aaaa-bbbb", stopped=False, known=("/var/crash/1/dump.1",))
# 2026-11-26 12:00:00 UTC.
NOON = 1795694400
RUN_LEVEL, BOOT, USER = 1, 2, 7


def record(kind: int, at_s: int, user: str = "", *, architecture: str = "x86_64") -> bytes:
    host = b"6.1.0-53-cloud-amd64"
    return _UTMP[architecture].pack(kind, 0, b"~", b"~~", user.encode(), host, b"", 0, at_s)


BOOTED = (BOOT, NOON, "reboot"), (USER, NOON + 5, "root")
AGAIN = (BOOT, NOON + 3600, "reboot"), (RUN_LEVEL, NOON + 3605, "runlevel")
STOPPED = ((RUN_LEVEL, NOON + 3000, "shutdown"),)


@pytest.mark.parametrize("architecture", ["x86_64", "arm64"])
@pytest.mark.parametrize(
    ("records", "told"),
    [
        ((), ""),
        (BOOTED, ""),
        (
            (*BOOTED, *AGAIN),
            "wtmp has no shutdown between the boots of 2026-11-26 12:00:00 UTC and 2026-11-26 13:00:00 UTC",
        ),
        (
            (*BOOTED, *STOPPED, *AGAIN),
            "wtmp has a shutdown at 2026-11-26 12:50:00 UTC, between the boots of 2026-11-26 12:00:00 UTC and "
            "2026-11-26 13:00:00 UTC",
        ),
        # A shutdown before that is of another boot.
        (
            (*STOPPED, *BOOTED, *AGAIN),
            "wtmp has no shutdown between the boots of 2026-11-26 12:00:00 UTC and 2026-11-26 13:00:00 UTC",
        ),
    ],
)
def test_wtmp(architecture: str, records: tuple[tuple[int, int, str], ...], told: str) -> None:
    content = b"".join(record(*each, architecture=architecture) for each in records)
    assert told_by_wtmp(content, architecture) == told
    assert told_by_wtmp(content + b"cut short", architecture) == told
    assert told_by_wtmp(content, "riscv64") == "", "its records are laid out in another way"


def entry(second: float, text: str, *, transport: str = "journal") -> str:
    fields = {"__MONOTONIC_TIMESTAMP": str(int(second * 1e6)), "MESSAGE": text, "_TRANSPORT": transport}
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], ""),
        (["-- No entries --", "{}", '{"MESSAGE": [1], "__MONOTONIC_TIMESTAMP": null}'], ""),
        (
            [entry(12, "Started cron"), entry(13.4, "zram0: detected", transport="kernel")],
            "its journal ends without a shutdown, 13 s after its start, with 'Started cron'",
        ),
        (
            [entry(99, "Reached target reboot.target - System Reboot."), entry(100, "Sending SIGTERM")],
            "its journal ends with a shutdown, 100 s after its start",
        ),
        # Nobody but the kernel may say so in the kernel's name, and the kernel shuts nothing down.
        (
            [entry(5, "Reached target reboot.target", transport="kernel")],
            "its journal ends without a shutdown, 5 s after its start",
        ),
    ],
)
def test_the_journal(lines: list[str], told: str) -> None:
    assert told_by_journal(journal_entries("\n".join(lines))) == told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (list("grün \x1b[1m".encode("latin-1")), r"with 'gr\ufffdn \x1b[1m'"),
        (list(b"all good"), "with 'all good'"),
        # Several fields of that name in one entry.
        (["first", "second"], "with 'first'"),
        ([None, list(b"bytes")], "with 'bytes'"),
        # Too long to be printed: what stands before it is told.
        (None, "with 'before'"),
        ([], "with 'before'"),
        ([None], "with 'before'"),
        ([1, -5], "with 'before'"),
        ({"a": 1}, "with 'before'"),
        ("  ", "with 'before'"),
    ],
)
def test_a_message_that_is_no_text_in_the_journal_is_told_as_a_sentence_or_not_at_all(
    message: object, told: str
) -> None:
    fields = {"__MONOTONIC_TIMESTAMP": "13000000", "MESSAGE": message, "PRIORITY": None, "_TRANSPORT": "stdout"}
    found = told_by_journal(journal_entries(f"{entry(12, 'before')}\n{json.dumps(fields)}\n{'[' * 100_000}"))
    expected = f"its journal ends without a shutdown, 13 s after its start, {told}".replace(r"\ufffd", "\ufffd")
    assert found == expected
    assert found.isprintable()


def test_a_dump_is_told_once() -> None:
    dumps = {"/var/crash/1/dump.1": 5, "/var/crash/2/dump.2": 3 << 20}
    assert told_by_dumps(dumps, MARK.known) == ("kdump left /var/crash/2/dump.2 (3 MiB)",)


def test_the_journal_is_asked_for_the_boot_by_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "journalctl"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat {tmp_path}/answer\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "answer").write_text(entry(12, "Started cron"))
    monkeypatch.setattr(boots, "find_tool", lambda name: str(tool))
    (tmp_path / "wtmp").write_bytes(record(*BOOTED[0]) + record(*AGAIN[0]))
    monkeypatch.setattr(boots.platform, "machine", lambda: "x86_64")
    found = boots.witnesses(MARK, {"/var/crash/2/dump.2": 0}, tmp_path / "wtmp")
    assert [each.split()[0] for each in found] == ["wtmp", "its", "kdump"]
    assert "--boot=aaaabbbb --lines=50 --output=json" in (tmp_path / "asked").read_text()


def test_where_nobody_knows_anything_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boots, "find_tool", lambda name: None)
    assert boots.witnesses(MARK, boots.crash_dumps(tmp_path / "none"), tmp_path / "wtmp") == ()
    # One that fails, as without a journal of that boot, is nobody who knows.
    monkeypatch.setattr(boots, "find_tool", lambda name: "/bin/false")
    assert boots.witnesses(MARK, {}, tmp_path / "wtmp") == ()
