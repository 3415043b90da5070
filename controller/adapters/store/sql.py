"""The store port on a relational database.

SQLite by default: write-ahead log, full synchronisation, immediate transactions. A transaction is one step in a thread
of the store's own: from statement to statement it waits for nobody's turn on the event loop.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, Table, create_engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from controller.adapters.store import chain, enrollments, schema, statements, tables
from controller.adapters.store.chain import Head
from controller.adapters.store.codec import decode_effect, decode_host, encode
from controller.domain.errors import Conflict, Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.printable import printable
from controller.domain.record.effects import Effect
from controller.domain.record.fleet import HostForgotten
from controller.domain.record.names import FLEET_STREAM, attempt_stream, rollout_stream
from controller.gate.ledger import Boot, Judgement, Ledger
from controller.services import records
from controller.services.records import Commit, Enrolled, Loaded, Logged, TokenGrant

_T = TypeVar("_T")
# Events that are read at a time.
_PAGE = 200
# Times that a database is opened, epochs that are raised above what agents name included.
_MOST_OPENED = 1 << 54
# What SQLite says of a file that is not ours to write.
_NOT_OURS = re.compile("readonly|unable to open")
_ADVICE = (
    "restore it from a backup, and remove the files of its name with -wal and -shm beside it: they belong to what was "
    "there before"
)
# SQLite has one writer at a time: one connection, waited for in turn, instead of many that race for its lock.
_SQLITE_CONNECTIONS = 1


class SqlStore:
    """A Store on any database that SQLAlchemy speaks to."""

    def __init__(self, engine: Engine, where: str, connections: int, check: Callable[[], None] = lambda: None) -> None:
        """`connections` are used at a time; `check` raises Permanent for what is no use before one is made."""
        self._engine = engine
        self._check = check
        self._where = where
        self._epoch = 0
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="store")

    async def open(self, *, may_create: bool = True) -> int:
        """See Store.open."""
        self._epoch = await self._aside(lambda: self._opened(may_create=may_create))
        return self._epoch

    def _opened(self, *, may_create: bool) -> int:
        self._check()
        try:
            with self._transaction() as connection:
                schema.prepare(connection, where=self._where, may_create=may_create)
                epoch = (_meta(connection, "epoch", self._where) or 0) + 1
                _set_epoch(connection, epoch)
        except Temporary as error:
            if _NOT_OURS.search(str(error)):
                raise Permanent(
                    f"{self._where} cannot be opened for writing ({error}): check who owns it and the folder it is in"
                ) from error
            raise
        return epoch

    async def raise_epoch(self, above: int) -> int:
        """See Store.raise_epoch."""

        def raised(connection: Connection) -> None:
            if self._epoch <= above:
                _set_epoch(connection, above + 1)

        await self._writing(raised)
        self._epoch = max(self._epoch, above + 1)
        return self._epoch

    async def close(self) -> None:
        """See Store.close."""
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    async def load(self) -> Loaded:
        """See Store.load."""

        def loaded(connection: Connection) -> Loaded:
            rows = connection.execute(select(tables.events).order_by("number"))
            logged = tuple(chain.checked(rows, _head(connection, self._where), self._where))
            hosts = [decode_host(*row) for row in connection.execute(select(tables.hosts))]
            return Loaded(events=logged, hosts={host.name: host for host in hosts}, effects=_effects(connection))

        return await self._reading(loaded)

    async def commit(self, commit: Commit) -> bool:
        """See Store.commit."""
        return all(await self._writing(partial(self._write_all, [commit])))

    async def commit_all(self, commits: Sequence[Commit]) -> None:
        """See Store.commit_all."""
        await self._writing(partial(self._write_all, commits))

    def _write_all(self, commits: Sequence[Commit], connection: Connection) -> list[bool]:
        head = _head(connection, self._where)
        written = [_write(connection, commit, head) for commit in commits]
        _set_head(connection, head)
        return written

    async def effect_done(self, command_id: str) -> None:
        """See Store.effect_done."""
        await self._writing(lambda connection: connection.execute(statements.DROP_EFFECT, {"command_id": command_id}))

    async def outstanding(self) -> tuple[Effect, ...]:
        """See Store.outstanding."""
        return await self._reading(_effects)

    async def events(self, rollout_uid: str) -> tuple[Logged, ...]:
        """See Store.events."""
        stream = tables.events.c.stream
        own = stream == rollout_stream(rollout_uid)
        of_hosts = stream.startswith(attempt_stream(rollout_uid, ""), autoescape=True)
        found: list[Logged] = []
        number = 0
        # Page by page, and read where no commit waits for it: a log is as large as hosts made their evidence.
        while rows := await self._page((own | of_hosts) & (tables.events.c.number > number)):
            found += await asyncio.to_thread(self._read, rows)
            number = rows[-1].number
        return tuple(found)

    def _read(self, rows: Sequence[Any]) -> list[Logged]:
        return [chain.logged_of(row, self._where) for row in rows]

    async def _page(self, which: ColumnElement[bool]) -> Sequence[Any]:
        page = select(tables.events).where(which).order_by("number").limit(_PAGE)
        return await self._reading(lambda connection: connection.execute(page).all())

    async def fleet_events(self, most: int) -> tuple[Logged, ...]:
        """See Store.fleet_events."""
        own = select(tables.events).where(tables.events.c.stream == FLEET_STREAM)
        newest = own.order_by(tables.events.c.number.desc()).limit(most)
        rows = await self._reading(lambda connection: connection.execute(newest).all())
        return tuple(self._read(rows[::-1]))

    async def ledger(self, strata: Sequence[str]) -> Ledger:
        """See Store.ledger."""

        def known(connection: Connection) -> Ledger:
            boots: list[Boot] = []
            judgements: list[Judgement] = []
            for stratum in sorted(set(strata)):
                boots += [Boot(**row) for row in _newest(connection, tables.ledger_boots, _of_hosts(stratum))]
                own = tables.ledger_judgements.c.stratum == stratum
                judgements += [Judgement(**row) for row in _newest(connection, tables.ledger_judgements, own)]
            return Ledger(boots=tuple(boots), judgements=tuple(judgements))

        return await self._reading(known)

    async def save_host(self, host: Host) -> None:
        """See Store.save_host."""

        def saved(connection: Connection) -> None:
            connection.execute(statements.DROP_HOST, {"name": host.name})
            connection.execute(statements.ADD_HOST, {"name": host.name, "payload": encode(host)})

        await self._writing(saved)

    async def create_token(self, grant: TokenGrant) -> None:
        """See Store.create_token."""
        await self._writing(partial(enrollments.create_token, grant=grant))

    async def redeem_token(self, secret_digest: str, enrolled: Enrolled, now: float) -> None:
        """See Store.redeem_token."""
        await self._writing(partial(enrollments.redeem_token, secret_digest=secret_digest, enrolled=enrolled, now=now))

    async def renewed(self, enrolled: Enrolled) -> None:
        """See Store.renewed."""
        await self._writing(partial(enrollments.renewed, enrolled=enrolled))

    async def enrolled(self) -> tuple[Enrolled, ...]:
        """See Store.enrolled."""
        return await self._reading(enrollments.all_enrolled)

    async def _aside(self, act: Callable[[], _T]) -> _T:
        """Run `act` in a thread of the store, to its end even if the caller is cancelled meanwhile.

        A stream that breaks cancels what it does: what it wrote is either there or not, and nobody waits for its lock.
        """
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, act)
        except RuntimeError as error:
            raise Temporary(f"{self._where} is closed") from error
        return await asyncio.shield(running)

    async def _reading(self, act: Callable[[Connection], _T]) -> _T:
        """Run `act` in a transaction."""

        def whole() -> _T:
            with self._transaction() as connection:
                return act(connection)

        return await self._aside(whole)

    async def _writing(self, act: Callable[[Connection], _T]) -> _T:
        """Run `act` in a transaction that may write: nobody has taken over."""

        def fenced(connection: Connection) -> _T:
            self._fence(connection)
            return act(connection)

        return await self._reading(fenced)

    def _fence(self, connection: Connection) -> None:
        """Refuse to write once a newer controller has opened the store."""
        current = _meta(connection, "epoch", self._where)
        if current != self._epoch:
            raise Conflict(f"another controller has taken over {self._where} (epoch {current}, ours is {self._epoch})")

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise Temporary(f"{self._where} cannot be used: {error.orig}") from error
        except PoolTimeout as error:
            raise Temporary(f"{self._where} has too much to do") from error
        except DBAPIError as error:
            raise Permanent(f"{self._where} is damaged or not a kernroll database: {error.orig}") from error


def _check_sound(path: Path) -> None:
    """Raise Permanent for a database whose pages do not fit together. Nothing is written: what is there stays so."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        # Not readable now; opening it for writing tells why.
        return
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise Permanent(f"{path} is damaged or not a kernroll database ({printable(found, 200)}); {_ADVICE}")


def sqlite_store(path: Path) -> SqlStore:
    """Return a store on one SQLite file; the file is made when the store is opened."""
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": 30, "check_same_thread": False},
        pool_size=_SQLITE_CONNECTIONS,
        max_overflow=0,
        pool_timeout=60,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would begin deferred; `begin` below takes the write lock at once.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def check() -> None:
        try:
            sqlite3.connect(path).close()
        except sqlite3.Error as error:
            raise Permanent(
                f"{path} cannot be opened ({error}): is it a file, and who owns it and the folder it is in?"
            ) from error
        if path.exists():
            _check_sound(path)

    return SqlStore(engine, str(path), _SQLITE_CONNECTIONS, check)


def _meta(connection: Connection, name: str, where: str) -> int | None:
    row = connection.execute(statements.META, {"name": name}).first()
    if row is not None and not (isinstance(row.value, int) and 0 <= row.value <= _MOST_OPENED):
        raise Permanent(f"{where}: the {name} in the table meta is no sensible number: {chain.ADVICE}")
    return None if row is None else row.value


def _set_epoch(connection: Connection, epoch: int) -> None:
    connection.execute(update(tables.meta).where(tables.meta.c.name == "epoch").values(value=epoch))


def _head(connection: Connection, where: str) -> Head:
    rows = connection.execute(statements.HEAD).all()
    if len(rows) != 1:
        raise Permanent(f"{where}: the table log_head has {len(rows)} rows instead of one: {chain.ADVICE}")
    return Head(number=rows[0].number, digest=rows[0].digest)


def _set_head(connection: Connection, head: Head) -> None:
    connection.execute(statements.SET_HEAD, {"to_number": head.number, "to_digest": head.digest})


def _effects(connection: Connection) -> tuple[Effect, ...]:
    rows = connection.execute(select(tables.effects).order_by("number"))
    return tuple(decode_effect(row.command_id, row.kind, row.payload) for row in rows)


def _write(connection: Connection, commit: Commit, head: Head) -> bool:
    if commit.report_id:
        report = {"report_id": commit.report_id}
        if connection.execute(statements.REPORT, report).first() is not None:
            return False
        connection.execute(statements.ADD_REPORT, report)
    if commit.events:
        _append(connection, commit, head)
    if commit.effects is not None:
        _replace_effects(connection, commit.stream, commit.effects)
    for table, rows in ((tables.ledger_boots, commit.boots), (tables.ledger_judgements, commit.judgements)):
        if rows:
            connection.execute(insert(table), [asdict(row) for row in rows])
    for one in commit.events:
        if isinstance(one, HostForgotten):
            enrollments.forget(connection, one.host)
    return True


def _append(connection: Connection, commit: Commit, head: Head) -> None:
    revision = connection.execute(statements.REVISION, {"stream": commit.stream}).scalar_one()
    if revision != commit.expected_revision:
        raise chain.moved_on(commit)
    try:
        connection.execute(statements.ADD_EVENTS, head.rows(commit))
    except IntegrityError as error:
        raise chain.moved_on(commit) from error


def _replace_effects(connection: Connection, stream: str, effects: tuple[Effect, ...]) -> None:
    connection.execute(statements.DROP_EFFECTS, {"stream": stream})
    rows = [
        {"command_id": one.command_id, "stream": stream, "kind": type(one).__name__, "payload": encode(one)}
        for one in effects
    ]
    if rows:
        connection.execute(statements.ADD_EFFECTS, rows)


def _of_hosts(stratum: str) -> ColumnElement[bool]:
    """Pick, of the stratum's hosts that were measured last, every metric's newest boots."""
    table = tables.ledger_boots
    last = (
        select(table.c.host)
        .where(table.c.stratum == stratum)
        .group_by(table.c.host)
        .order_by(func.max(table.c.number).desc())
        .limit(records.MOST_LEDGER_HOSTS)
    )
    age = func.row_number().over(partition_by=(table.c.host, table.c.metric), order_by=table.c.number.desc())
    aged = select(table.c.number, age.label("age")).where(table.c.stratum == stratum, table.c.host.in_(last)).subquery()
    return table.c.number.in_(select(aged.c.number).where(aged.c.age <= records.MOST_LEDGER_BOOTS))


def _newest(connection: Connection, table: Table, which: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Return the newest of these rows, oldest first, without their number."""
    columns = [column for column in table.c if column.name != "number"]
    rows = connection.execute(
        select(*columns).where(which).order_by(table.c.number.desc()).limit(records.MOST_LEDGER_ROWS)
    )
    return [dict(row._mapping) for row in reversed(rows.all())]
