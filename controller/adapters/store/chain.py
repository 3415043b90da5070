"""The chain through the event log: every event carries a digest over itself and the one before.

A hole, a swap or an altered record shows when the log is loaded. It is no protection against somebody who computes the
digests anew; it tells damage, a hand that slipped, and a restore that took only a part.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from controller.adapters.store.codec import decode_event, encode
from controller.domain.errors import Conflict, Permanent
from controller.domain.printable import printable
from controller.services.records import Commit, Logged

# What the first event continues.
BEGINNING = "0" * 64
# What a digest is made of, in the order of the table's columns.
FIELDS = ("number", "stream", "revision", "kind", "at", "payload")
_ADVICE = "restore the database from a backup; nothing was changed"


@dataclass(slots=True, kw_only=True)
class Head:
    """The newest event's number and digest; moves on while a transaction appends."""

    number: int = 0
    digest: str = BEGINNING

    def rows(self, commit: Commit) -> list[dict[str, Any]]:
        """Return the rows that continue the log with a commit's events."""
        rows = []
        for revision, event in enumerate(commit.events, start=commit.expected_revision + 1):
            fields = (self.number + 1, commit.stream, revision, type(event).__name__, event.at, encode(event))
            rows.append({**dict(zip(FIELDS, fields, strict=True)), "digest": self.follow(fields)})
        return rows

    def follow(self, fields: Sequence[Any]) -> str:
        """Take in one event, and return its digest."""
        self.number, self.digest = fields[0], linked(self.digest, fields)
        return self.digest


def linked(before: str, fields: Sequence[Any]) -> str:
    """Return the digest of an event with these fields that follows the one with the digest `before`."""
    number, stream, revision, kind, at, payload = fields
    # The payload, as it is stored, stands last: what is in it cannot be taken for another field.
    text = f"{before}\n{number}\n{stream}\n{revision}\n{kind}\n{at.hex()}\n{payload}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def checked(rows: Iterable[Any], head: Head, where: str) -> Iterator[Logged]:
    """Yield the whole log in its order; raises Permanent that names the first record that is not as it was written."""
    known = Head()
    for row, logged in unbroken(rows, where):
        if known.follow(row[:-1]) != row[-1]:
            raise Permanent(f"{where}: {named(row)} is not what was written, or what is before it: {_ADVICE}")
        yield logged
    if known.number < head.number:
        raise Permanent(f"{where}: event {known.number + 1} is missing, {head.number} were written: {_ADVICE}")
    if known != head:
        raise Permanent(f"{where}: event {known.number} at the end of the log is not what was written last: {_ADVICE}")


def unbroken(rows: Iterable[Any], where: str) -> Iterator[tuple[Any, Logged]]:
    """Yield rows with their events; raises Permanent for a hole in the numbers, or in the revisions of a stream."""
    revisions: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        found, stream, revision = row[:3]
        if found != number:
            raise Permanent(f"{where}: event {number} is missing, {found} follows {number - 1}: {_ADVICE}")
        before = revisions.get(stream, 0)
        if revision != before + 1:
            raise Permanent(f"{where}: {named(row)}: revision {revision} follows revision {before}: {_ADVICE}")
        revisions[stream] = revision
        yield row, logged_of(row, where)


def logged_of(row: Any, where: str) -> Logged:
    """Return one event of the log; raises Permanent that names it when it cannot be read."""
    number, stream, revision, kind, _, payload = row[: len(FIELDS)]
    try:
        return Logged(number=number, stream=stream, revision=revision, event=decode_event(kind, payload))
    except Permanent as error:
        raise Permanent(f"{where}: {named(row)} cannot be read: {error}") from error


def named(row: Any) -> str:
    """Name a record in a message."""
    return f"event {row.number} ({printable(row.stream)}, {printable(row.kind)})"


def moved_on(commit: Commit) -> Conflict:
    """Say that somebody else has appended to the stream."""
    return Conflict(f"{commit.stream} has moved on from revision {commit.expected_revision}")
