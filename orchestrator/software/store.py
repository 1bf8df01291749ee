"""The package table in PostgreSQL. Each function works on a connection of the caller's transaction."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.runtime.sql import Connection, Queries, Row, row, rows
from orchestrator.software.model import Package, other_contents

QUERIES = Queries(Path(__file__).with_name("queries.sql"))


async def packages(
    connection: Connection, name: str | None = None, version: str | None = None, *, brief: bool = False
) -> list[dict[str, Any]]:
    """The JSON of packages (those of ``name``, ``version``), newest first; ``brief`` leaves the torrents out."""
    found = await rows(connection, QUERIES["list" if brief else "full"], name=name, version=version)
    return [_json(one) for one in found]


async def known(connection: Connection, packages: Sequence[str]) -> set[str]:
    """Those of ``packages`` (NAME::VERSION) that are published."""
    found = await rows(connection, QUERIES["known"], packages=list(packages))
    return {str(one["spelling"]) for one in found}


async def save(connection: Connection, package: Package, by: str) -> dict[str, Any]:
    """The package is known; its JSON. Again with the same contents is harmless and may move it elsewhere.

    PermanentError when NAME::VERSION is known with other contents: contents identify versions.
    """
    values = {key: value for key, value in package.to_json().items() if key != "torrent"}
    saved = await row(connection, QUERIES["save"], **values, torrent=package.torrent, by=by)
    if saved is None:
        known = await rows(connection, QUERIES["list"], name=package.name, version=package.version)
        raise other_contents(package.spelling, str(known[0]["sha256"]) if known else "", package.sha256)
    return _json(saved)


def _json(found: Row) -> dict[str, Any]:
    if "torrent" not in found:
        return dict(found)
    return dict(found) | {"torrent": base64.b64encode(found["torrent"]).decode()}
