"""The command book on disk."""

from collections.abc import Iterable
from pathlib import Path

import structlog

from agent.adapters.state.durable import Journal
from agent.adapters.state.state_files import check_layout, kept_aside, read_regular, record_of, set_aside
from agent.domain.session.commands import (
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
from agent.domain.tagged import Tagged, Unreadable

_KINDS: Tagged[Record] = Tagged(
    {
        "epoch": EpochSeen,
        "accepted": Accepted,
        "run_begun": RunBegun,
        "run_ended": RunEnded,
        "cleaning_up": CleaningUp,
        "finished": Finished,
    }
)
# Records appended before the file is condensed.
_CONDENSE_AFTER = 5000
_MOST_BYTES = 64 << 20

log = structlog.get_logger(__name__)


class CommandJournal:
    """Holds the book and writes every record before it counts."""

    def __init__(self, path: Path) -> None:
        """Read the book; what is readable of a damaged one counts. Raises NewerState, RigError."""
        self._path = path
        self._journal = Journal(path)
        self.book = CommandBook()
        # Folded, and not written yet.
        self._owed: tuple[Record, ...] = ()
        if wrong := self._read():
            set_aside(path, wrong)
        self._condense()

    @property
    def doubt(self) -> str:
        """Say why no command can be told from one that was carried out before; empty when they can."""
        aside = kept_aside(self._path)
        if not aside:
            return ""
        return (
            f"which commands this host was given before is not known: {', '.join(aside)} cannot be read; make sure "
            "that no command is wanted twice, then remove it"
        )

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

    def _read(self) -> str:
        """Fold what is on disk into the book; return what is wrong with it, empty when nothing is."""
        try:
            lines, wrong = Journal.parse(read_regular(self._path, most_bytes=_MOST_BYTES) or b"")
        except Unreadable as error:
            return str(error)
        for line in lines:
            try:
                check_layout(self._path, line)
                self.book = apply(self.book, record_of(self._path, _KINDS, line))
            except Unreadable as error:
                wrong = wrong or str(error)
        return wrong

    def _append(self, records: tuple[Record, ...]) -> None:
        self._journal.append(_KINDS.plain(record) for record in (*self._owed, *records))
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
            self._journal.rewrite(_KINDS.plain(record) for record in condense(self.book))
        except OSError as error:
            # The longer journal says the same.
            log.error("journal_not_condensed", error=str(error))
