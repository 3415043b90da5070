"""What a full disk does not take is kept in memory, sent from there, written late, and never taken for safe."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_host import FakeProcess
from fake_kernel import DEVICE, FakeKernel
from structlog.testing import capture_logs

from agent.adapters.host.boot_program import BootProgram
from agent.adapters.state.command_journal import CommandJournal
from agent.adapters.state.durable import replace_file
from agent.adapters.state.spool import ReportSpool
from agent.adapters.wire.messages import report_from_bytes
from agent.domain.host.facts import HostFacts
from agent.domain.orders.orders import SwapMountOrder
from agent.domain.orders.swap_source import SourceKind, SwapSource
from agent.domain.results import CommandOutcome, OutcomeStatus, Report, RunStatus
from agent.domain.session.commands import Accepted, Finished, RunWorkload, Start
from agent.domain.session.recovery import interrupted
from agent.locks import Lock
from agent.resident.executor import Executor
from agent.resident.outbox import Outbox
from agent.resident.resident import Parts, Resident

ORDER = SwapMountOrder(swap=SwapSource(kind=SourceKind.BLOCK_DEVICE, path=DEVICE))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Disk:
    """The spool's disk, which can be full."""

    def __init__(self) -> None:
        self.full = False

    def replace_file(self, path: Path, content: bytes, *, mode: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_file(path, content, mode=mode)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr("agent.adapters.state.spool.replace_file", disk.replace_file)
    return disk


def outcome(number: int) -> Report:
    body = CommandOutcome(status=OutcomeStatus.COMPLETED)
    return Report(report_id=f"r{number}", command_id=f"c{number}", boot_id="boot-1", at=1000.5, body=body)


def test_what_a_full_disk_refused_is_written_with_the_next_report_that_finds_room(tmp_path: Path, disk: Disk) -> None:
    spool = ReportSpool(tmp_path)
    disk.full = True
    spool.add(outcome(1))
    spool.add(outcome(2))
    assert not spool.durable
    assert list(tmp_path.iterdir()) == []
    spool.acknowledge(frozenset({"r2"}))
    disk.full = False
    spool.add(outcome(3))
    assert spool.durable
    restarted = ReportSpool(tmp_path)
    assert [entry.report_id for entry in restarted.queue.entries] == ["r1", "r3"]
    assert restarted.content(1) == spool.content(1)


def test_half_a_file_does_not_take_the_room_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "report", b"x" * 100)
    assert list(tmp_path.iterdir()) == []


def resident_at(root: Path) -> tuple[Resident, Parts]:
    host = FakeProcess(FakeKernel(root / "host")).host()
    outbox = Outbox(host="h", boot_id="boot-1", spool=ReportSpool(root / "spool"), now=lambda: 1000.0)
    journal, lock = CommandJournal(root / "commands.journal"), Lock(root / "lock", complaint="taken")

    def facts() -> HostFacts:
        raise AssertionError("no session opens")

    parts = Parts(
        name="h",
        host=host,
        read_facts=facts,
        boot_program=BootProgram(status=root / "status.json", socket=root / "boot.sock"),
        journal=journal,
        outbox=outbox,
        executor=Executor(host=host, journal=journal, outbox=outbox, lock=lock),
        workload_lock=lock,
        connect=lambda number: pytest.fail("no session opens"),
        kernel_log=None,
        jitter=lambda: 0.5,
        backoff_limit_s=1.0,
    )
    return Resident(parts), parts


async def run_command(parts: Parts) -> None:
    accepted = Accepted(command_id="c1", workload="swap_mount", warmups=0, boot_id="boot-1", kernel_release="7.1.13")
    parts.journal.write(accepted)
    parts.executor.ready.set()
    workload = RunWorkload(repetitions=1, warmups=0, order=ORDER)
    parts.executor.start(Start(command_id="c1", timeout_s=60.0, workload=workload))
    await parts.executor.idle()


async def test_a_journal_on_disk_never_knows_more_than_the_spool(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "host").mkdir()
    resident, parts = resident_at(tmp_path)
    disk.full = True
    await run_command(parts)
    assert parts.journal.book.finished == {"c1": ""}, "this process knows"
    # What a process would read that came after a crash now: the run is lost, and is told as one that died.
    active = CommandJournal(tmp_path / "commands.journal").book.active
    assert active is not None
    run, ended = interrupted(active, boot_id="boot-1")
    assert run is not None
    assert (run.index, run.status, ended.status) == (0, RunStatus.DIED, OutcomeStatus.DIED)
    disk.full = False
    assert resident.heartbeat().heartbeat.spooled_reports == 2
    assert CommandJournal(tmp_path / "commands.journal").book.finished == {"c1": ""}
    contents = [report_from_bytes(path.read_bytes()) for path in sorted((tmp_path / "spool").iterdir())]
    assert [each.report_id for each in contents if each] == ["h/c1/run/0", "h/c1/outcome"]


async def test_with_room_on_the_disk_the_journal_waits_for_nothing(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "host").mkdir()
    _, parts = resident_at(tmp_path)
    await run_command(parts)
    assert CommandJournal(tmp_path / "commands.journal").book.finished == {"c1": ""}


def test_a_record_that_the_disk_refused_comes_before_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    path = tmp_path / "state/commands.journal"
    journal = CommandJournal(path)
    path.unlink()
    (tmp_path / "state").rmdir()
    journal.note(Finished(command_id="c1"))
    # Told once more, with nothing to write down, it is no error that the disk still takes nothing.
    journal.write()
    (tmp_path / "state").mkdir()
    journal.note(Finished(command_id="c2"))
    assert CommandJournal(path).book.finished == {"c1": "", "c2": ""}
