"""The command book on disk."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from agent.adapters.durable import Journal
from agent.domain.commands import (
    Accepted,
    CleaningUp,
    CommandBook,
    EpochSeen,
    Finished,
    Record,
    RunBegun,
    RunEnded,
    apply,
    condense,
)

_KINDS: dict[str, type[Record]] = {
    "epoch": EpochSeen,
    "accepted": Accepted,
    "run_begun": RunBegun,
    "run_ended": RunEnded,
    "cleaning_up": CleaningUp,
    "finished": Finished,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
# Records appended before the file is condensed.
_CONDENSE_AFTER = 5000

log = structlog.get_logger(__name__)


class CommandJournal:
    """Holds the book and writes every record before it counts."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self.book = CommandBook()
        # Folded, and not written yet.
        self._owed: tuple[Record, ...] = ()
        for line in self._journal.read():
            self.book = apply(self.book, _decode(line))
        self._condense()

    def write(self, *records: Record) -> None:
        """Make the records durable, then fold them into the book. Raises OSError, and then nothing has changed."""
        # With nothing new to write, what is owed can wait for a disk that takes it.
        if records:
            self._append(records)
        self._fold(records)

    def note(self, *records: Record, durable: bool = True) -> None:
        """Fold the records even when the disk does not take them: for what has happened already.

        Not `durable` is what rests on a report that is not on disk yet: it is written with the records that follow, so
        that a process that dies before is told as one that had not come so far.
        """
        self._owed += records
        self._fold(records)
        if durable:
            self.catch_up()

    def catch_up(self) -> None:
        """Write what has been noted and not written yet, if the disk takes it."""
        try:
            self._append(())
        except OSError as error:
            log.error("journal_write_failed", error=str(error))

    def _append(self, records: tuple[Record, ...]) -> None:
        self._journal.append(_encode(record) for record in (*self._owed, *records))
        self._owed = ()

    def _fold(self, records: Iterable[Record]) -> None:
        for record in records:
            self.book = apply(self.book, record)
            self._appended += 1
        # What is owed is in the book already, and must not come to disk before its time.
        if self._appended > _CONDENSE_AFTER and not self._owed:
            self._condense()

    def _condense(self) -> None:
        self._appended = 0
        try:
            self._journal.rewrite(_encode(record) for record in condense(self.book))
        except OSError as error:
            # The longer journal says the same.
            log.error("journal_not_condensed", error=str(error))


def _encode(record: Record) -> dict[str, Any]:
    return {"kind": _NAMES[type(record)], **asdict(record)}


def _decode(line: dict[str, Any]) -> Record:
    fields = dict(line)
    return _KINDS[fields.pop("kind")](**fields)
