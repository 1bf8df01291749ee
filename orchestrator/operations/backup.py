"""The database as one stream, of one moment, while everybody works on; and that stream read again."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from orchestrator.errors import TemporaryError, UserError
from orchestrator.operations import store
from orchestrator.operations.model import END, Header, Table
from orchestrator.operations.store import SQL
from orchestrator.runtime.sql import Database, rows

Counts = dict[str, int]
Tell = Callable[[str, int], None]  # (table, its rows so far)
_BLOCK = 1 << 18  # bytes
_OFTEN = 50_000  # rows between two words on how far it is


async def write(database: Database, vo: str, by: str, out: Callable[[bytes], Any], tell: Tell) -> Counts:
    """All of schema ``grid`` goes to ``out``, compressed, as of one moment; returns the rows of each table.

    TemporaryError when a restore is under way. Nobody has to wait for it.
    """
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    counts: Counts = {}

    def line(value: object) -> None:
        out(packer.compress(json.dumps(value).encode() + b"\n"))

    async with database.transaction() as connection:
        await rows(connection, SQL["snapshot"])
        if not (await store.one(connection, "share_with_backups"))["mine"]:
            raise TemporaryError("the database is being put back from a backup now", retry_in=60.0)
        header = await store.describe(connection, vo, by)
        line(header.to_json())
        for table in header.tables:
            line({"table": table.name})
            counts[table.name] = told = 0
            async for block in store.copy_out(connection, table):
                counts[table.name] += block.count(b"\n")  # one in a value is written as \n
                out(packer.compress(block))
                if counts[table.name] - told >= _OFTEN:
                    told = counts[table.name]
                    tell(table.name, told)
            out(packer.compress(END))
            tell(table.name, counts[table.name])
    line({"rows": counts})
    out(packer.flush())
    return counts


class Reader:
    """A backup, read once from its beginning to its end. UserError says what is wrong with it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = gzip.GzipFile(fileobj=stream)
        self.header = Header.from_json(self._json())
        self.counts: Counts = {}

    def tables(self) -> Iterator[tuple[Table, Iterator[bytes]]]:
        """Each table with its rows, some whole ones at a time. All of one must be taken before the next.

        After the last one it is certain that nothing is missing.
        """
        for table in self.header.tables:
            if self._json() != {"table": table.name}:
                raise UserError(f"it is damaged: table {table.name} is not where it should be")
            yield table, self._rows(table.name)
        if self._json() != {"rows": self.counts}:
            raise UserError("it is damaged: it does not have as many rows as it says")
        if self._line():
            raise UserError("it is damaged: something follows its end")

    def _rows(self, name: str) -> Iterator[bytes]:
        self.counts[name] = 0
        held: list[bytes] = []
        size = 0
        while (line := self._line()) != END:
            if not line.endswith(b"\n"):
                raise UserError("it was cut off: its end is missing")
            held.append(line)
            size += len(line)
            self.counts[name] += 1
            if size >= _BLOCK:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)

    def _json(self) -> Any:
        try:
            return json.loads(self._line())
        except ValueError as error:
            raise UserError("it is no backup of central, or was cut off") from error

    def _line(self) -> bytes:
        try:
            return self._lines.readline()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"it is no backup of central, or was cut off: {error}") from error


def verify(stream: BinaryIO) -> tuple[Header, Counts]:
    """What a backup says of itself, and its rows; it is whole. UserError says what is wrong with it."""
    reader = Reader(stream)
    for _, blocks in reader.tables():
        for _block in blocks:
            pass
    return reader.header, reader.counts
