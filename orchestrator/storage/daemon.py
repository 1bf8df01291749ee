"""What a storage element does by itself: it tells the catalogue where it is, and deletes what nobody needs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from orchestrator.errors import NotFound
from orchestrator.runtime import logs
from orchestrator.runtime.http import Api
from orchestrator.storage.shelf import Shelf

EVERY = 60.0  # seconds between two rounds


@dataclass(frozen=True)
class Keeper:
    """Looks after one shelf; ``catalogue`` is an Api with the machine's token, ``url`` where clients find it."""

    shelf: Shelf
    catalogue: Api
    site: str
    url: str

    async def step(self) -> float:
        """The catalogue knows this storage element and its free bytes; what it wants removed is gone."""
        name = self.shelf.name
        free = await asyncio.to_thread(self.shelf.free)
        told = {"name": name, "site": self.site, "url": self.url, "free": free}
        await self.catalogue.post("/v1/catalogue/storage", told)
        asked = await self.catalogue.get("/v1/catalogue/removals", se=name)
        pfns = [str(pfn) for pfn in asked["pfns"]]
        if not pfns:
            return EVERY
        for pfn in pfns:
            try:
                await asyncio.to_thread(self.shelf.remove, pfn)
            except NotFound as error:  # no name of ours: there is nothing to remove
                logs.get("se").warning("odd removal", se=name, pfn=pfn, reason=error.message)
        await self.catalogue.post("/v1/catalogue/removed", {"se": name, "pfns": pfns})
        logs.get("se").info("removed", se=name, files=len(pfns))
        return 0.0
