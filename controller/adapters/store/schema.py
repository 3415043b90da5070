"""Making the tables, and taking over what a former version left."""

from typing import Any

from sqlalchemy import Connection, Inspector, bindparam, insert, inspect, select, text, update

from controller.adapters.store import tables
from controller.adapters.store.chain import FIELDS, Head, unbroken
from controller.domain.errors import Permanent

# The newest schema without digests in its log.
_WITHOUT_DIGESTS = 3
_ROWS_AT_ONCE = 5000


def prepare(connection: Connection, where: str, *, may_create: bool) -> None:
    """Bring the database to this version's schema, in the caller's transaction. Raises Permanent, changing nothing."""
    found: Inspector = inspect(connection)
    version = None
    if found.has_table(tables.meta.name):
        version = connection.scalar(select(tables.meta.c.value).where(tables.meta.c.name == "schema_version"))
    if version is None:
        if not may_create:
            raise Permanent(
                f"{where} holds no events, no hosts and no tokens, but there is an authority beside it whose hosts are "
                "enrolled somewhere: restore the database from a backup; or begin with an empty one with "
                "--new-database: every rollout is forgotten then, and every host must enroll again"
            )
        tables.metadata.create_all(connection)
        connection.execute(insert(tables.meta).values(name="schema_version", value=tables.SCHEMA_VERSION))
        connection.execute(insert(tables.meta).values(name="epoch", value=0))
        connection.execute(insert(tables.log_head).values(_values(Head())))
    elif version == _WITHOUT_DIGESTS:
        _add_digests(connection, where)
    elif version != tables.SCHEMA_VERSION:
        raise Permanent(
            f"{where} has schema {version}, this version needs {tables.SCHEMA_VERSION}: "
            "use the matching kernroll, or another --state-dir"
        )


def _add_digests(connection: Connection, where: str) -> None:
    """Chain the events that a former version wrote."""
    connection.execute(text("ALTER TABLE events ADD COLUMN digest VARCHAR(64) DEFAULT '' NOT NULL"))
    tables.log_head.create(connection)
    columns = [tables.events.c[name] for name in FIELDS]
    head, batch = Head(), list[dict[str, Any]]()
    stored = connection.execute(select(*columns).order_by(tables.events.c.number)).all()
    for row, _ in unbroken(stored, where):
        batch.append({"of": row.number, "found": head.follow(row)})
        if len(batch) == _ROWS_AT_ONCE:
            _write(connection, batch)
            batch = []
    _write(connection, batch)
    connection.execute(insert(tables.log_head).values(_values(head)))
    current = update(tables.meta).where(tables.meta.c.name == "schema_version")
    connection.execute(current.values(value=tables.SCHEMA_VERSION))


def _write(connection: Connection, batch: list[dict[str, Any]]) -> None:
    if batch:
        which = update(tables.events).where(tables.events.c.number == bindparam("of"))
        connection.execute(which.values(digest=bindparam("found")), batch)


def _values(head: Head) -> dict[str, Any]:
    return {"number": head.number, "digest": head.digest}
