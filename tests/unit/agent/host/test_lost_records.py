"""A hole in a kernel log is told however it came about, and whatever becomes of the agent in between."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.host.kmsg import KernelLogPosition, KernelLogWatcher
from agent.adapters.state.durable import replace_file
from agent.adapters.state.lost_records import LostRecords
from agent.adapters.state.spool import ReportSpool
from agent.adapters.wire.messages import report_from_bytes
from agent.domain.results import CommandOutcome, KernelLog, KernelRecord, OutcomeStatus
from agent.domain.session.losses import BootLosses, Losses
from agent.resident.outbox import Outbox

ROOM = 260


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


def started(root: Path, boot_id: str = "boot-1", *, limit_bytes: int = ROOM) -> Outbox:
    """Return the outbox of an agent that has just begun."""
    spool = ReportSpool(root / "spool", limit_bytes=limit_bytes)
    outbox = Outbox(host="host-1", boot_id=boot_id, spool=spool, now=lambda: 1000.0)
    outbox.begin()
    return outbox


def batch(sequence: int, *, lost: int = 0) -> KernelLog:
    record = KernelRecord(sequence=sequence, monotonic_us=1, level=4, text="y" * 80)
    return KernelLog(records=(record,), lost_records=lost)


def finish(outbox: Outbox, name: str = "c1", size: int = 300) -> None:
    """Report what takes the place of every kernel log batch."""
    outbox.report(f"host-1/{name}/outcome", name, CommandOutcome(status=OutcomeStatus.COMPLETED, detail="x" * size))


def tellings(outbox: Outbox) -> list[tuple[str, int]]:
    """Return boot and count of every report of losses alone that waits, in the order of sending."""
    found = []
    for entry in outbox.spool.queue.entries:
        content = outbox.spool.content(entry.number)
        report = None if content is None else report_from_bytes(content)
        if report is not None and report.HasField("kernel_log") and not report.kernel_log.records:
            found.append((report.boot_id, report.kernel_log.lost_records))
    return found


def acknowledge(outbox: Outbox) -> None:
    outbox.spool.acknowledge(frozenset(entry.report_id for entry in outbox.spool.queue.entries))


def test_what_was_dropped_is_told_though_no_further_line_comes(tmp_path: Path) -> None:
    outbox = started(tmp_path)
    outbox.report_kernel_log(batch(1))
    finish(outbox)
    assert tellings(outbox) == [("boot-1", 1)]
    assert [each.lost_records for each in outbox.spool.queue.entries] == [1, 0], "before what took its place"


def test_it_is_told_once_and_not_again_after_a_restart(tmp_path: Path) -> None:
    outbox = started(tmp_path)
    outbox.report_kernel_log(batch(1))
    finish(outbox)
    outbox = started(tmp_path)
    assert tellings(outbox) == [("boot-1", 1)]
    acknowledge(outbox)
    assert tellings(started(tmp_path)) == []


def test_a_dropped_batch_takes_the_losses_along_that_it_told_of(tmp_path: Path) -> None:
    outbox = started(tmp_path)
    outbox.report_kernel_log(batch(1, lost=1000))
    finish(outbox)
    assert tellings(outbox) == [("boot-1", 1001)]


def test_however_much_is_lost_one_report_of_a_boot_waits(tmp_path: Path) -> None:
    outbox = started(tmp_path)
    for sequence in range(50):
        outbox.report_kernel_log(batch(sequence))
        outbox.report_kernel_log(KernelLog(records=(), lost_records=3))
    assert len(tellings(outbox)) == 1
    told = tellings(outbox)[0][1]
    kept = sum(1 for entry in outbox.spool.queue.entries if entry.droppable)
    acknowledge(outbox)
    outbox.begin()
    assert tellings(outbox) == [("boot-1", 50 * 4 - kept - told)]


def test_a_telling_takes_nobodys_place_and_gives_way_to_nobody(tmp_path: Path) -> None:
    outbox = started(tmp_path)
    outbox.report_kernel_log(batch(1))
    outbox.report_kernel_log(KernelLog(records=(), lost_records=7))
    assert [entry.droppable for entry in outbox.spool.queue.entries] == [True, False]
    for number in range(3):
        finish(outbox, f"c{number}")
    assert tellings(outbox) == [("boot-1", 7)]


def test_what_was_lost_of_a_boot_is_told_of_that_boot(tmp_path: Path) -> None:
    outbox = started(tmp_path, "boot-new")
    outbox.report_kernel_log(batch(1))
    outbox = started(tmp_path, "boot-old")
    finish(outbox)
    assert tellings(outbox) == [("boot-new", 1)]


@pytest.mark.parametrize("damage", [b"\xff\xff", b""])
def test_a_damaged_report_may_have_been_of_any_boot_that_is_known(tmp_path: Path, damage: bytes) -> None:
    started(tmp_path, "boot-new").report_kernel_log(batch(1))
    (tmp_path / "spool/000000000001.report").write_bytes(damage)
    assert tellings(started(tmp_path, "boot-old")) == [("boot-new", 1), ("boot-old", 1)]


def test_a_batch_that_is_damaged_when_it_is_to_be_sent_is_a_hole(tmp_path: Path) -> None:
    outbox = started(tmp_path)
    outbox.report_kernel_log(batch(1, lost=4))
    (tmp_path / "spool/000000000001.report").write_bytes(b"\xff\xff")
    assert outbox.spool.report(1) is None
    assert len(outbox.spool) == 0
    outbox.begin()
    assert tellings(outbox) == [("boot-1", 5)]


def test_a_damaged_result_is_no_hole_and_waits(tmp_path: Path) -> None:
    outbox = started(tmp_path, limit_bytes=1000)
    finish(outbox)
    (tmp_path / "spool/000000000001.report").write_bytes(b"\xff\xff")
    assert outbox.spool.report(1) is None
    outbox.begin()
    assert len(outbox.spool) == 1
    assert tellings(outbox) == []


def test_a_batch_that_the_controller_never_takes_is_a_hole(tmp_path: Path) -> None:
    outbox = started(tmp_path, limit_bytes=1000)
    outbox.report_kernel_log(batch(1))
    for _ in range(3):
        outbox.spool.blame([1], 20)
    assert len(outbox.spool) == 0
    outbox.begin()
    assert tellings(outbox) == [("boot-1", 1)]


def test_what_a_full_disk_does_not_take_of_the_count_is_kept_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = LostRecords(tmp_path / "lost.json")

    def full(path: Path, content: bytes, *, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("agent.adapters.state.lost_records.replace_file", full)
        lost.count({"boot-1": 7})
        assert not lost.durable
    lost.persist()
    assert lost.durable
    assert LostRecords(tmp_path / "lost.json").losses == Losses(boots=(BootLosses(boot_id="boot-1", lost=7),))


def test_the_count_is_settled_only_when_the_report_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = started(tmp_path)

    def full(path: Path, content: bytes, *, mode: int) -> None:
        if path.suffix == ".report":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(path, content, mode=mode)

    monkeypatch.setattr("agent.adapters.state.spool.replace_file", full)
    outbox.report_kernel_log(KernelLog(records=(), lost_records=7))
    assert tellings(outbox) == [("boot-1", 7)], "sent from memory"
    monkeypatch.undo()
    # The agent is killed before the disk has room again.
    assert tellings(started(tmp_path)) == [("boot-1", 7)]


def test_lines_that_are_in_memory_alone_are_read_again_after_a_crash(tmp_path: Path) -> None:
    told: list[KernelLog] = []
    position = KernelLogPosition(tmp_path / "position.json", "boot-1")
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader.setblocking(False)
    on_disk = False
    watcher = KernelLogWatcher(reader.detach(), position=position, deliver=told.append, durable=lambda: on_disk)
    writer.send(b"4,0,0,-;a fault\n")
    watcher.flush()
    assert len(told) == 1
    assert position.load() == -1
    on_disk = True
    watcher.flush()
    assert position.load() == 0
    os.close(watcher._descriptor)
    writer.close()


def test_boots_that_have_nothing_to_tell_are_forgotten_and_no_others() -> None:
    losses = Losses().counted({"lossy": 1})
    for number in range(30):
        losses = losses.begun(f"boot-{number}")
    assert [each.boot_id for each in losses.boots] == ["lossy", *(f"boot-{number}" for number in range(23, 30))]
    assert losses.begun("boot-29") == losses


def test_a_spoiled_count_stays_one_that_can_be_told() -> None:
    losses = Losses().counted({"a": 2**64 - 1, "": 2**64 - 1}).begun("a")
    assert [each.lost for each in losses.boots] == [2**63 - 1]
