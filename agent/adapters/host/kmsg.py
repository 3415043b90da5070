"""The kernel log, read from the start of the boot as the kernel writes it."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from agent.adapters.state.durable import replace_file
from agent.adapters.state.state_files import load_json
from agent.domain.results import KernelLog, KernelRecord
from agent.domain.session.kernel_log import gap, parse_record, sequence_of, worth_reporting
from agent.domain.tagged import number_of, text_of

log = structlog.get_logger(__name__)

# Records that come together travel together.
_FLUSH_S = 1.0
_BATCH_RECORDS = 200
# How old the position on disk may become while nothing is worth telling.
_SAVE_S = 60.0
# The kernel gives one record a read and refuses a smaller buffer than its longest.
_READ_BYTES = 16384


class KernelLogPosition:
    """The last record of this boot that is in the spool, on disk."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id

    def load(self) -> int:
        """Return the sequence number; -1 when nothing of this boot was spooled yet, or it cannot be known.

        Then the records of this boot are told again; a controller knows them by their numbers. Raises NewerState.
        """
        saved = load_json(self._path, lambda told: (text_of(told["boot_id"]), number_of(told["sequence"])))
        return saved[1] if saved is not None and saved[0] == self._boot_id else -1

    def save(self, sequence: int) -> None:
        """Make the position durable."""
        try:
            replace_file(self._path, json.dumps({"boot_id": self._boot_id, "sequence": sequence}).encode())
        except OSError as error:
            # After a restart the records since are told again, in another batch; the controller sees their numbers.
            log.error("kernel_log_position_not_saved", error=str(error))


class KernelLogWatcher:
    """Reads records and delivers those worth reporting in batches."""

    def __init__(
        self,
        descriptor: int,
        *,
        position: KernelLogPosition,
        deliver: Callable[[KernelLog], None],
        durable: Callable[[], bool] = lambda: True,
    ) -> None:
        """Begin after the saved position, which never passes what `durable` says is delivered and not on disk yet."""
        self._descriptor = descriptor
        self._position = position
        self._deliver = deliver
        self._durable = durable
        self._last_sequence = position.load()
        self._saved = self._last_sequence
        self._pending: list[KernelRecord] = []
        self._lost = 0
        self._unreadable = ""
        self._news = asyncio.Event()

    async def watch(self) -> None:
        """Read for ever; closes the descriptor when cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._descriptor, self._on_readable)
        try:
            while not self._unreadable:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SAVE_S):
                        await self._news.wait()
                        await asyncio.sleep(_FLUSH_S)
                self._news.clear()
                self.flush()
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._descriptor)
            self.flush()
            os.close(self._descriptor)

    def flush(self) -> None:
        """Read what is there now and deliver it; before a result is reported, so that its warnings come first."""
        self._read()
        while self._pending or self._lost:
            batch, self._pending = self._pending[:_BATCH_RECORDS], self._pending[_BATCH_RECORDS:]
            lost, self._lost = self._lost, 0
            self._deliver(KernelLog(records=tuple(batch), lost_records=lost))
            self._save(batch[-1].sequence if self._pending else self._last_sequence)
        # What was read and told nobody counts as read too: after a restart it must not look lost.
        self._save(self._last_sequence)

    def _save(self, sequence: int) -> None:
        # What is in memory alone a crash takes: the next agent must find it in the kernel's log once more.
        if sequence != self._saved and self._durable():
            self._position.save(sequence)
            self._saved = sequence

    def _on_readable(self) -> None:
        self._read()
        if self._unreadable:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        if self._pending or self._lost:
            self._news.set()

    def _read(self) -> None:
        while not self._unreadable:
            try:
                raw = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EPIPE:
                    # Overwritten meanwhile; the next read continues at the oldest record, and the gap counts the rest.
                    continue
                self._unreadable = f"the kernel log cannot be read any more: {error.strerror}"
                log.error("kernel_log_unreadable", error=error.strerror, effect="kernel failures go unreported")
                self._deliver(KernelLog(records=(), lost_records=0, unreadable=self._unreadable))
                self._news.set()
                return
            if not raw:
                return
            self._take(raw)

    def _take(self, raw: bytes) -> None:
        sequence = sequence_of(raw)
        if sequence is None or sequence <= self._last_sequence:
            return
        self._lost += gap(self._last_sequence, sequence)
        self._last_sequence = sequence
        record = parse_record(raw)
        if record is not None and worth_reporting(record):
            self._pending.append(record)


def open_kernel_log(path: Path = Path("/dev/kmsg")) -> int | None:
    """Open the kernel log at its oldest record; None, with a warning, when this process may not read it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        log.warning(
            "kernel_log_unreadable", path=str(path), error=error.strerror, effect="kernel failures go unreported"
        )
        return None
