"""Routes by which files come to storage elements and are read there: write, register, read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from orchestrator.auth.model import Envelope
from orchestrator.catalogue import asked as ask
from orchestrator.catalogue import facts, model, store
from orchestrator.catalogue.model import Output
from orchestrator.catalogue.proc import Proc
from orchestrator.errors import UserError
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.sql import Database, rows
from orchestrator.runtime.web import body, caller, route


@dataclass(frozen=True)
class Copies:
    """Placing and finding the copies of files, with envelopes."""

    database: Database
    envelope: Envelope
    vo: str
    proc: Proc

    def routes(self) -> list[Route]:
        """/v1/catalogue/{write,register,read}."""
        handlers = (("write", self.write), ("register", self.register), ("read", self.read))
        return [route("POST", f"/v1/catalogue/{name}", handler) for name, handler in handlers]

    async def write(self, request: Request) -> Any:
        """Where the caller may put a file: nothing is registered until ``register`` or a DONE report.

        ``se`` is a name or a list of names, ``copies`` how many writes are wanted (default: one for each
        name, at least one); fewer come back when fewer storage elements have room. ``guid`` asks for
        further copies of that file.
        """
        who, asked = ask.writer(request), await body(request)
        size, md5 = ask.whole(asked, "size"), ask.text(asked, "md5")
        model.check_md5(md5)
        known = model.clean_guid(str(asked["guid"])) if asked.get("guid") else ""
        guid = known or model.new_guid(SystemClock().now(), secrets.randbits(66))
        names = asked.get("se") or []
        names = [str(name) for name in ([names] if isinstance(names, str) else names)]
        copies = ask.whole(asked, "copies", max(1, len(names)))
        async with self.database.transaction() as connection:
            lfn = model.clean(ask.text(asked, "lfn"))
            await store.open_home(connection, self.vo, who.user, lfn)
            await store.check_new(connection, lfn, who.user, ask.admin(who), same=known)
            await store.check_content(connection, guid, size, md5)
            if not known:
                (await facts.quota(connection, who.user)).check(1, size)
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
        who, asked = ask.writer(request), await body(request)
        model.check_md5(ask.text(asked, "md5"))
        outputs = [Output.from_json({**asked, **copy}) for copy in asked.get("replicas", ())]
        if not outputs:
            raise UserError(f"{asked.get('lfn')} has no replica to register")
        async with self.database.transaction() as connection:
            await store.open_home(connection, self.vo, who.user, model.clean(ask.text(asked, "lfn")))
            await store.register(connection, outputs, who.user, ask.admin(who))
        return {}

    async def read(self, request: Request) -> Any:
        """Where a file can be read, closest to the caller's site first, each with its envelope.

        What is below /proc comes along as ``content``.
        """
        who, asked = caller(request).require(*ask.PEOPLE), await body(request)
        lfn = model.clean(ask.text(asked, "lfn"))
        if seen := await self.proc.seen(who, lfn):
            return {**seen.file().to_json(), "reads": [], "content": seen.content}
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, lfn or "/")
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
