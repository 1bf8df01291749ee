"""The routes of the file catalogue: the tree, bulk lookups, tags and quotas; ``copies`` and ``elements`` have the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from orchestrator.auth.model import Envelope
from orchestrator.catalogue import asked as ask
from orchestrator.catalogue import bulk, facts, model, store
from orchestrator.catalogue.copies import Copies
from orchestrator.catalogue.elements import Elements
from orchestrator.catalogue.proc import Proc, View
from orchestrator.errors import NotAllowed, UserError
from orchestrator.runtime.sql import Database
from orchestrator.runtime.web import body, caller, number, route


@dataclass(frozen=True)
class Catalogue:
    """The catalogue service of ``vo``: database, signer of envelopes, and who computes /proc."""

    database: Database
    envelope: Envelope
    vo: str
    view: View | None = None

    def routes(self) -> list[Route]:
        """/v1/catalogue/*."""
        reading = (
            ("ls", self.ls), ("stat", self.stat), ("find", self.find), ("whereis", self.whereis), ("quota", self.quota),
        )  # fmt: skip
        writing = (
            ("lookup", self.lookup), ("mkdir", self.mkdir), ("rm", self.rm), ("mv", self.mv), ("tag", self.tag),
            ("untag", self.untag), ("quota", self.set_quota),
        )  # fmt: skip
        return [
            *(route("GET", f"/v1/catalogue/{name}", handler) for name, handler in reading),
            *(route("POST", f"/v1/catalogue/{name}", handler) for name, handler in writing),
            *Copies(self.database, self.envelope, self.vo, self.proc).routes(),
            *Elements(self.database).routes(),
        ]

    @property
    def proc(self) -> Proc:
        return Proc(self.view)

    async def ls(self, request: Request) -> Any:
        who, path = caller(request).require(*ask.PEOPLE), model.clean(ask.path(request))
        if seen := await self.proc.seen(who, path):
            return [each.to_json() for each in (seen.children if seen.entry.is_directory else [seen.entry])]
        async with self.database.transaction() as connection:
            await store.open_home(connection, self.vo, who.user, path)
            found = await store.ls(connection, path or "/")
        if not path:
            found = sorted([*found, *self.proc.top()], key=lambda each: each.path)
        return [each.to_json() for each in found]

    async def stat(self, request: Request) -> Any:
        who, path = caller(request).require(*ask.PEOPLE), model.clean(ask.path(request))
        if seen := await self.proc.seen(who, path):
            return seen.entry.to_json()
        async with self.database.transaction() as connection:
            await store.open_home(connection, self.vo, who.user, path)
            return (await store.stat(connection, path or "/")).to_json()

    async def find(self, request: Request) -> Any:
        """Entries below a directory, by path: ``pattern`` of the name, ``where`` of the tags, behind ``after``."""
        caller(request).require(*ask.PEOPLE)
        path, asked = _kept(request), request.query_params
        pattern, most = asked.get("pattern", "*"), int(number(request, "limit", 10000, 100000))
        condition, after = asked.get("where", ""), asked.get("after", "")
        async with self.database.transaction() as connection:
            found = await store.find(connection, path or "/", pattern, most, condition, after)
        return [entry.to_json() for entry in found]

    async def whereis(self, request: Request) -> Any:
        caller(request).require(*ask.PEOPLE)
        path = _kept(request)
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, path or "/")
            if entry.is_directory:
                raise UserError(
                    f"{entry.path or '/'} is a directory; only files have copies", path=entry.path
                )
            copies = await store.replicas(connection, entry.guid, "")
        return [{"se": c["se"], "site": c["site"], "pfn": c["url"] + c["pfn"]} for c in copies]

    async def lookup(self, request: Request) -> Any:
        """Size, GUID and storage elements of many files; those that are none are absent."""
        caller(request).require(*ask.PEOPLE)
        lfns = ask.texts(await body(request), "lfns", model.MOST)
        async with self.database.transaction() as connection:
            found = await bulk.lookup(connection, lfns)
        return {"files": {lfn: placed.to_json() for lfn, placed in found.items()}}

    async def mkdir(self, request: Request) -> Any:
        who, asked = ask.writer(request), await body(request)
        path = model.clean(ask.text(asked, "path"))
        async with self.database.transaction() as connection:
            await store.open_home(connection, self.vo, who.user, path)
            await store.mkdir(connection, path, who.user, ask.admin(who))
        return {}

    async def rm(self, request: Request) -> Any:
        who, asked = ask.person(request), await body(request)
        async with self.database.transaction() as connection:
            gone = await store.remove(
                connection, ask.text(asked, "path"), who.user, ask.admin(who), bool(asked.get("recursive"))
            )
        return {"removed": gone}

    async def mv(self, request: Request) -> Any:
        who, asked = ask.person(request), await body(request)
        async with self.database.transaction() as connection:
            await store.move(
                connection, ask.text(asked, "path"), ask.text(asked, "to"), who.user, ask.admin(who)
            )
        return {}

    async def tag(self, request: Request) -> Any:
        """The entry has these tags too; all it has then come back."""
        who, asked = ask.writer(request), await body(request)
        tags = asked.get("tags")
        if not isinstance(tags, dict) or not tags:
            raise UserError("tags must be an object of names and values, with one at least")
        async with self.database.transaction() as connection:
            path = ask.text(asked, "path")
            return {"tags": await facts.tag(connection, path, tags, who.user, ask.admin(who))}

    async def untag(self, request: Request) -> Any:
        who, asked = ask.person(request), await body(request)
        names = ask.texts(asked, "names", model.MOST)
        async with self.database.transaction() as connection:
            path = ask.text(asked, "path")
            return {"tags": await facts.untag(connection, path, names, who.user, ask.admin(who))}

    async def quota(self, request: Request) -> Any:
        """What a user has and may have: of oneself, or of anybody for an admin."""
        who = ask.person(request)
        user = request.query_params.get("user") or who.user
        if user != who.user and not ask.admin(who):
            raise NotAllowed(f"{who.user} may look at their own quota, not at that of {user}")
        async with self.database.transaction() as connection:
            return (await facts.quota(connection, user)).to_json()

    async def set_quota(self, request: Request) -> Any:
        """What a user may have; ``most_files`` or ``most_bytes`` null: no limit."""
        caller(request).require("admin")
        asked = await body(request)
        limits = [
            None if asked.get(key) is None else ask.whole(asked, key) for key in ("most_files", "most_bytes")
        ]
        async with self.database.transaction() as connection:
            return (await facts.limit(connection, ask.text(asked, "user"), *limits)).to_json()


def _kept(request: Request) -> str:
    """The clean path of the query; UserError in /proc, where nothing is kept."""
    path = model.clean(ask.path(request))
    if model.in_proc(path):
        raise UserError(f"{path} is computed from the jobs and has no copies; ls and cat show it", path=path)
    return path
