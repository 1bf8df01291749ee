"""The reference log `.cvmfsreflog`: every catalog, certificate, tag database and metainfo ever published."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import database
from orchestrator.software.cvmfs.model import CATALOG, CERTIFICATE, HISTORY, METAINFO

TYPES: Mapping[str, int] = {CATALOG: 0, CERTIFICATE: 1, HISTORY: 2, METAINFO: 3}


def extended(content: bytes | None, fqrn: str, names: Mapping[str, str], now: int) -> bytes:
    """The log with ``names`` (suffix letter → hex hash) added; an absent or unreadable log is begun anew.

    It is only the garbage collector's memory: a damaged one must not stop a release.
    """
    base = None
    if content is not None:
        try:
            base = database.opened(content, f"the reflog of {fqrn}")
            base.execute("SELECT hash, type, timestamp FROM refs LIMIT 1").fetchall()
        except (PermanentError, database.Damaged):
            base = None
    if base is None:
        base = database.blank(files(__package__).joinpath("reflog.sql").read_text())
        database.set_properties(base, schema="1.0", schema_revision=0, fqrn=fqrn)
    rows = [(name, TYPES[kind], now) for kind, name in names.items() if name]
    base.executemany("INSERT OR IGNORE INTO refs (hash, type, timestamp) VALUES (?, ?, ?)", rows)
    return database.content(base)
