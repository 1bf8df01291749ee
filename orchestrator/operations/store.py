"""The statements of queries.sql as functions on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from orchestrator.errors import UserError
from orchestrator.operations.model import Header, Mode, Partition, Table
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows

SQL = Queries(Path(__file__).with_name("queries.sql"))
# What services write only to be known as alive, and which single-use tokens are spent: this goes on while central is
# read-only, or after some minutes nobody could even read, and nobody would count as alive.
SOFT = frozenset({"spent", "resource", "storage_element"})


def _table(name: str) -> sql.Identifier:
    return sql.Identifier("grid", name)


async def _put(connection: Connection, statement: LiteralString, **parts: sql.Composable) -> None:
    await connection.execute(sql.SQL(statement).format(**parts))


async def mode(connection: Connection) -> Mode:
    """Whether central is read-only."""
    found = await row(connection, SQL["state"])
    return Mode(True, **found) if found else Mode(False)


async def maintain(connection: Connection) -> None:
    """This transaction may write although central is read-only."""
    await rows(connection, SQL["maintain"])


async def guarded(connection: Connection) -> set[str]:
    """The tables to which writes are refused."""
    return {str(each["name"]) for each in await rows(connection, SQL["guarded"])}


async def guard(connection: Connection, patience: float) -> None:
    """Writes to all tables but the soft ones are refused; whoever wrote before has ended.

    TemporaryError (by the caller's transaction) when one of those did not end within ``patience`` seconds.
    """
    await rows(connection, SQL["lock_patience"], wait=f"{int(patience * 1000)}ms")
    names = sorted({str(each["name"]) for each in await rows(connection, SQL["tables"])} - SOFT)
    await _put(connection, SQL["lock"], tables=sql.SQL(", ").join(map(_table, names)))
    for name in names:
        await _put(connection, SQL["guard"], table=_table(name))


async def unguard(connection: Connection) -> None:
    """Everybody may write again."""
    for name in sorted(await guarded(connection)):
        await _put(connection, SQL["unguard"], table=_table(name))


async def describe(connection: Connection, vo: str, by: str) -> Header:
    """What a backup of this moment holds."""
    every = await rows(connection, SQL["tables"])
    tables = [
        Table(each["name"], tuple(each["columns"]), tuple(each["needs"]))
        for each in every
        if not each["part"]
    ]
    by_name = {each.name: each for each in tables}
    order = TopologicalSorter({each.name: each.needs for each in tables}).static_order()
    now = (await rows(connection, SQL["now"]))[0]
    return Header(
        vo=vo,
        made=now["now"],
        by=by,
        server=now["version"],
        migrations=tuple(str(each["name"]) for each in await rows(connection, SQL["migrations"])),
        tables=tuple(by_name[name] for name in order),
        partitions=tuple(
            Partition(each["name"], each["parent"], each["bound"], each["key"] or "")
            for each in await rows(connection, SQL["partitions"])
        ),
        sequences=await sequences(connection, "grid"),
    )


async def sequences(connection: Connection, schema: str) -> dict[str, int]:
    """The highest number that each sequence has given out."""
    return {
        str(each["name"]): int(each["last"])
        for each in await rows(connection, SQL["sequences"], schema=schema)
    }


async def copy_out(connection: Connection, table: Table) -> AsyncIterator[bytes]:
    """The rows of a table in COPY's text format, some whole ones at a time."""
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL(SQL["copy_out"]).format(columns=columns, table=_table(table.name))
    async with connection.cursor() as cursor, cursor.copy(statement) as copied:
        async for block in copied:
            yield bytes(block)


async def empty(connection: Connection, tables: Sequence[Table]) -> None:
    """No row is in these tables."""
    names = sql.SQL(", ").join(_table(each.name) for each in tables)
    await _put(connection, SQL["empty"], tables=names)


async def copy_in(connection: Connection, table: Table, blocks: Iterable[bytes]) -> None:
    """These rows are in the table. Its triggers did not see them. UserError when they do not belong there."""
    await _put(connection, SQL["triggers_off"], table=_table(table.name))
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL(SQL["copy_in"]).format(columns=columns, table=_table(table.name))
    try:
        async with connection.cursor() as cursor, cursor.copy(statement) as copied:
            for block in blocks:
                await copied.write(block)
    except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
        told = error.diag.message_primary
        raise UserError(
            f"it is damaged: its rows of table {table.name} cannot be put there: {told}"
        ) from error
    await _put(connection, SQL["triggers_on"], table=_table(table.name))


async def make_partitions(connection: Connection, partitions: Sequence[Partition]) -> None:
    """Those that the migrations did not make."""
    for each in partitions:
        # Both are PostgreSQL's own words, from a file that only the VO's admin gives us.
        bound, key = (sql.SQL(text) for text in (each.bound, f"PARTITION BY {each.key}" if each.key else ""))
        names = {"table": _table(each.name), "parent": _table(each.parent)}
        await _put(connection, SQL["make_partition"], **names, bound=bound, key=key)


async def analyze(connection: Connection, tables: Sequence[Table]) -> None:
    """The planner knows the tables as they are."""
    for each in tables:
        await _put(connection, SQL["analyze"], table=_table(each.name))


async def fence(connection: Connection, first: int, reason: str) -> int:
    """No attempt that begins later has a number below ``first``; returns how many waiting tasks have it now."""
    found = await one(connection, "renumber", first=first, reason=reason)
    await _put(connection, SQL["fence"], first=sql.Literal(first), text=sql.Literal(str(first)))
    return int(found["count"])


async def one(connection: Connection, name: str, **values: object) -> Row:
    """The row of a statement that always has one."""
    return (await rows(connection, SQL[name], **values))[0]
