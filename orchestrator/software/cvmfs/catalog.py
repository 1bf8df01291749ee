"""A file catalog: the directory tree of a repository (or of a nested part of it) as one SQLite database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import database
from orchestrator.software.cvmfs.model import (
    CHUNKED,
    COMPRESSION_SHIFT,
    DIRECTORY,
    NESTED_MOUNTPOINT,
    PARTIAL,
    Chunk,
    Entry,
    md5path,
    parent_key,
)

_FIELDS = "hash, hardlinks, size, mode, mtime, flags, name, symlink, uid, gid"
# Text is bound as bytes and cast: names need not be UTF-8, and NULL would crash a real client.
_INSERT = (
    "INSERT OR REPLACE INTO catalog (md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode,"
    " mtime, flags, name, symlink, uid, gid)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)"
)
_REGULAR = "flags & 4 AND NOT flags & 24"
COUNTERS = {
    "regular": f"sum({_REGULAR})",
    "symlink": "sum(flags & 8 > 0)",
    "special": "sum(flags & 16 > 0)",
    "dir": "sum(flags & 1)",
    "nested": "sum(flags & 2 > 0)",
    "chunked": "sum(flags & 64 > 0)",
    "chunks": "(SELECT count(*) FROM chunks)",
    "file_size": f"sum(CASE WHEN {_REGULAR} THEN size END)",
    "chunked_size": "sum(CASE WHEN flags & 64 THEN size END)",
    "xattr": "sum(xattr IS NOT NULL)",
    "external": "sum(flags & 128 > 0)",
    "external_file_size": "sum(CASE WHEN flags & 128 THEN size END)",
}


class Catalog:
    """One catalog in memory. ``prefix`` is "" for the root catalog, else the path of its mount point."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        self.properties = database.properties(base)
        self.prefix = self.properties.get("root_prefix", "")

    @classmethod
    def new(cls, now: int) -> Catalog:
        """A root catalog that holds the root directory alone."""
        base = database.blank(files(__package__).joinpath("catalog.sql").read_text())
        database.set_properties(base, schema="2.5", schema_revision=7)
        made = cls(base)
        made.insert([Entry("", DIRECTORY, 0o040755, 4096, now, links=2)])
        return made

    @classmethod
    def load(cls, content: bytes, what: str) -> Catalog:
        """The catalog in ``content`` (inflated); PermanentError when it is none or of another schema."""
        try:
            found = cls(database.opened(content, what))
            found._base.execute(f"SELECT {_FIELDS} FROM catalog LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            raise PermanentError(f"{what} is not a CernVM-FS catalog: {error}") from error
        if not found.properties.get("schema", "").startswith("2.5"):
            raise PermanentError(
                f"{what} has schema {found.properties.get('schema')}; this program reads 2.5"
            )
        return found

    def lookup(self, path: str) -> Entry | None:
        """The entry at ``path``, None when this catalog has none."""
        row = self._base.execute(
            f"SELECT {_FIELDS} FROM catalog WHERE md5path_1 = ? AND md5path_2 = ?", md5path(path)
        ).fetchone()
        return None if row is None else self._entry(row, path)

    def listing(self, path: str) -> list[Entry]:
        """The entries directly below ``path``, by name."""
        rows = self._base.execute(
            f"SELECT {_FIELDS} FROM catalog WHERE parent_1 = ? AND parent_2 = ?", md5path(path)
        ).fetchall()
        return sorted((self._entry(row, f"{path}/{_name(row[6])}") for row in rows), key=lambda e: e.path)

    def walk(self, path: str) -> Iterator[Entry]:
        """``path`` and all below it in this catalog, parents first; nothing when it is absent."""
        top = self.lookup(path)
        waiting = [] if top is None else [top]
        while waiting:
            entry = waiting.pop()
            yield entry
            if entry.is_directory and not entry.flags & NESTED_MOUNTPOINT:
                waiting.extend(reversed(self.listing(entry.path)))

    def nested(self) -> list[tuple[str, str, int]]:
        """(mount point, hash, uncompressed bytes) of each nested catalog."""
        rows = self._base.execute("SELECT path, sha1, size FROM nested_catalogs ORDER BY path")
        return [(str(path), str(name), int(size or 0)) for path, name, size in rows]

    def objects(self) -> set[str]:
        """Names of all objects that files of this catalog refer to (external files refer to none)."""
        rows = self._base.execute("SELECT hash FROM catalog WHERE hash IS NOT NULL AND NOT flags & 129")
        named = {row[0].hex() for row in rows}
        chunks = self._base.execute("SELECT hash FROM chunks")
        return named | {row[0].hex() + PARTIAL for row in chunks}

    def highest_group(self) -> int:
        """The largest hard link group in use; groups are numbered within a catalog."""
        return int(self._base.execute("SELECT coalesce(max(hardlinks >> 32), 0) FROM catalog").fetchone()[0])

    def remove(self, path: str) -> int:
        """Remove ``path`` and all below; the number of entries removed."""
        keys = [md5path(entry.path) for entry in self.walk(path)]
        for table in ("catalog", "chunks"):
            self._base.executemany(f"DELETE FROM {table} WHERE md5path_1 = ? AND md5path_2 = ?", keys)
        return len(keys)

    def insert(self, entries: Iterable[Entry]) -> None:
        """Add or replace ``entries``; link counts of directories are made right by ``seal``."""
        kept = list(entries)
        self._base.executemany(_INSERT, map(_row, kept))
        self._base.executemany(
            "INSERT OR REPLACE INTO chunks (md5path_1, md5path_2, offset, size, hash) VALUES (?, ?, ?, ?, ?)",
            (
                (*md5path(entry.path), chunk.offset, chunk.size, bytes.fromhex(chunk.digest))
                for entry in kept
                for chunk in entry.chunks
            ),
        )

    def seal(self, revision: int, now: int, ttl: int, previous: str) -> bytes:
        """The finished database as revision ``revision``; ``previous`` is the hash of the catalog it replaces."""
        self._base.execute(
            "UPDATE catalog SET hardlinks = 2 + (SELECT count(*) FROM catalog AS child WHERE"
            " child.parent_1 = catalog.md5path_1 AND child.parent_2 = catalog.md5path_2 AND child.flags & 1)"
            " WHERE flags & 1 AND NOT flags & 2"
        )
        sums = ", ".join(f"coalesce({value}, 0)" for value in COUNTERS.values())
        counted = self._base.execute(f"SELECT {sums} FROM catalog").fetchone()
        self._base.executemany(
            "INSERT OR REPLACE INTO statistics (counter, value) VALUES (?, ?)",
            zip((f"self_{name}" for name in COUNTERS), counted, strict=True),
        )
        # Nested catalogs are not changed by this writer, so what they add up to stays as it was.
        self._base.executemany(
            "INSERT OR IGNORE INTO statistics (counter, value) VALUES (?, 0)",
            ((f"subtree_{name}",) for name in COUNTERS),
        )
        database.set_properties(self._base, revision=revision, last_modified=now, TTL=ttl)
        if previous:
            database.set_properties(self._base, previous_revision=previous)
        self.properties = database.properties(self._base)
        return database.content(self._base)

    def statistics(self) -> dict[str, int]:
        """The counters as stored."""
        return dict(self._base.execute("SELECT counter, value FROM statistics").fetchall())

    def _entry(self, row: tuple[Any, ...], path: str) -> Entry:
        digest, hardlinks, size, mode, mtime, flags, _, symlink, uid, gid = row
        if flags >> 8 & 7:
            raise PermanentError(
                f"{path}: its hash is not SHA-1, which is all that this program reads", path=path
            )
        chunks: tuple[Chunk, ...] = ()
        if flags & CHUNKED:
            rows = self._base.execute(
                "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ? AND md5path_2 = ? ORDER BY offset",
                md5path(path),
            )
            chunks = tuple(Chunk(offset, length, found.hex()) for offset, length, found in rows)
        return Entry(
            path,
            flags,
            mode,
            size,
            mtime,
            links=hardlinks & 0xFFFFFFFF,
            group=hardlinks >> 32,
            symlink=symlink,
            digest=digest.hex() if digest else "",
            chunks=chunks,
            uid=uid,
            gid=gid,
            raw=flags >> COMPRESSION_SHIFT & 7 == 1,
        )


def _name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise PermanentError(f"the catalog holds the impossible name {name!r}; do not use this repository")
    return name


def _row(entry: Entry) -> tuple[Any, ...]:
    return (
        *md5path(entry.path),
        *parent_key(entry.path),
        entry.group << 32 | entry.links,
        bytes.fromhex(entry.digest) if entry.digest else None,
        entry.size,
        entry.mode,
        entry.mtime,
        entry.flags,
        entry.name.encode("utf-8", "surrogateescape"),
        entry.symlink.encode("utf-8", "surrogateescape"),
        entry.uid,
        entry.gid,
    )
