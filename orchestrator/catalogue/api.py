"""The routes of the file catalogue."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from orchestrator.auth.model import Envelope
from orchestrator.catalogue import model, store
from orchestrator.catalogue.model import Output
from orchestrator.errors import UserError
from orchestrator.runtime.sql import Database, rows
from orchestrator.runtime.web import Caller, body, caller, number, route

PEOPLE = ("user", "job", "admin", "release")


@dataclass(frozen=True)
class Catalogue:
    """The catalogue service of ``vo``: database and the signer of envelopes."""

    database: Database
    envelope: Envelope
    vo: str

    def routes(self) -> list[Route]:
        """/v1/catalogue/*."""
        reading = (("ls", self.ls), ("stat", self.stat), ("find", self.find), ("whereis", self.whereis))
        writing = (
            ("mkdir", self.mkdir), ("rm", self.rm), ("mv", self.mv), ("write", self.write), ("register", self.register),
            ("read", self.read), ("storage", self.storage), ("removed", self.removed),
        )  # fmt: skip
        return [
            *(route("GET", f"/v1/catalogue/{name}", handler) for name, handler in reading),
            *(route("POST", f"/v1/catalogue/{name}", handler) for name, handler in writing),
            route("GET", "/v1/catalogue/removals", self.removals),
        ]

    async def ls(self, request: Request) -> Any:
        caller(request).require(*PEOPLE)
        async with self.database.transaction() as connection:
            return [entry.to_json() for entry in await store.ls(connection, _path(request))]

    async def stat(self, request: Request) -> Any:
        caller(request).require(*PEOPLE)
        async with self.database.transaction() as connection:
            return (await store.stat(connection, _path(request))).to_json()

    async def find(self, request: Request) -> Any:
        caller(request).require(*PEOPLE)
        pattern, most = request.query_params.get("pattern", "*"), int(number(request, "limit", 10000, 100000))
        async with self.database.transaction() as connection:
            return [entry.to_json() for entry in await store.find(connection, _path(request), pattern, most)]

    async def whereis(self, request: Request) -> Any:
        caller(request).require(*PEOPLE)
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, _path(request))
            copies = await store.replicas(connection, entry.guid, "") if entry.guid else []
        return [{"se": c["se"], "site": c["site"], "pfn": c["url"] + c["pfn"]} for c in copies]

    async def mkdir(self, request: Request) -> Any:
        who, asked = _writer(request), await body(request)
        async with self.database.transaction() as connection:
            await store.mkdir(connection, _text(asked, "path"), who.user, _admin(who))
        return {}

    async def rm(self, request: Request) -> Any:
        who, asked = _writer(request), await body(request)
        async with self.database.transaction() as connection:
            gone = await store.remove(
                connection, _text(asked, "path"), who.user, _admin(who), bool(asked.get("recursive"))
            )
        return {"removed": gone}

    async def mv(self, request: Request) -> Any:
        who, asked = _writer(request), await body(request)
        async with self.database.transaction() as connection:
            await store.move(connection, _text(asked, "path"), _text(asked, "to"), who.user, _admin(who))
        return {}

    async def write(self, request: Request) -> Any:
        """Where the caller may put a new file: nothing is registered until ``register`` or a DONE report."""
        who, asked = _writer(request), await body(request)
        size, md5 = int(asked.get("size", -1)), _text(asked, "md5")
        if size < 0:
            raise UserError("size must be given in bytes")
        async with self.database.transaction() as connection:
            lfn = await store.check_new(connection, _text(asked, "lfn"), who.user, _admin(who))
            site = str(asked.get("site") or who.claims.get("site") or "")
            place = await store.choose_storage(connection, site, size, str(asked.get("se") or ""))
        guid = str(uuid.uuid4())
        pfn = model.pfn_of(guid)
        permit = self.envelope(f"{place['name']}:{pfn}", "PUT", size, md5)
        write = {"se": place["name"], "pfn": pfn, "url": place["url"] + pfn, "envelope": permit}
        return {"lfn": lfn, "guid": guid, "writes": [write]}

    async def register(self, request: Request) -> Any:
        who, asked = _writer(request), await body(request)
        outputs = [Output.from_json({**asked, **copy}) for copy in asked.get("replicas", ())]
        if not outputs:
            raise UserError(f"{asked.get('lfn')} has no replica to register")
        async with self.database.transaction() as connection:
            await store.register(connection, outputs, who.user, _admin(who))
        return {}

    async def read(self, request: Request) -> Any:
        """Where a file can be read, the caller's site first, each with its envelope."""
        who, asked = caller(request).require(*PEOPLE), await body(request)
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, _text(asked, "lfn"))
            if entry.is_directory:
                raise UserError(f"{entry.path} is a directory", path=entry.path)
            site = str(asked.get("site") or who.claims.get("site") or "")
            copies = await store.replicas(connection, entry.guid, site)
        reads = [
            {
                "se": copy["se"],
                "url": copy["url"] + copy["pfn"],
                "envelope": self.envelope(f"{copy['se']}:{copy['pfn']}", "GET", entry.size, entry.md5),
            }
            for copy in copies
        ]
        return {**entry.to_json(), "reads": reads}

    async def storage(self, request: Request) -> Any:
        caller(request).require("vobox")
        asked = await body(request)
        values = {key: _text(asked, key) for key in ("name", "site", "url")}
        async with self.database.transaction() as connection:
            await rows(connection, store.QUERIES["save_storage"], **values, free=int(asked.get("free", 0)))
        return {}

    async def removals(self, request: Request) -> Any:
        caller(request).require("vobox")
        found = await self.database.rows(store.QUERIES["removals"], se=request.query_params.get("se", ""))
        return {"pfns": [one["pfn"] for one in found]}

    async def removed(self, request: Request) -> Any:
        caller(request).require("vobox")
        asked = await body(request)
        await self.database.rows(
            store.QUERIES["removed"], se=_text(asked, "se"), pfns=list(asked.get("pfns", ()))
        )
        return {}


def _writer(request: Request) -> Caller:
    return caller(request).require(*PEOPLE)


def _admin(who: Caller) -> bool:
    return "admin" in who.roles


def _path(request: Request) -> str:
    return request.query_params.get("path", "/")


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} is missing", key=key)
    return value
