"""Routes of storage elements: they announce themselves, are told what to delete, and are near or far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from orchestrator.catalogue import asked as ask
from orchestrator.catalogue import facts, store
from orchestrator.errors import NotAllowed, UserError
from orchestrator.runtime.sql import Database
from orchestrator.runtime.web import Caller, body, caller, route


@dataclass(frozen=True)
class Elements:
    """The storage elements of the VO."""

    database: Database

    def routes(self) -> list[Route]:
        """/v1/catalogue/{storage,removals,removed,distance}."""
        return [
            route("POST", "/v1/catalogue/storage", self.storage),
            route("GET", "/v1/catalogue/removals", self.removals),
            route("POST", "/v1/catalogue/removed", self.removed),
            route("GET", "/v1/catalogue/distance", self.distances),
            route("POST", "/v1/catalogue/distance", self.set_distance),
        ]

    async def storage(self, request: Request) -> Any:
        who, asked = caller(request).require("vobox"), await body(request)
        values = {key: ask.text(asked, key) for key in ("name", "site", "url")}
        if who.claims.get("site", values["site"]) != values["site"]:
            raise NotAllowed(f"{who.subject} is of site {who.claims['site']}, not of {values['site']}")
        free = ask.whole(asked, "free", 0)
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
        await self._its_site(who, ask.text(asked, "se"))
        await self.database.rows(
            store.QUERIES["removed"], se=ask.text(asked, "se"), pfns=list(asked.get("pfns", ()))
        )
        return {}

    async def distances(self, request: Request) -> Any:
        """Every storage element, the closest to a site (default: the caller's) first."""
        who = caller(request).require(*ask.PEOPLE, "vobox")
        site = request.query_params.get("site") or str(who.claims.get("site") or "")
        async with self.database.transaction() as connection:
            return [dict(one) for one in await facts.distances(connection, site)]

    async def set_distance(self, request: Request) -> Any:
        """How far a storage element is from a site; ``distance`` null: as far as the sites tell."""
        caller(request).require("admin")
        asked = await body(request)
        value = asked.get("distance")
        if value is not None and (
            not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= facts.FARTHEST
        ):
            raise UserError(f"a distance is a number from 0 (at hand) to {facts.FARTHEST:g}, not {value!r}")
        async with self.database.transaction() as connection:
            await facts.set_distance(connection, ask.text(asked, "site"), ask.text(asked, "se"), value)
        return {}

    async def _its_site(self, who: Caller, se: str) -> None:
        """NotAllowed when the storage element ``se`` is another site's than the caller's."""
        found = await self.database.rows(store.QUERIES["site_of_storage"], se=se)
        site = who.claims.get("site") or who.name
        if found and found[0]["site"] != site:
            raise NotAllowed(f"{who.subject} is of site {site}, {se} of {found[0]['site']}", se=se)
