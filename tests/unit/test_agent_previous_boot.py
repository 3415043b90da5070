"""A boot that ended without a shutdown is told once, with the last words that the kernel kept of it."""

from pathlib import Path

import pytest

from agent.adapters.boots import BootMarkFile, kept_logs
from agent.adapters.spool import ReportSpool
from agent.domain.previous_boot import FIRST_SEQUENCE, BootMark, ended_badly, last_words, obituary
from agent.outbox import Outbox
from agent.serve import _mark_stopped, _marked
from controller.gate.kernel_log import Severity, classify

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
    words = last_words(files, MARK.known)
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
    words = last_words({"dmesg": f"Oops#3 Part1\n{lines}"}, ())
    assert len(words) == 200
    assert words[-1].text == "line 999"


def test_the_gate_finds_the_panic_and_not_our_remark() -> None:
    log = obituary(last_words({"dmesg-a": PANIC_1}, ()))
    assert log.records[0].sequence == FIRST_SEQUENCE
    assert log.records[0].text == "kernroll: this boot ended without a shutdown; the kernel kept 2 lines of its log"
    assert not classify([log.records[0].text])
    found = classify([record.text for record in log.records])
    assert found[0].severity is Severity.FATAL


def outbox(state: Path, boot_id: str) -> Outbox:
    return Outbox(host="host-1", boot_id=boot_id, spool=ReportSpool(state / "spool"), now=lambda: 1.0)


def test_it_is_told_once_and_not_after_an_orderly_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "pstore"
    store.mkdir()
    monkeypatch.setattr("agent.serve.kept_logs", lambda: kept_logs((store,)))
    file = BootMarkFile(tmp_path / "boot.json")
    (store / "dmesg-before").write_text(PANIC_2)
    first = outbox(tmp_path, "boot-1")
    _marked(first, file)
    assert len(first.spool) == 0, "nothing is known of the time before"
    # Killed: the same boot goes on with another agent.
    _marked(outbox(tmp_path, "boot-1"), file)
    (store / "dmesg-ramoops-0").write_text(PANIC_1)
    second = outbox(tmp_path, "boot-2")
    mark = _marked(second, file)
    (entry,) = second.spool.queue.entries
    assert entry.report_id.startswith("host-1/boot-1/kernel-log/")
    assert file.load() == mark
    assert mark.known == (str(store / "dmesg-before"), str(store / "dmesg-ramoops-0"))
    second.spool.acknowledge(frozenset({entry.report_id}))
    _mark_stopped(file, mark)
    third = outbox(tmp_path, "boot-3")
    _marked(third, file)
    assert len(third.spool) == 0


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot_id": 1}'])
def test_a_mark_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "boot.json").write_text(content)
    assert BootMarkFile(tmp_path / "boot.json").load() is None
