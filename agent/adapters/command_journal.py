"""The command book on disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.adapters.durable import Journal
from agent.domain.commands import (
    Accepted,
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
    "finished": Finished,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
# Records appended before the file is condensed.
_CONDENSE_AFTER = 5000


class CommandJournal:
    """Holds the book and writes every record before it counts."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self.book = CommandBook()
        for line in self._journal.read():
            self.book = apply(self.book, _decode(line))
        self._condense()

    def write(self, *records: Record) -> None:
        """Make the records durable, then fold them into the book."""
        self._journal.append(_encode(record) for record in records)
        for record in records:
            self.book = apply(self.book, record)
        self._appended += len(records)
        if self._appended > _CONDENSE_AFTER:
            self._condense()

    def _condense(self) -> None:
        self._journal.rewrite(_encode(record) for record in condense(self.book))
        self._appended = 0


def _encode(record: Record) -> dict[str, Any]:
    return {"kind": _NAMES[type(record)], **asdict(record)}


def _decode(line: dict[str, Any]) -> Record:
    fields = dict(line)
    return _KINDS[fields.pop("kind")](**fields)
