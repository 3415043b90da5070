"""A log that is not what was written: noticed when it is loaded, with the record named, and never mended silently."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from controller.adapters.store import tables
from controller.adapters.store.sql import SqlStore, sqlite_store
from controller.domain.errors import KernrollError, Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.record.effects import RebootHost
from controller.domain.record.events import Event, HostHeard, HostSilent
from controller.services.records import Commit

Edit = Callable[..., None]


def commit(stream: str, revision: int, *events: Event) -> Commit:
    return Commit(stream=stream, expected_revision=revision, events=events)


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[Path]:
    """A database with six events of two streams."""
    store = sqlite_store(tmp_path / "kernroll.db")
    await store.open()
    for number in range(3):
        await store.commit(commit("attempt/u/g", number, HostSilent(at=float(number))))
        heard = HostHeard(at=float(number), boot_id=f"b{number}", release="7.0")
        await store.commit(commit("attempt/u/h", number, heard))
    await store.save_host(
        Host(
            name="h",
            architecture="arm64",
            platform="vm",
            page_size_bytes=4096,
            memory_bytes=1,
            cpu_count=1,
            kernel_release="7.0",
            kernel_version="#1",
            boot_id="b",
        )
    )
    effect = RebootHost(command_id="u/h/1", host="h")
    await store.commit(
        Commit(stream="attempt/u/h", expected_revision=3, events=(HostSilent(at=9.0),), effects=(effect,))
    )
    await store.close()
    yield tmp_path / "kernroll.db"


def edit(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


async def loaded(path: Path) -> tuple[int, ...]:
    """Return the numbers of the events."""
    store = sqlite_store(path)
    try:
        await store.open()
        return tuple(one.number for one in (await store.load()).events)
    finally:
        await store.close()


async def test_an_untouched_log_is_loaded(path: Path) -> None:
    assert await loaded(path) == (1, 2, 3, 4, 5, 6, 7)
    assert await loaded(path) == (1, 2, 3, 4, 5, 6, 7)


SWAP = "UPDATE events SET {0} = (SELECT {0} FROM events AS other WHERE other.number = 8 - events.number) \
WHERE number IN (2, 6)"
DAMAGES = {
    "a hole": (("DELETE FROM events WHERE number = 4",), "event 4 is missing"),
    "the first is gone": (("DELETE FROM events WHERE number = 1",), "event 1 is missing"),
    "the last is gone": (("DELETE FROM events WHERE number = 7",), "event 7 is missing"),
    "all are gone": (("DELETE FROM events",), "event 1 is missing"),
    "a hole that was closed": (
        ("DELETE FROM events WHERE number = 7", "UPDATE log_head SET number = 6"),
        "event 6 at the end of the log is not what was written last",
    ),
    "a revision is left out": (
        ("UPDATE events SET revision = 9 WHERE number = 4",),
        r"event 4 \(attempt/u/h, HostHeard\): revision 9 follows revision 1",
    ),
    "two payloads are swapped": ((SWAP.format("payload"),), r"event 2 \(attempt/u/h, HostHeard\) is not what was"),
    "a payload is altered": (
        ("UPDATE events SET payload = replace(payload, '7.0', '7.9') WHERE number = 4",),
        r"event 4 \(attempt/u/h, HostHeard\) is not what was written",
    ),
    "a time is altered": (("UPDATE events SET at = 99 WHERE number = 4",), "event 4 .* is not what was written"),
    "a digest is altered": (("UPDATE events SET digest = 'x' WHERE number = 3",), "event 3 .* is not what was"),
    "another one behind the end": (
        ("INSERT INTO events SELECT 8, stream, revision + 1, kind, at, payload, digest FROM events WHERE number = 7",),
        "event 8",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_log_that_is_not_what_was_written_is_refused(path: Path, damage: str) -> None:
    statements, words = DAMAGES[damage]
    edit(path, *statements)
    with pytest.raises(Permanent, match=words) as refused:
        await loaded(path)
    assert "restore" in str(refused.value)
    assert "backup" in str(refused.value)
    # It was not mended silently either.
    with pytest.raises(Permanent, match=words):
        await loaded(path)


UNREADABLE = {
    "event": ("UPDATE events SET payload = 'x' WHERE number = 4", r"event 4 \(attempt/u/h, HostHeard\)"),
    "kind": ("UPDATE events SET kind = 'Later' WHERE number = 4", r"event 4 \(attempt/u/h, Later\)"),
    "host": ("UPDATE hosts SET payload = '{}'", "host h"),
    "effect": ("UPDATE effects SET payload = '[1'", "effect u/h/1"),
    "effect's kind": ("UPDATE effects SET kind = 'Later'", "effect u/h/1.*newer"),
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_record_that_cannot_be_read_is_named(path: Path, what: str) -> None:
    statement, words = UNREADABLE[what]
    edit(path, statement)
    with pytest.raises(Permanent, match=words):
        await loaded(path)


@pytest.mark.parametrize("which", ["events", "fleet_events"])
async def test_a_record_that_is_damaged_while_the_controller_runs_is_named(path: Path, which: str) -> None:
    store = sqlite_store(path)
    await store.open()
    edit(path, "UPDATE events SET payload = 'x', stream = 'fleet' WHERE number = 2")
    edit(path, "UPDATE events SET payload = 'x' WHERE number = 4")
    with pytest.raises(KernrollError, match=r"event [24] \("):
        await (store.events("u") if which == "events" else store.fleet_events(5))
    await store.close()


def left_by_a_kill(path: Path, into: Path, *, more: int) -> None:
    """Copy a database as a kill leaves it, with writes that are in its write-ahead log alone; a backup lies over it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute(f"VACUUM INTO '{into}/backup.db'")
        for number in range(more):
            connection.execute("INSERT INTO reports VALUES (?)", (f"{number}-{'x' * 500}",))
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            shutil.copy(path.parent / name, into / name)
    shutil.copy(into / "backup.db", into / path.name)


async def test_a_backup_beside_what_another_file_left_is_refused_before_anything_is_served(
    path: Path, tmp_path: Path
) -> None:
    into = tmp_path / "restored"
    await asyncio.to_thread(into.mkdir)
    left_by_a_kill(path, into, more=400)
    with pytest.raises(Permanent, match="is damaged or not a kernroll database") as refused:
        await loaded(into / path.name)
    for word in ("restore it from a backup", "-wal", "-shm"):
        assert word in str(refused.value)
    for name in ("-wal", "-shm"):
        await asyncio.to_thread(Path(f"{into / path.name}{name}").unlink)
    await asyncio.to_thread(shutil.copy, into / "backup.db", into / path.name)
    assert await loaded(into / path.name) == (1, 2, 3, 4, 5, 6, 7)


async def test_a_closed_store_says_so(path: Path) -> None:
    store = sqlite_store(path)
    await store.open()
    await store.close()
    with pytest.raises(Temporary, match="is closed"):
        await store.effect_done("u/h/1")
    await store.close()


def as_schema_3(path: Path) -> None:
    """Make the database what a former version left."""
    edit(
        path,
        "ALTER TABLE events DROP COLUMN digest",
        "DROP TABLE log_head",
        "UPDATE meta SET value = 3 WHERE name = 'schema_version'",
    )


async def test_a_former_schema_is_taken_over_once(path: Path) -> None:
    as_schema_3(path)
    assert await loaded(path) == (1, 2, 3, 4, 5, 6, 7)
    store = sqlite_store(path)
    await store.open()
    await store.commit(commit("attempt/u/h", 4, HostSilent(at=10.0)))
    await store.close()
    edit(path, "UPDATE events SET payload = replace(payload, '7.0', '7.9') WHERE number = 4")
    with pytest.raises(Permanent, match=r"event 4 .* is not what was written"):
        await loaded(path)


async def test_a_former_schema_with_a_hole_is_refused_and_left_alone(path: Path) -> None:
    as_schema_3(path)
    edit(path, "DELETE FROM events WHERE number = 4")
    for _ in range(2):
        with pytest.raises(Permanent, match="event 4 is missing"):
            await loaded(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == (3,)
    connection.close()


@pytest.mark.parametrize("version", [2, tables.SCHEMA_VERSION + 1])
async def test_another_schema_is_refused_with_both_numbers(path: Path, version: int) -> None:
    edit(path, f"UPDATE meta SET value = {version} WHERE name = 'schema_version'")
    with pytest.raises(Permanent, match=f"has schema {version}, this version needs {tables.SCHEMA_VERSION}"):
        await loaded(path)


async def test_a_database_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "kernroll.db").mkdir()
    store: SqlStore = sqlite_store(tmp_path / "kernroll.db")
    with pytest.raises(Permanent, match=r"kernroll\.db cannot be opened"):
        await store.open()
    await store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM log_head",
        "INSERT INTO log_head SELECT number + 1, digest FROM log_head",
        "UPDATE meta SET value = 'x' WHERE name = 'epoch'",
        "UPDATE meta SET value = -1 WHERE name = 'epoch'",
        "UPDATE meta SET value = 9223372036854775807 WHERE name = 'epoch'",
    ],
)
async def test_what_is_kept_about_the_log_is_damaged(path: Path, statement: str) -> None:
    edit(path, statement)
    with pytest.raises(Permanent, match=r"kernroll\.db: the (table log_head|epoch in).*restore the database"):
        await loaded(path)
