"""The routes of the package table.

| call | by | body → answer |
|---|---|---|
| GET /v1/packages?name=&version=&brief=1 | any verified caller | [Package + {made, by}]; brief: without torrents |
| POST /v1/packages | release, admin | Package → Package + {made, by}; 409 for other contents of a known version |
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from orchestrator.errors import UserError
from orchestrator.runtime.sql import Database
from orchestrator.runtime.web import body, caller, route
from orchestrator.software import store
from orchestrator.software.model import Package


def routes(database: Database) -> list[Route]:
    """GET and POST /v1/packages on the table in ``database``."""

    async def listing(request: Request) -> Any:
        caller(request)
        asked = request.query_params
        async with database.transaction() as connection:
            return await store.packages(
                connection, asked.get("name"), asked.get("version"), brief=asked.get("brief") == "1"
            )

    async def publish(request: Request) -> Any:
        who = caller(request).require("release", "admin")
        package = Package.from_json(await body(request))
        await asyncio.to_thread(_check, package)
        async with database.transaction() as connection:
            return await store.save(connection, package, who.user)

    return [route("GET", "/v1/packages", listing), route("POST", "/v1/packages", publish)]


def _check(package: Package) -> None:
    """The torrent is one of this archive, so nobody ever waits for bytes that cannot come."""
    from orchestrator.software.torrent.session import file_of, info_hash_of  # libtorrent is heavy

    _, size = file_of(package.torrent)
    found = info_hash_of(package.torrent)
    if (size, found) != (package.size, package.info_hash):
        raise UserError(
            f"package {package.spelling}: its torrent has info-hash {found} and {size} bytes, "
            f"the entry says {package.info_hash} and {package.size}; make the torrent of this archive",
            package=package.spelling,
        )
