"""SQLite files as bytes: catalogs, tag databases and reflogs are small databases that travel whole."""

from __future__ import annotations

import sqlite3

from orchestrator.errors import PermanentError

Damaged = sqlite3.DatabaseError


def blank(schema: str) -> sqlite3.Connection:
    """A new database in memory with ``schema``."""
    base = _connect()
    base.executescript(schema)
    return base


def opened(content: bytes, what: str) -> sqlite3.Connection:
    """The database in ``content``, in memory; PermanentError when it is none."""
    if not content.startswith(b"SQLite format 3\0"):
        raise PermanentError(f"{what} is not a SQLite database")
    base = _connect()
    try:
        base.deserialize(content)
        base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise PermanentError(f"{what} is not a readable SQLite database: {error}") from error
    return base


def content(base: sqlite3.Connection) -> bytes:
    """The database file: vacuumed, and never in WAL mode (a WAL file aborts a real client)."""
    base.commit()
    base.execute("VACUUM")
    return base.serialize()


def properties(base: sqlite3.Connection) -> dict[str, str]:
    """The table `properties`, which all three kinds have."""
    return {str(key): str(value) for key, value in base.execute("SELECT key, value FROM properties")}


def set_properties(base: sqlite3.Connection, **values: str | int) -> None:
    """Add or replace properties."""
    rows = [(key, str(value)) for key, value in values.items()]
    base.executemany("INSERT OR REPLACE INTO properties (key, value) VALUES (?, ?)", rows)


def _connect() -> sqlite3.Connection:
    # A worker thread may build what the event loop's thread opened; never two at the same time.
    base = sqlite3.connect(":memory:", check_same_thread=False)
    # Names are bytes in a file system; what is not UTF-8 passes through as surrogates.
    base.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return base
