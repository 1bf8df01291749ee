"""Many LFNs at once: what the optimizers ask. One statement, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.catalogue.model import Placed, clean
from orchestrator.runtime.sql import Connection, Queries, rows

__all__ = ["Placed", "lookup"]
QUERIES = Queries(Path(__file__).with_name("queries.sql"))


async def lookup(connection: Connection, lfns: Sequence[str]) -> dict[str, Placed]:
    """The files among ``lfns``, by the spelling that was asked for; directories and missing ones are absent.

    UserError when one is no LFN. The cost is one probe of two keys for each LFN, however large the
    catalogue is.
    """
    spelt = {lfn: clean(lfn) for lfn in lfns}
    found = await rows(connection, QUERIES["lookup"], paths=list(set(spelt.values()))) if spelt else []
    placed = {
        one["path"]: Placed(one["path"], one["guid"], one["size"], one["md5"], tuple(sorted(one["ses"])))
        for one in found
    }
    return {lfn: placed[path] for lfn, path in spelt.items() if path in placed}
