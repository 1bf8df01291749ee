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
from orchestrator.errors import NotAllowed, UserError
from orchestrator.runtime.sql import Connection, Database, rows
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
        who, path = caller(request).require(*PEOPLE), model.clean(_path(request))
        async with self.database.transaction() as connection:
            await self._home(connection, who, path)
            return [entry.to_json() for entry in await store.ls(connection, path or "/")]

    async def stat(self, request: Request) -> Any:
        who, path = caller(request).require(*PEOPLE), model.clean(_path(request))
        async with self.database.transaction() as connection:
            await self._home(connection, who, path)
            return (await store.stat(connection, path or "/")).to_json()

    async def find(self, request: Request) -> Any:
        caller(request).require(*PEOPLE)
        pattern, most = request.query_params.get("pattern", "*"), int(number(request, "limit", 10000, 100000))
        async with self.database.transaction() as connection:
            return [entry.to_json() for entry in await store.find(connection, _path(request), pattern, most)]

    async def whereis(self, request: Request) -> Any:
        caller(request).require(*PEOPLE)
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, _path(request))
            if entry.is_directory:
                raise UserError(
                    f"{entry.path or '/'} is a directory; only files have copies", path=entry.path
                )
            copies = await store.replicas(connection, entry.guid, "")
        return [{"se": c["se"], "site": c["site"], "pfn": c["url"] + c["pfn"]} for c in copies]

    async def mkdir(self, request: Request) -> Any:
        who, asked = _writer(request), await body(request)
        path = model.clean(_text(asked, "path"))
        async with self.database.transaction() as connection:
            await self._home(connection, who, path)
            await store.mkdir(connection, path, who.user, _admin(who))
        return {}

    async def rm(self, request: Request) -> Any:
        who, asked = _person(request), await body(request)
        async with self.database.transaction() as connection:
            gone = await store.remove(
                connection, _text(asked, "path"), who.user, _admin(who), bool(asked.get("recursive"))
            )
        return {"removed": gone}

    async def mv(self, request: Request) -> Any:
        who, asked = _person(request), await body(request)
        async with self.database.transaction() as connection:
            await store.move(connection, _text(asked, "path"), _text(asked, "to"), who.user, _admin(who))
        return {}

    async def write(self, request: Request) -> Any:
        """Where the caller may put a file: nothing is registered until ``register`` or a DONE report.

        ``se`` is a name or a list of names, ``copies`` how many writes are wanted (default: one for each
        name, at least one); fewer come back when fewer storage elements have room. ``guid`` asks for
        further copies of that file.
        """
        who, asked = _writer(request), await body(request)
        size, md5 = _number(asked, "size"), _text(asked, "md5")
        model.check_md5(md5)
        known = model.clean_guid(str(asked["guid"])) if asked.get("guid") else ""
        guid = known or str(uuid.uuid4())
        names = asked.get("se") or []
        names = [str(name) for name in ([names] if isinstance(names, str) else names)]
        copies = _number(asked, "copies", max(1, len(names)))
        async with self.database.transaction() as connection:
            lfn = model.clean(_text(asked, "lfn"))
            await self._home(connection, who, lfn)
            await store.check_new(connection, lfn, who.user, _admin(who), same=known)
            await store.check_content(connection, guid, size, md5)
            site = str(asked.get("site") or who.claims.get("site") or "")
            places = await store.choose_storage(connection, site, size, names, min(copies, 100), guid)
            pfn = model.pfn_of(guid)
            for place in places:
                await rows(connection, store.QUERIES["intend"], se=place["name"], pfn=pfn)
        writes = [
            {
                "se": place["name"],
                "pfn": pfn,
                "url": place["url"] + pfn,
                "envelope": self.envelope(f"{place['name']}:{pfn}", "PUT", size, md5),
            }
            for place in places
        ]
        return {"lfn": lfn, "guid": guid, "writes": writes}

    async def register(self, request: Request) -> Any:
        who, asked = _writer(request), await body(request)
        model.check_md5(_text(asked, "md5"))
        outputs = [Output.from_json({**asked, **copy}) for copy in asked.get("replicas", ())]
        if not outputs:
            raise UserError(f"{asked.get('lfn')} has no replica to register")
        async with self.database.transaction() as connection:
            await self._home(connection, who, model.clean(_text(asked, "lfn")))
            await store.register(connection, outputs, who.user, _admin(who))
        return {}

    async def read(self, request: Request) -> Any:
        """Where a file can be read, the caller's site first, each with its envelope."""
        who, asked = caller(request).require(*PEOPLE), await body(request)
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, _text(asked, "lfn"))
            if entry.is_directory:
                raise UserError(f"{entry.path or '/'} is a directory", path=entry.path)
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
        who, asked = caller(request).require("vobox"), await body(request)
        values = {key: _text(asked, key) for key in ("name", "site", "url")}
        if who.claims.get("site", values["site"]) != values["site"]:
            raise NotAllowed(f"{who.subject} is of site {who.claims['site']}, not of {values['site']}")
        free = _number(asked, "free", 0)
        if not await self.database.rows(store.QUERIES["save_storage"], **values, free=free):
            raise UserError(
                f"another site of this VO has a storage element {values['name']}; rename one in site.yaml"
            )
        return {}

    async def removals(self, request: Request) -> Any:
        who, se = caller(request).require("vobox"), request.query_params.get("se", "")
        await self._its_site(who, se)
        found = await self.database.rows(store.QUERIES["removals"], se=se)
        return {"pfns": [one["pfn"] for one in found]}

    async def removed(self, request: Request) -> Any:
        who, asked = caller(request).require("vobox"), await body(request)
        await self._its_site(who, _text(asked, "se"))
        await self.database.rows(
            store.QUERIES["removed"], se=_text(asked, "se"), pfns=list(asked.get("pfns", ()))
        )
        return {}

    async def _its_site(self, who: Caller, se: str) -> None:
        """NotAllowed when the storage element ``se`` is another site's than the caller's."""
        found = await self.database.rows(store.QUERIES["site_of_storage"], se=se)
        site = who.claims.get("site") or who.name
        if found and found[0]["site"] != site:
            raise NotAllowed(f"{who.subject} is of site {site}, {se} of {found[0]['site']}", se=se)

    async def _home(self, connection: Connection, who: Caller, path: str) -> None:
        """The caller's home exists if ``path`` is in it."""
        home = model.home(self.vo, who.user)
        if path != home and not path.startswith(f"{home}/"):
            return
        if await rows(connection, store.QUERIES["entry"], path=home):
            return
        owner = (await store.stat(connection, f"/{self.vo}/user")).owner
        await store.ensure_home(connection, self.vo, who.user, owner)


def _writer(request: Request) -> Caller:
    return caller(request).require(*PEOPLE)


def _person(request: Request) -> Caller:
    """Jobs add to the catalogue; only people take away from it."""
    return caller(request).require("user", "admin", "release")


def _admin(who: Caller) -> bool:
    return "admin" in who.roles


def _path(request: Request) -> str:
    return request.query_params.get("path", "/")


def _text(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} is missing", key=key)
    return value


def _number(asked: dict[str, Any], key: str, default: int | None = None) -> int:
    value = asked.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise UserError(f"{key} must be a whole number, not {value!r}", key=key)
    return value
