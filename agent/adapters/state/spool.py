"""The reports on disk: one file each, named by number, removed when acknowledged."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from agent.adapters.state.durable import remove_file, replace_file
from agent.adapters.state.lost_records import LostRecords
from agent.adapters.state.state_files import read_regular, set_aside
from agent.adapters.wire import messages
from agent.domain.errors import RigError
from agent.domain.results import KernelLog, Report
from agent.domain.session import spool
from agent.domain.tagged import Unreadable
from protos.kernroll.v1 import agent_pb2

DEFAULT_LIMIT_BYTES = 16 << 20
# Ours are far smaller, and a controller takes no larger ones.
_MOST_REPORT_BYTES = 8 << 20
_NAME = re.compile(r"([0-9]{12})\.report")
# Against a report that is alone on its way: five ends that speak of it, or twenty that may have another cause.
_MOST_BLAME = 20
_REFUSED_KEPT = 8
# A write that a crash cut short.
_UNFINISHED = re.compile(r"\.[0-9]{12}\.report\.new")

log = structlog.get_logger(__name__)


class ReportSpool:
    """Keeps reports until the controller holds them. What gives way when it is full: agent.domain.session.spool."""

    def __init__(self, directory: Path, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        """Read what waits. Raises OSError, NewerState, and RigError for what is in the way and cannot be moved."""
        self._directory = directory
        if os.path.lexists(directory) and (directory.is_symlink() or not directory.is_dir()):
            set_aside(directory, "it is no directory")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Kernel log records that went without having been told, and will not be: the controller must know of the hole.
        self.lost = LostRecords(directory / "lost-records.json")
        entries = tuple(self._read())
        next_number = entries[-1].number + 1 if entries else 1
        self.queue = spool.Queue(limit_bytes=limit_bytes, next_number=next_number, entries=entries)
        # Reports that a full or failing disk has not taken yet, oldest first; they are sent, but a crash loses them.
        self._undurable: dict[int, bytes] = {}
        # After a session that was ended over a report: they go one by one, so that it shows which.
        self.careful = False
        # By number: how much speaks against a report, and how often something of it was left out.
        self._blamed: dict[int, int] = {}
        self._reduced: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.queue.entries)

    @property
    def durable(self) -> bool:
        """Return whether every report that waits is on disk, and the count of what is lost."""
        return not self._undurable and self.lost.durable

    def make_room(self, report: Report) -> bool:
        """Drop what has to give way to this report, which `add` takes then; return whether anything had to."""
        if self.queue.holds(report.report_id):
            return False
        entry, _ = self._entry(report)
        gone = tuple(each for each in spool.admit(self.queue, entry).dropped if each != entry)
        self._drop(gone)
        return bool(gone)

    def add(self, report: Report) -> bool:
        """Make the report durable. False when it waits already: the first telling stands."""
        self.persist()
        if self.queue.holds(report.report_id):
            return False
        entry, content = self._entry(report)
        admission = spool.admit(self.queue, entry)
        if entry not in admission.dropped and (problem := self._write(entry.number, content)):
            self._undurable[entry.number] = content
            log.error("spool_write_failed", report_id=entry.report_id, error=problem)
        self.queue = replace(self.queue, entries=(*self.queue.entries, entry), next_number=entry.number + 1)
        self._drop(admission.dropped)
        return True

    def _entry(self, report: Report) -> tuple[spool.Entry, bytes]:
        content = messages.report_to_bytes(report)
        body = report.body
        lost = (len(body.records), body.lost_records) if isinstance(body, KernelLog) else None
        return _entry_of(self.queue.next_number, report.report_id, report.boot_id, len(content), lost), content

    def _drop(self, entries: tuple[spool.Entry, ...]) -> None:
        """Let kernel log batches go, counted before their files are removed: a crash in between forgets nothing."""
        if not entries:
            return
        lost = spool.lost_by_boot(entries)
        log.warning("spool_full", dropped_kernel_log_records=sum(lost.values()))
        self.lost.count(lost)
        self.queue = spool.without(self.queue, entries)
        self._remove(entries)
        # There may be room for it now.
        self.lost.persist()

    def persist(self) -> None:
        """Try once more to write what the disk has not taken; to be called now and then."""
        self.lost.persist()
        if not self._undurable:
            return
        tried = self._undurable
        self._undurable = {number: content for number, content in tried.items() if self._write(number, content)}
        log.warning("spool_tried_again", reports=len(tried), still_in_memory=len(self._undurable))

    def acknowledge(self, report_ids: frozenset[str]) -> bool:
        """Forget what the controller holds durably; return whether any of it waited."""
        admission = spool.acknowledge(self.queue, report_ids)
        self.queue = admission.queue
        self._remove(admission.dropped)
        self.careful &= bool(self.queue.entries)
        return bool(admission.dropped)

    def waits(self, number: int) -> bool:
        """Return whether this report is not acknowledged yet."""
        return any(entry.number == number for entry in self.queue.entries)

    def blame(self, numbers: Sequence[int], weight: int) -> None:
        """Note that a session was ended while these were on their way; one that never gets through is made smaller."""
        if not numbers or not weight:
            return
        self.careful = True
        if len(numbers) > 1:
            return
        number = numbers[0]
        self._blamed[number] = self._blamed.get(number, 0) + weight
        if self._blamed[number] >= _MOST_BLAME:
            self._reduce(number)

    def _reduce(self, number: int) -> None:
        step = self._reduced[number] = self._reduced.get(number, 0) + 1
        del self._blamed[number]
        entry = next(each for each in self.queue.entries if each.number == number)
        content = self.content(number)
        why = f"the controller did not take this report of {entry.size_bytes} bytes"
        smaller = None if content is None else messages.reduced(content, step, why)
        log.error("report_reduced", report_id=entry.report_id, size_bytes=entry.size_bytes, given_up=smaller is None)
        if content is not None and step == 1:
            # All of it stays here, for whoever wants to know.
            with suppress(OSError):
                for former in sorted(self._directory.glob("*.refused"))[: 1 - _REFUSED_KEPT]:
                    former.unlink()
                replace_file(self._directory / f"{number:012d}.refused", content, mode=0o600)
        if smaller is None:
            self.lost.count(spool.lost_by_boot((entry,)))
            self.acknowledge(frozenset({entry.report_id}))
            return
        self.queue = spool.resize(self.queue, number, len(smaller))
        if problem := self._write(number, smaller):
            self._undurable[number] = smaller
            log.error("spool_write_failed", report_id=entry.report_id, error=problem)

    def report(self, number: int) -> agent_pb2.Report | None:
        """Return one report; None when it was acknowledged or dropped meanwhile, or is damaged.

        A damaged kernel log batch is given up and counted as lost; a damaged result waits for a person.
        """
        content = self.content(number)
        report = None if content is None else messages.report_from_bytes(content)
        entry = next((each for each in self.queue.entries if each.number == number), None)
        if report is None and entry is not None and entry.lost_records:
            self.lost.count(spool.lost_by_boot((entry,)))
            self.queue = spool.without(self.queue, (entry,))
            if os.path.lexists(self._path(number)):
                with suppress(RigError):
                    set_aside(self._path(number), "it is no report any more")
            self._remove((entry,))
            log.error("kernel_log_report_lost", report_id=entry.report_id, records=entry.lost_records)
        return report

    def content(self, number: int) -> bytes | None:
        """Return one report as it goes over the wire; None when it was acknowledged or dropped meanwhile."""
        if number in self._undurable:
            return self._undurable[number]
        try:
            return read_regular(self._path(number), most_bytes=_MOST_REPORT_BYTES)
        except Unreadable as error:
            log.error("spool_report_unreadable", file=self._path(number).name, why=str(error))
            return None

    def _write(self, number: int, content: bytes) -> str:
        """Write one report; return why the disk did not take it, empty when it did."""
        try:
            replace_file(self._path(number), content, mode=0o600)
        except OSError as error:
            return str(error)
        return ""

    def _remove(self, entries: tuple[spool.Entry, ...]) -> None:
        for entry in entries:
            for known in (self._undurable, self._blamed, self._reduced):
                known.pop(entry.number, None)
            try:
                remove_file(self._path(entry.number))
            except OSError as error:
                # Told once more after a restart; the controller knows it by its id.
                log.error("spool_report_not_removed", report_id=entry.report_id, error=str(error))

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012d}.report"

    def _read(self) -> list[spool.Entry]:
        entries = []
        for path in sorted(self._directory.iterdir()):
            name = _NAME.fullmatch(path.name)
            if not name:
                if _UNFINISHED.fullmatch(path.name) and path.is_file():
                    path.unlink()
                continue
            try:
                content = read_regular(path, most_bytes=_MOST_REPORT_BYTES) or b""
                report = messages.report_from_bytes(content)
                if report is None:
                    raise Unreadable("it is no report")
            except Unreadable as error:
                # It may have held lines of a kernel log. A person may still read in it what was measured.
                self.lost.count({"": 1})
                set_aside(path, str(error))
                continue
            told = report.kernel_log
            lost = (len(told.records), told.lost_records) if report.HasField("kernel_log") else None
            entries.append(_entry_of(int(name[1]), report.report_id, report.boot_id, len(content), lost))
        return entries


def _entry_of(
    number: int, report_id: str, boot_id: str, size_bytes: int, log_told: tuple[int, int] | None
) -> spool.Entry:
    """Return the entry of a report; of a kernel log batch it knows the records in it and those it tells to be lost."""
    return spool.Entry(
        number=number,
        report_id=report_id,
        size_bytes=size_bytes,
        boot_id=boot_id,
        lost_records=0 if log_told is None else max(1, sum(log_told)),
        droppable=log_told is not None and log_told[0] > 0,
    )
