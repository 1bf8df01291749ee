"""PostgreSQL: a pool, statements kept in .sql files, numbered migrations, LISTEN.

No network call is made inside a transaction; every statement of the project stands in a .sql file
behind a line ``-- name: some_name`` with its comment.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, LiteralString
from weakref import WeakKeyDictionary

import orjson
import psycopg
from psycopg.rows import DictRow, dict_row, tuple_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from orchestrator.errors import TemporaryError, UserError
from orchestrator.runtime import logs

Connection = psycopg.AsyncConnection[DictRow]
Row = dict[str, Any]
READ_ONLY = "57M01"  # SQLSTATE of a write while central is read-only (tasks/migrations/0003_maintenance.sql)
_FRESH = 1.0  # seconds
_NAME = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)


set_json_loads(orjson.loads)


class ReadOnly(TemporaryError):
    """Central takes no writes now; the message says why, and since when."""


class Queries:
    """The named statements of one .sql file: ``queries["claim"]``."""

    def __init__(self, file: Path) -> None:
        text = file.read_text()
        marks = list(_NAME.finditer(text))
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        self._statements = {m[1]: text[m.end() : end].strip() for m, end in zip(marks, ends, strict=True)}

    def __getitem__(self, name: str) -> LiteralString:
        return self._statements[name]


class Database:
    """A pool of connections to the central PostgreSQL. Open with ``async with``."""

    def __init__(self, url: str, *, size: int = 8) -> None:
        self.url = url
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=size,
            open=False,
            timeout=10,
            kwargs={"row_factory": dict_row, "autocommit": True},
            check=self._check,
        )
        self._used: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    async def _check(self, connection: Connection) -> None:
        """A connection that was in use a moment ago is taken as it is: to ask costs as much as a small statement."""
        now = asyncio.get_running_loop().time()
        if now - self._used.get(connection, float("-inf")) > _FRESH:
            await AsyncConnectionPool.check_connection(connection)
        self._used[connection] = now

    async def __aenter__(self) -> Database:
        await self.pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction: committed at the end, rolled back on an exception.

        A database that is restarting is a TemporaryError, one that takes no writes now is ReadOnly.
        """
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def rows(self, statement: LiteralString, **values: Any) -> list[Row]:
        """All rows of one statement, which is a transaction by itself: one journey instead of three."""
        async with self.connection() as connection:
            return await rows(connection, statement, **values)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection on which each statement is a transaction by itself; the same errors."""
        try:
            async with self.pool.connection() as connection:
                try:
                    yield connection
                except psycopg.NotSupportedError as error:
                    if "cached plan" not in str(error):
                        raise
                    # "cached plan must not change result type": the next connection prepares it anew.
                    await connection.close()
                    raise TemporaryError(f"a table has just been changed: {error}", retry_in=0.1) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if error.sqlstate == READ_ONLY:
                raise ReadOnly(str(error.diag.message_primary), retry_in=5.0) from error
            raise TemporaryError(f"the database does not answer: {error}", retry_in=0.5) from error

    async def listen(
        self, channels: Sequence[str], heard: Callable[[str, str], None], stop: asyncio.Event
    ) -> None:
        """Call ``heard(channel, payload)`` for each NOTIFY until ``stop``; reconnects by itself.

        After each (re)connection ``heard(channel, "")`` is called for every channel, since what
        was sent meanwhile is lost.
        """
        log = logs.get("listen")
        while not stop.is_set():
            try:
                async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
                    for channel in channels:
                        await connection.execute(
                            psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel))
                        )
                    for channel in channels:
                        heard(channel, "")
                    while not stop.is_set():
                        async for note in connection.notifies(timeout=1.0):
                            heard(note.channel, note.payload)
            except psycopg.OperationalError as error:
                log.warning("database away", reason=str(error))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.3)


async def rows(connection: Connection, statement: LiteralString, **values: Any) -> list[Row]:
    """All rows of one statement on ``connection`` ([] when it returns none).

    A value that its column cannot hold (not a UUID, too long) is a UserError.
    """
    try:
        cursor = await connection.execute(statement, values)
    except psycopg.DataError as error:
        raise UserError(f"a value cannot be stored: {error.diag.message_primary}") from error
    return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []


async def tuples(connection: Connection, statement: LiteralString, **values: Any) -> list[tuple[Any, ...]]:
    """All rows of a statement that returns some, as tuples in the order of its columns: half the cost for many rows."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(statement, values)
    return await cursor.fetchall()


def array(values: Iterable[object]) -> str:
    """A text that PostgreSQL reads as an array (``%(name)s::bigint[]``): what each value prints as, quoted.

    For the few statements that are run thousands of times a second: the driver writes an array an element at a time.
    """
    each = [str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return '{"' + '","'.join(each) + '"}' if each else "{}"


async def row(connection: Connection, statement: LiteralString, **values: Any) -> Row | None:
    """The first row of one statement, or None."""
    found = await rows(connection, statement, **values)
    return found[0] if found else None


def spoilt(connection: Connection) -> bool:
    """Whether a statement of the open transaction has failed: nothing else of it can be done."""
    return connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR


async def migrate(database: Database, components: Sequence[Path]) -> list[str]:
    """Apply every ``<component>/migrations/NNNN_*.sql`` not applied yet, in order; returns their names.

    One advisory lock and one transaction: processes that start together do it once. Each file must
    leave the schema usable by the code of the version before (agents and services of that version
    still talk while an upgrade runs).
    """
    async with database.transaction() as connection:
        return await apply_migrations(connection, components)


def migration_names(components: Sequence[Path]) -> list[str]:
    """The names of all migrations, in their order."""
    return [f"{each.name}/{file.name}" for each in components for file in _files(each)]


async def apply_migrations(
    connection: Connection, components: Sequence[Path], only: Collection[str] | None = None
) -> list[str]:
    """``migrate`` in the open transaction; with ``only`` those names and no others."""
    applied: list[str] = []
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('orchestrator-migrations'))")
    # Central may be read-only, for this very upgrade.
    await connection.execute("SELECT set_config('orchestrate.maintainer', 'on', true)")
    await connection.execute("CREATE SCHEMA IF NOT EXISTS grid")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS grid.migration (name text PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())"
    )
    done = {str(found["name"]) for found in await rows(connection, "SELECT name FROM grid.migration")}
    for component in components:
        for file in _files(component):
            name = f"{component.name}/{file.name}"
            if name not in done and (only is None or name in only):
                await connection.execute(file.read_text())
                await connection.execute("INSERT INTO grid.migration (name) VALUES (%s)", (name,))
                applied.append(name)
    return applied


def _files(component: Path) -> list[Path]:
    return sorted((component / "migrations").glob("*.sql"))
