"""The store port on a relational database.

SQLite by default: write-ahead log, full synchronisation, immediate transactions.
"""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Table, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from controller.adapters.store import chain, enrollments, schema, statements, tables
from controller.adapters.store.chain import Head
from controller.adapters.store.codec import decode_effect, decode_host, encode
from controller.domain.errors import Conflict, Permanent, Temporary
from controller.domain.hosts.host import Host
from controller.domain.record.effects import Effect
from controller.domain.record.fleet import HostForgotten
from controller.domain.record.names import FLEET_STREAM, attempt_stream, rollout_stream
from controller.gate.ledger import Boot, Judgement, Ledger
from controller.services import records
from controller.services.records import Commit, Enrolled, Loaded, Logged, TokenGrant

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Events that are read at a time.
_PAGE = 200
# Times that a database is opened, epochs that are raised above what agents name included.
_MOST_OPENED = 1 << 54
# What SQLite says of a file that is not ours to write.
_NOT_OURS = re.compile("readonly|unable to open")


def _whole(
    method: Callable[Concatenate["SqlStore", _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate["SqlStore", _P], Coroutine[Any, Any, _T]]:
    """Let a transaction run to its end when its caller is cancelled.

    A stream that breaks cancels what it does. Half a transaction would hold the database's lock until a timeout.
    """

    async def to_its_end(self: "SqlStore", /, *arguments: _P.args, **options: _P.kwargs) -> _T:
        task = asyncio.ensure_future(method(self, *arguments, **options))
        self.running.add(task)
        task.add_done_callback(self.ended)
        return await asyncio.shield(task)

    to_its_end.__doc__ = method.__doc__
    return to_its_end


class SqlStore:
    """A Store on any database SQLAlchemy speaks to asynchronously."""

    def __init__(self, engine: AsyncEngine, where: str, check: Callable[[], None] = lambda: None) -> None:
        """`check` raises Permanent for what can be told to be no use before a connection is made."""
        self._engine = engine
        self._check = check
        self._where = where
        self._epoch = 0
        self.running: set[asyncio.Future[Any]] = set()

    def ended(self, task: asyncio.Future[Any]) -> None:
        """Let go of a transaction; what it failed with nobody may be there to hear."""
        self.running.discard(task)
        if not task.cancelled():
            task.exception()

    @_whole
    async def open(self, *, may_create: bool = True) -> int:
        """See Store.open."""
        self._check()
        try:
            async with self._transaction() as connection:
                await connection.run_sync(partial(schema.prepare, where=self._where, may_create=may_create))
                self._epoch = (await _meta(connection, "epoch", self._where) or 0) + 1
                await _set_epoch(connection, self._epoch)
        except Temporary as error:
            if _NOT_OURS.search(str(error)):
                raise Permanent(
                    f"{self._where} cannot be opened for writing ({error}): check who owns it and the folder it is in"
                ) from error
            raise
        return self._epoch

    @_whole
    async def raise_epoch(self, above: int) -> int:
        """See Store.raise_epoch."""
        async with self._writing() as connection:
            if self._epoch <= above:
                await _set_epoch(connection, above + 1)
        self._epoch = max(self._epoch, above + 1)
        return self._epoch

    async def close(self) -> None:
        """See Store.close."""
        await asyncio.gather(*self.running, return_exceptions=True)
        await self._engine.dispose()

    @_whole
    async def load(self) -> Loaded:
        """See Store.load."""
        async with self._transaction() as connection:
            rows = await connection.execute(select(tables.events).order_by("number"))
            logged = tuple(chain.checked(rows, await _head(connection, self._where), self._where))
            hosts = [decode_host(*row) for row in await connection.execute(select(tables.hosts))]
            effects = await _effects(connection)
        return Loaded(events=logged, hosts={host.name: host for host in hosts}, effects=effects)

    @_whole
    async def commit(self, commit: Commit) -> bool:
        """See Store.commit."""
        async with self._writing() as connection:
            head = await _head(connection, self._where)
            written = await self._write(connection, commit, head)
            await _set_head(connection, head)
        return written

    @_whole
    async def commit_all(self, commits: Sequence[Commit]) -> None:
        """See Store.commit_all."""
        async with self._writing() as connection:
            head = await _head(connection, self._where)
            for commit in commits:
                await self._write(connection, commit, head)
            await _set_head(connection, head)

    async def _write(self, connection: AsyncConnection, commit: Commit, head: Head) -> bool:
        if commit.report_id:
            report = {"report_id": commit.report_id}
            if (await connection.execute(statements.REPORT, report)).first() is not None:
                return False
            await connection.execute(statements.ADD_REPORT, report)
        if commit.events:
            await self._append(connection, commit, head)
        if commit.effects is not None:
            await _replace_effects(connection, commit.stream, commit.effects)
        for table, rows in ((tables.ledger_boots, commit.boots), (tables.ledger_judgements, commit.judgements)):
            if rows:
                await connection.execute(insert(table), [asdict(row) for row in rows])
        for one in commit.events:
            if isinstance(one, HostForgotten):
                await enrollments.forget(connection, one.host)
        return True

    async def _append(self, connection: AsyncConnection, commit: Commit, head: Head) -> None:
        revision = (await connection.execute(statements.REVISION, {"stream": commit.stream})).scalar_one()
        if revision != commit.expected_revision:
            raise chain.moved_on(commit)
        try:
            await connection.execute(statements.ADD_EVENTS, head.rows(commit))
        except IntegrityError as error:
            raise chain.moved_on(commit) from error

    @_whole
    async def effect_done(self, command_id: str) -> None:
        """See Store.effect_done."""
        async with self._writing() as connection:
            await connection.execute(statements.DROP_EFFECT, {"command_id": command_id})

    @_whole
    async def outstanding(self) -> tuple[Effect, ...]:
        """See Store.outstanding."""
        async with self._transaction() as connection:
            return await _effects(connection)

    async def events(self, rollout_uid: str) -> tuple[Logged, ...]:
        """See Store.events."""
        stream = tables.events.c.stream
        own = stream == rollout_stream(rollout_uid)
        of_hosts = stream.startswith(attempt_stream(rollout_uid, ""), autoescape=True)
        found: list[Logged] = []
        number = 0
        # Page by page and beside the loop: a log is as large as hosts made their evidence, and others commit meanwhile.
        while rows := await self._page((own | of_hosts) & (tables.events.c.number > number)):
            found += await asyncio.to_thread(self._read, rows)
            number = rows[-1].number
        return tuple(found)

    def _read(self, rows: Sequence[Any]) -> list[Logged]:
        return [chain.logged_of(row, self._where) for row in rows]

    @_whole
    async def _page(self, which: ColumnElement[bool]) -> Sequence[Any]:
        async with self._transaction() as connection:
            page = select(tables.events).where(which).order_by("number").limit(_PAGE)
            return (await connection.execute(page)).all()

    @_whole
    async def fleet_events(self, most: int) -> tuple[Logged, ...]:
        """See Store.fleet_events."""
        own = select(tables.events).where(tables.events.c.stream == FLEET_STREAM)
        async with self._transaction() as connection:
            rows = await connection.execute(own.order_by(tables.events.c.number.desc()).limit(most))
            return tuple(chain.logged_of(row, self._where) for row in reversed(rows.all()))

    @_whole
    async def ledger(self, strata: Sequence[str]) -> Ledger:
        """See Store.ledger."""
        boots: list[Boot] = []
        judgements: list[Judgement] = []
        async with self._transaction() as connection:
            for stratum in sorted(set(strata)):
                boots += [Boot(**row) for row in await _newest(connection, tables.ledger_boots, _of_hosts(stratum))]
                own = tables.ledger_judgements.c.stratum == stratum
                judgements += [Judgement(**row) for row in await _newest(connection, tables.ledger_judgements, own)]
        return Ledger(boots=tuple(boots), judgements=tuple(judgements))

    @_whole
    async def save_host(self, host: Host) -> None:
        """See Store.save_host."""
        async with self._writing() as connection:
            await connection.execute(statements.DROP_HOST, {"name": host.name})
            await connection.execute(statements.ADD_HOST, {"name": host.name, "payload": encode(host)})

    @_whole
    async def create_token(self, grant: TokenGrant) -> None:
        """See Store.create_token."""
        async with self._writing() as connection:
            await enrollments.create_token(connection, grant)

    @_whole
    async def redeem_token(self, secret_digest: str, enrolled: Enrolled, now: float) -> None:
        """See Store.redeem_token."""
        async with self._writing() as connection:
            await enrollments.redeem_token(connection, secret_digest, enrolled, now)

    @_whole
    async def renewed(self, enrolled: Enrolled) -> None:
        """See Store.renewed."""
        async with self._writing() as connection:
            await enrollments.renewed(connection, enrolled)

    @_whole
    async def enrolled(self) -> tuple[Enrolled, ...]:
        """See Store.enrolled."""
        async with self._transaction() as connection:
            return await enrollments.all_enrolled(connection)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        """Yield a transaction that may write: nobody has taken over."""
        async with self._transaction() as connection:
            await self._fence(connection)
            yield connection

    async def _fence(self, connection: AsyncConnection) -> None:
        """Refuse to write once a newer controller has opened the store."""
        current = await _meta(connection, "epoch", self._where)
        if current != self._epoch:
            raise Conflict(f"another controller has taken over {self._where} (epoch {current}, ours is {self._epoch})")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError) as error:
            raise Temporary(f"{self._where} cannot be used: {error.orig}") from error
        except PoolTimeout as error:
            raise Temporary(f"{self._where} has too much to do") from error
        except DBAPIError as error:
            raise Permanent(f"{self._where} is damaged or not a kernroll database: {error.orig}") from error


def sqlite_store(path: Path) -> SqlStore:
    """Return a store on one SQLite file; the file is made when the store is opened."""
    # SQLite has one writer at a time: one connection, waited for in turn, instead of many that race for its lock.
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 30}, pool_size=1, max_overflow=0, pool_timeout=60
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own transaction handling would begin deferred; `begin` below takes the write lock at once.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def check() -> None:
        # The driver's thread would tell of it when nobody listens any more.
        try:
            sqlite3.connect(path).close()
        except sqlite3.Error as error:
            raise Permanent(
                f"{path} cannot be opened ({error}): is it a file, and who owns it and the folder it is in?"
            ) from error

    return SqlStore(engine, str(path), check)


async def _meta(connection: AsyncConnection, name: str, where: str) -> int | None:
    row = (await connection.execute(statements.META, {"name": name})).first()
    if row is not None and not (isinstance(row.value, int) and 0 <= row.value <= _MOST_OPENED):
        raise Permanent(f"{where}: the {name} in the table meta is no sensible number: {chain.ADVICE}")
    return None if row is None else row.value


async def _set_epoch(connection: AsyncConnection, epoch: int) -> None:
    await connection.execute(update(tables.meta).where(tables.meta.c.name == "epoch").values(value=epoch))


async def _head(connection: AsyncConnection, where: str) -> Head:
    rows = (await connection.execute(statements.HEAD)).all()
    if len(rows) != 1:
        raise Permanent(f"{where}: the table log_head has {len(rows)} rows instead of one: {chain.ADVICE}")
    return Head(number=rows[0].number, digest=rows[0].digest)


async def _set_head(connection: AsyncConnection, head: Head) -> None:
    await connection.execute(statements.SET_HEAD, {"to_number": head.number, "to_digest": head.digest})


async def _effects(connection: AsyncConnection) -> tuple[Effect, ...]:
    rows = await connection.execute(select(tables.effects).order_by("number"))
    return tuple(decode_effect(row.command_id, row.kind, row.payload) for row in rows)


async def _replace_effects(connection: AsyncConnection, stream: str, effects: tuple[Effect, ...]) -> None:
    await connection.execute(statements.DROP_EFFECTS, {"stream": stream})
    rows = [
        {"command_id": one.command_id, "stream": stream, "kind": type(one).__name__, "payload": encode(one)}
        for one in effects
    ]
    if rows:
        await connection.execute(statements.ADD_EFFECTS, rows)


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


async def _newest(connection: AsyncConnection, table: Table, which: ColumnElement[bool]) -> list[dict[str, Any]]:
    """Return the newest of these rows, oldest first, without their number."""
    columns = [column for column in table.c if column.name != "number"]
    rows = await connection.execute(
        select(*columns).where(which).order_by(table.c.number.desc()).limit(records.MOST_LEDGER_ROWS)
    )
    return [dict(row._mapping) for row in reversed(rows.all())]
