"""What the agent tells of a kernel log that it cannot read, and that call traces are told at any level."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from agent.adapters.host.kmsg import KernelLogPosition, KernelLogWatcher
from agent.adapters.state.spool import ReportSpool
from agent.domain.results import KernelLog, KernelRecord, kernel_log_report_id
from agent.domain.session.kernel_log import worth_reporting
from agent.resident.outbox import Outbox


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        (" try_to_unuse+0x2b1/0x5c0", True),
        ("RIP: 0010:swap_free_nr+0x5c/0x1b0", True),
        ("zram: Decompression failed! err=-22", True),
        ("usb 1-1: new high-speed USB device", False),
    ],
)
def test_call_traces_are_told_at_any_level(text: str, worth: bool) -> None:
    assert worth_reporting(KernelRecord(sequence=1, monotonic_us=1, level=6, text=text)) is worth


def test_a_log_that_cannot_be_read_any_more_is_told_once(tmp_path: Path) -> None:
    told: list[KernelLog] = []
    # A folder opens and cannot be read.
    descriptor = os.open(tmp_path, os.O_RDONLY)
    position = KernelLogPosition(tmp_path / "position.json", "b")
    watcher = KernelLogWatcher(descriptor, position=position, deliver=told.append)
    watcher.flush()
    watcher.flush()
    os.close(descriptor)
    assert told == [
        KernelLog(records=(), lost_records=0, unreadable="the kernel log cannot be read any more: Is a directory")
    ]


async def test_a_watcher_of_such_a_log_does_not_spin(tmp_path: Path) -> None:
    told: list[KernelLog] = []
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    watcher = KernelLogWatcher(
        reader.detach(), position=KernelLogPosition(tmp_path / "p.json", "b"), deliver=told.append
    )
    watcher._unreadable = "x"
    task = asyncio.create_task(watcher.watch())
    writer.send(b"4,0,0,-;x\n")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asyncio.get_running_loop().remove_reader(watcher._descriptor), "nobody waits for it any more"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    writer.close()


def test_what_was_read_and_told_nobody_is_not_lost_after_a_restart(tmp_path: Path) -> None:
    told: list[KernelLog] = []
    position = KernelLogPosition(tmp_path / "p.json", "b")
    for sequences in (range(5), range(3, 9)):
        reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader.setblocking(False)
        watcher = KernelLogWatcher(reader.detach(), position=position, deliver=told.append)
        for sequence in sequences:
            writer.send(f"6,{sequence},0,-;nothing\n".encode())
        watcher.flush()
        os.close(watcher._descriptor)
        writer.close()
    assert told == []
    assert position.load() == 8


def test_a_log_that_is_not_there_has_a_report_of_its_own(tmp_path: Path) -> None:
    outbox = Outbox(host="a", boot_id="b", spool=ReportSpool(tmp_path / "spool"), now=lambda: 1.0)
    nothing, unreadable = KernelLog(records=(), lost_records=0), KernelLog(records=(), lost_records=0, unreadable="x")
    assert kernel_log_report_id("a", "b", nothing) != kernel_log_report_id("a", "b", unreadable)
    outbox.report_kernel_log(unreadable)
    outbox.report_kernel_log(unreadable)
    assert len(outbox.spool) == 1
