"""What the job optimizer's suggestions need of the other components (``jobs.kind.Surroundings``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs.suggest import Element
from orchestrator.runtime.sql import Connection, Database
from orchestrator.software import store as software
from orchestrator.tasks.hub import Hub
from orchestrator.transfers import compose
from orchestrator.transfers.kind import TransferKind
from orchestrator.transfers.model import MIRROR
from orchestrator.transfers.service import Transfers, Who


@dataclass(frozen=True)
class GridSurroundings:
    """Storage elements and copies as transfers know them, packages as the release managers published them."""

    transfers: Transfers

    @classmethod
    def over(cls, database: Database, kind: TransferKind) -> GridSurroundings:
        """``kind`` has its replicas. Nobody waits for events here, so the hub hears of none."""
        return cls(compose.service(database, Hub(database, []), kind))

    async def storage(self, connection: Connection) -> Mapping[str, Element]:
        """All storage elements by name."""
        found = await self.transfers.replicas.storage(connection)
        return {each.name: Element(each.name, each.free, each.alive) for each in found}

    async def published(self, connection: Connection, packages: Sequence[str]) -> set[str]:
        """Those of these packages that the VO has."""
        return await software.known(connection, packages)

    async def mirror(self, user: str, lfns: Sequence[str], se: str) -> list[dict[str, Any]]:
        """``user`` asks for one more replica of each file on ``se``."""
        return await self.transfers.submit(Who(user), lfns, se, MIRROR)
