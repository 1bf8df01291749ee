"""The catalogue as transfers see it (``transfers.kind.Replicas``), over ``catalogue.store``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.catalogue import bulk, model, store
from orchestrator.catalogue.model import Placed
from orchestrator.errors import UserError
from orchestrator.runtime.sql import Connection, row, rows
from orchestrator.transfers.decide import Storage
from orchestrator.transfers.model import Content


class CatalogueReplicas:
    """No state: everything is in the caller's transaction."""

    async def files(self, connection: Connection, lfns: Sequence[str]) -> Mapping[str, Placed]:
        return await bulk.lookup(connection, lfns)

    async def may_write(self, connection: Connection, lfn: str, user: str, admin: bool) -> bool:
        return model.may_write(await store.stat(connection, lfn), user, admin)

    async def storage(self, connection: Connection) -> Sequence[Storage]:
        return [Storage(**each) for each in await rows(connection, store.QUERIES["elements"])]

    async def intend(self, connection: Connection, se: str, guid: str) -> bool:
        pfn = model.pfn_of(guid)
        await rows(connection, store.QUERIES["intend"], se=se, pfn=pfn)
        return not await rows(connection, store.QUERIES["doomed_now"], se=se, pfn=pfn)

    async def add(self, connection: Connection, guid: str, content: Content, se: str) -> None:
        held = await rows(connection, store.QUERIES["hold_guid"], guid=guid)
        if not held:
            raise UserError(f"file {guid} was removed from the catalogue meanwhile", guid=guid)
        await store.check_content(connection, guid, content.size, content.md5)
        pfn = model.pfn_of(guid)
        await rows(connection, store.QUERIES["keep"], se=se, pfn=pfn)
        if await row(connection, store.QUERIES["doomed"], se=se, pfn=pfn):
            raise UserError(f"the copy of {guid} on {se} is being deleted; ask for it again", guid=guid)
        await rows(connection, store.QUERIES["add_replica"], guid=guid, se=se, pfn=pfn)

    async def forget(self, connection: Connection, se: str, guid: str) -> bool:
        found = await rows(connection, store.QUERIES["forget_copy"], se=se, pfn=model.pfn_of(guid))
        return bool(found)

    async def gone(self, connection: Connection, se: str, guid: str) -> None:
        await rows(connection, store.QUERIES["removed"], se=se, pfns=[model.pfn_of(guid)])

    def pfn(self, guid: str) -> str:
        return model.pfn_of(guid)
