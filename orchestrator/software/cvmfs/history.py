"""The tag database: named revisions. `trunk` and `trunk-previous` follow each publish."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from importlib.resources import files

from orchestrator.software.cvmfs import database

TRUNK, PREVIOUS = "trunk", "trunk-previous"
_COLUMNS = "name, hash, revision, timestamp, channel, description, size, branch"


@dataclass(frozen=True)
class Tag:
    """One named revision; ``root`` is the root catalog's hash, ``size`` its uncompressed bytes."""

    name: str
    root: str
    revision: int
    timestamp: int
    size: int
    description: str = ""
    channel: int = 0
    branch: str = ""


def open_history(content: bytes | None, fqrn: str) -> sqlite3.Connection:
    """The tag database in ``content``, or a new one for ``fqrn``."""
    if content is not None:
        return database.opened(content, f"the tag database of {fqrn}")
    base = database.blank(files(__package__).joinpath("history.sql").read_text())
    database.set_properties(base, schema="1.0", schema_revision=3, fqrn=fqrn)
    return base


def follow(base: sqlite3.Connection, trunk: Tag, previous: str) -> bytes:
    """The database after a publish: `trunk` is the new revision, `trunk-previous` what it was.

    ``previous`` is the hash of the tag database that this one replaces ("" for none).
    """
    base.execute("DELETE FROM tags WHERE name = ?", (PREVIOUS,))
    base.execute("UPDATE tags SET name = ? WHERE name = ?", (PREVIOUS, TRUNK))
    base.execute(
        f"INSERT INTO tags ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            TRUNK,
            trunk.root,
            trunk.revision,
            trunk.timestamp,
            trunk.channel,
            trunk.description,
            trunk.size,
            trunk.branch,
        ),
    )
    if previous:
        database.set_properties(base, previous_revision=previous)
    return database.content(base)


def tags(base: sqlite3.Connection) -> list[Tag]:
    """All tags, newest revision first."""
    rows = base.execute(
        "SELECT name, hash, revision, timestamp, size, description, channel, branch FROM tags"
        " ORDER BY revision DESC, name"
    )
    return [Tag(*row) for row in rows]
