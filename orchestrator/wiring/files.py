"""The catalogue as jobs see it (``jobs.kind.Catalogue``), over ``catalogue.store`` and the storage elements."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from orchestrator.auth.model import Envelope
from orchestrator.catalogue import bulk, client, facts, store
from orchestrator.catalogue.model import Output, Placed
from orchestrator.errors import NotFound, PermanentError
from orchestrator.runtime.sql import Connection, Database

LARGEST_TEXT = 8 << 20  # bytes of a JDL or collection in the catalogue


@dataclass(frozen=True)
class CatalogueFiles:
    """``admin`` owns the top of the catalogue."""

    database: Database
    envelope: Envelope
    tls: ssl.SSLContext
    vo: str
    admin: str

    async def register(self, connection: Connection, outputs: Sequence[Output], owner: str) -> None:
        """Every output is an entry of ``owner`` with its replica; their home exists."""
        await store.ensure_home(connection, self.vo, owner, self.admin)
        await store.register(connection, outputs, owner)

    async def exists(self, connection: Connection, lfn: str) -> bool:
        """Whether ``lfn`` is a file."""
        return await store.exists(connection, lfn)

    async def placed(self, connection: Connection, lfns: Sequence[str]) -> Mapping[str, Placed]:
        """The files among ``lfns``, with their sizes and storage elements."""
        return await bulk.lookup(connection, lfns)

    async def sites(self, connection: Connection) -> Mapping[str, str]:
        """The site of every storage element."""
        return {str(one["se"]): str(one["site"]) for one in await facts.distances(connection, "")}

    async def remove(self, connection: Connection, lfns: Sequence[str]) -> None:
        """These files are not in the catalogue."""
        for lfn in lfns:
            if await store.exists(connection, lfn):
                await store.remove(connection, lfn, self.admin, admin=True)

    async def read_text(self, lfn: str) -> str:
        """The content of a small text file, from its closest storage element."""
        async with self.database.transaction() as connection:
            entry = await store.stat(connection, lfn)
            copies = await store.replicas(connection, entry.guid, "") if entry.guid else []
        if not copies:
            raise NotFound(f"{lfn} is not a file with a replica", lfn=lfn)
        if entry.size > LARGEST_TEXT:
            raise PermanentError(
                f"{lfn} has {entry.size} bytes; a JDL or collection has {LARGEST_TEXT} at most", lfn=lfn
            )
        reads = [
            client.Read(
                c["se"],
                c["url"] + c["pfn"],
                self.envelope(f"{c['se']}:{c['pfn']}", "GET", entry.size, entry.md5),
            )
            for c in copies
        ]
        with tempfile.TemporaryDirectory() as folder:
            async with httpx.AsyncClient(verify=self.tls, trust_env=False) as http:
                target = Path(folder) / "text"
                await client.fetch(http, lfn, reads, (entry.size, entry.md5), target)
                return target.read_text()
