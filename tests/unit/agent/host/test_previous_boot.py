"""A boot that ended without a shutdown is told once, with the last words that the kernel kept of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.host.boots import BootMarkFile, crash_dumps, kept_logs, witnesses
from agent.adapters.state.spool import ReportSpool
from agent.domain.session.previous_boot import FIRST_SEQUENCE, BootMark, digest_of, ended_badly, last_words, obituary
from agent.resident.outbox import Outbox
from agent.resident.serve import _marked, _save
from controller.gate.kernel_log import Severity, classify
from protos.kernroll.v1 import agent_pb2

PANIC_2 = """\
Panic#1 Part2
<6>[   11.000001] EXT4-fs (nvme0n1): mounted filesystem
<4>[   12.345678][    T1] Call Trace:
"""
PANIC_1 = """\
Panic#1 Part1
<0>[   12.400000] Kernel panic - not syncing: Fatal exception in interrupt
<0>[   12.500000] ---[ end Kernel panic - not syncing: Fatal exception in interrupt ]---
"""
MARK = BootMark(boot_id="boot-1", stopped=False, known=("dmesg-old",))


@pytest.mark.parametrize(
    ("mark", "boot_id", "badly"),
    [
        (None, "boot-2", False),
        (MARK, "boot-1", False),
        (MARK, "boot-2", True),
        (BootMark(boot_id="boot-1", stopped=True, known=()), "boot-2", False),
    ],
)
def test_a_boot_ended_badly_when_it_is_over_and_its_agent_was_not_told(
    mark: BootMark | None, boot_id: str, badly: bool
) -> None:
    assert ended_badly(mark, boot_id) is badly


def test_the_last_words_are_in_order_and_only_the_new_ones() -> None:
    files = {"dmesg-a": PANIC_1, "dmesg-b": PANIC_2, "dmesg-old": PANIC_1.replace("interrupt", "old"), "dmesg-c": "\0"}
    words = last_words(files, MARK.known).records
    assert [(word.monotonic_us, word.level) for word in words] == [
        (11_000_001, 6),
        (12_345_678, 4),
        (12_400_000, 0),
        (12_500_000, 0),
    ]
    assert words[1].text == "Call Trace:"
    assert len({word.sequence for word in words}) == 4
    assert not any("old" in word.text for word in words)


def test_of_a_long_log_the_end_is_kept() -> None:
    lines = "".join(f"<6>[{second:5}.000000] line {second}\n" for second in range(1000))
    words = last_words({"dmesg": f"Oops#3 Part1\n{lines}"}, ()).records
    assert len(words) == 200
    assert words[-1].text == "line 999"


def test_the_gate_finds_the_panic_and_not_our_remark() -> None:
    log = obituary(MARK, last_words({"dmesg-a": PANIC_1}, ()))
    assert log.records[0].sequence == FIRST_SEQUENCE
    assert log.records[0].text == "kernroll: this boot ended without a shutdown; the kernel kept 2 lines of its log"
    assert not classify([log.records[0].text])
    found = classify([record.text for record in log.records])
    assert found[0].severity is Severity.FATAL


TRACE = "<4>[    9.000000] CPU: 0 UID: 0 PID: 1 Comm: swapper/0 Not tainted {0} #1 PREEMPT(lazy)\n"


@pytest.mark.parametrize(
    "line",
    [TRACE, TRACE.replace("Not tainted", "Tainted: G        W          "), "<5>[    0.000000] Linux version {0} (x)\n"],
)
def test_the_log_of_a_later_boot_that_had_no_agent_does_not_speak_against_this_one(line: str) -> None:
    mark = replace(MARK, kernel_release="7.0.13")
    own = last_words({"dmesg-a": PANIC_1 + line.format("7.0.13")}, ())
    assert obituary(mark, own).records[1:] == own.records
    other = last_words({"dmesg-a": PANIC_1 + line.format("7.1.13")}, ())
    (remark,) = obituary(mark, other).records
    assert "after it 7.1.13 died before it had an agent, and kept 3 lines" in remark.text
    assert not classify([remark.text])
    # A mark that names no release is of an agent that did not know of this.
    assert len(obituary(MARK, other).records) == 4


def test_the_log_that_kdump_kept_counts_where_the_kernel_has_no_store(tmp_path: Path) -> None:
    log = tmp_path / "202611270012/dmesg.202611270012"
    log.parent.mkdir()
    log.write_text("[    0.000000] Linux version 7.1.13 (x)\n[   12.400000][    T1] Kernel panic - not syncing: oh\n")
    dumped = kept_logs((), tmp_path)
    words = last_words(dumped, ())
    assert [(each.monotonic_us, each.text) for each in words.records][1:] == [
        (12_400_000, "Kernel panic - not syncing: oh")
    ]
    assert words.kernel_release == "7.1.13"
    assert last_words(dumped, [str(log)]).records == ()
    assert len(last_words({**dumped, "dmesg-a": PANIC_1}, ()).records) == 2, "it is the same log again"


CRASHED = (
    "[  100.000001] Linux version 6.12.0-160.el10.x86_64 (mockbuild@x) #1 SMP\n"
    "[  410.000001] BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
    "[  410.000002] Kernel panic - not syncing: Fatal exception\n"
)


@pytest.mark.parametrize(
    ("log", "dump"),
    [
        ("202603021011/dmesg.202603021011", "202603021011/dump.202603021011"),
        ("2026-03-02-10:11/dmesg.txt", "2026-03-02-10:11/vmcore"),
        ("127.0.0.1-2026-03-02-10:11:12/vmcore-dmesg.txt", "127.0.0.1-2026-03-02-10:11:12/vmcore"),
        (
            "127.0.0.1-2026-03-02-10:11:12/vmcore-dmesg-incomplete.txt",
            "127.0.0.1-2026-03-02-10:11:12/vmcore-incomplete",
        ),
        ("host-2026-03-02-10:11:12/vmcore-dmesg.txt", "host-2026-03-02-10:11:12/vmcore.flat"),
    ],
)
def test_a_crash_is_told_whatever_the_distribution_calls_its_files(tmp_path: Path, log: str, dump: str) -> None:
    for name, content in (
        (log, CRASHED),
        (dump, "x"),
        ("README.txt", "See kdump"),
        ("kexec-dmesg.log", "[ 1.000000] y"),
    ):
        path = tmp_path / (name if "/" in name else Path(log).with_name(name))
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    words = last_words(kept_logs((), tmp_path), ())
    assert words.kernel_release == "6.12.0-160.el10.x86_64"
    assert [classify([record.text]) != () for record in words.records] == [False, True, True]
    # Neither the log nor what is written beside it is a dump.
    assert list(crash_dumps(tmp_path)) == [str(tmp_path / dump)]


def test_what_the_console_showed_counts_where_nothing_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "console-ramoops-0").write_text(CRASHED)
    files = kept_logs((tmp_path,), tmp_path / "none")
    assert len(last_words(files, ()).records) == 3
    assert len(last_words({**files, "dmesg-ramoops-0": PANIC_1}, ()).records) == 2
    assert len(last_words({**files, "/var/crash/1/dmesg.1": PANIC_1}, ()).records) == 2
    # Programs' messages on the console, and a record of something else, hide no dump's log.
    assert len(last_words({"/var/crash/1/dmesg.1": CRASHED, "/var/crash/1/dmesg.txt": "see dmesg.1"}, ()).records) == 3


@pytest.mark.parametrize("name", ["console-ramoops-0", "dmesg-ramoops-0"])
def test_another_log_under_a_known_name_is_new_and_a_known_one_under_another_name_is_not(name: str) -> None:
    header = "Panic#1 Part1\n" if name.startswith("dmesg") else ""
    before, after = header + CRASHED, header + CRASHED.replace("0008", "0010")
    known, seen = (f"/sys/fs/pstore/{name}",), (digest_of(before),)
    assert len(last_words({known[0]: after}, known, seen).records) == 3
    moved = {f"/var/lib/systemd/pstore/{name}": before}
    assert last_words({**moved, known[0]: before}, known, seen).records == ()


@pytest.mark.parametrize("kind", ["Restart", "Halt", "Poweroff", "Shutdown"])
def test_a_log_that_was_kept_at_a_shutdown_is_read_in_its_order(kind: str) -> None:
    parts = {name: text.replace("Panic#1", f"{kind}#1") for name, text in (("dmesg-a", PANIC_1), ("dmesg-b", PANIC_2))}
    assert [word.monotonic_us for word in last_words(parts, ()).records] == [
        11_000_001,
        12_345_678,
        12_400_000,
        12_500_000,
    ]


def test_what_the_kernel_says_after_a_question_on_the_console_is_read() -> None:
    files = {"console-ramoops-0": f"host-1 login: {CRASHED}Password: \n"}
    assert [word.text.split()[0] for word in last_words(files, ()).records] == ["Linux", "BUG:", "Kernel"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("192.168.20.26-2025-12-31-23:59:59/vmcore-dmesg.txt", "127.0.0.1-2026-03-02-10:11:12/vmcore-dmesg.txt"),
        ("z-2026-03-02-10:11:12/vmcore-dmesg.txt", "a-2026-03-02-10:11:13/vmcore-dmesg.txt"),
        ("host-2026-03-02-10:11:12/vmcore-dmesg.txt", "202603021012/dmesg.202603021012"),
        ("2026-03-02-10:11/dmesg.txt", "10.0.0.1-2026-03-02-10:12:00/vmcore-dmesg.txt"),
        ("lost+found/dmesg.1", "202603021012/dmesg.202603021012"),
    ],
)
def test_of_several_crashes_the_newest_is_told(older: str, newer: str) -> None:
    files = {f"/var/crash/{older}": CRASHED.replace("0008", "0010"), f"/var/crash/{newer}": CRASHED}
    assert last_words(files, ()).records[1].text.endswith("0008")


@pytest.mark.parametrize("caller", ["[      T201]", "[    C0]", "[  T1234567]"])
@pytest.mark.parametrize("space", ["", " "])
def test_who_wrote_a_line_is_no_part_of_it(caller: str, space: str) -> None:
    log = CRASHED.replace("] ", f"]{space}{caller} ")
    assert last_words({"/var/crash/1/dmesg.1": log}, ()).records[1].text.startswith("BUG: kernel NULL")


def outbox(state: Path, boot_id: str) -> Outbox:
    return Outbox(host="host-1", boot_id=boot_id, spool=ReportSpool(state / "spool"), now=lambda: 1.0)


def test_it_is_told_once_and_not_after_an_orderly_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "pstore"
    store.mkdir()
    monkeypatch.setattr("agent.resident.serve.kept_logs", lambda: kept_logs((store,), tmp_path / "none"))
    monkeypatch.setattr("agent.resident.serve.crash_dumps", lambda: crash_dumps(tmp_path / "crash"))
    monkeypatch.setattr("agent.resident.serve.witnesses", lambda mark, dumps: witnesses(mark, dumps, tmp_path / "wtmp"))
    monkeypatch.setattr("agent.adapters.host.boots.find_tool", lambda tool: None)
    file = BootMarkFile(tmp_path / "boot.json")
    (store / "dmesg-before").write_text(PANIC_2)
    first = outbox(tmp_path, "boot-1")
    _marked(first, file)
    assert len(first.spool) == 0, "nothing is known of the time before"
    # Killed: the same boot goes on with another agent.
    _marked(outbox(tmp_path, "boot-1"), file)
    (store / "dmesg-ramoops-0").write_text(PANIC_1)
    dump = tmp_path / "crash/202611270012/dump.202611270012"
    dump.parent.mkdir(parents=True)
    dump.write_bytes(bytes(2 << 20))
    second = outbox(tmp_path, "boot-2")
    mark = _marked(second, file)
    (entry,) = second.spool.queue.entries
    assert entry.report_id.startswith("host-1/boot-1/kernel-log/")
    assert file.load() == mark
    assert mark.known == (str(store / "dmesg-before"), str(store / "dmesg-ramoops-0"), str(dump))
    content = second.spool.content(entry.number)
    assert content is not None
    texts = [record.text for record in agent_pb2.Report.FromString(content).kernel_log.records]
    assert texts[:2] == [
        "kernroll: this boot ended without a shutdown; the kernel kept 2 lines of its log",
        f"kernroll: kdump left {dump} (2 MiB)",
    ]
    assert texts[2].startswith("Kernel panic - not syncing")
    second.spool.acknowledge(frozenset({entry.report_id}))
    _save(file, replace(mark, stopped=True), second)
    third = outbox(tmp_path, "boot-3")
    _marked(third, file)
    assert len(third.spool) == 0


def test_it_is_told_again_when_a_full_disk_kept_it_in_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.resident.serve.kept_logs", lambda: {})
    monkeypatch.setattr("agent.resident.serve.crash_dumps", lambda: ())
    monkeypatch.setattr("agent.resident.serve.witnesses", lambda _mark, _dumps: ())
    file = BootMarkFile(tmp_path / "boot.json")
    _marked(outbox(tmp_path, "boot-1"), file)
    second = outbox(tmp_path, "boot-2")
    with monkeypatch.context() as full:
        full.setattr(ReportSpool, "_write", lambda *_: "no space left on device")
        _marked(second, file)
    (told,) = second.spool.queue.entries
    # Killed before there was room for it.
    third = outbox(tmp_path, "boot-2")
    _marked(third, file)
    assert [entry.report_id for entry in third.spool.queue.entries] == [told.report_id]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot_id": 1}'])
def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "boot.json").write_text(content)
    assert BootMarkFile(tmp_path / "boot.json").load() is None
