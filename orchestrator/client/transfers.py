"""Copies of files to storage elements from a program: over ``transfers.client``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.catalogue import client as catalogue
from orchestrator.client import copying
from orchestrator.client.files import Files
from orchestrator.client.following import Followed
from orchestrator.errors import UserError
from orchestrator.transfers import client, model

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

Json = dict[str, Any]
Rows = list[Json]  # by this name, since a method is called list


@dataclass(frozen=True)
class Transfer(Followed):
    """One transfer by its number. ``row``: what its request was answered ({lfn, task, state, new})."""

    connection: Connection = field(repr=False)
    number: int
    row: Json = field(default_factory=dict)

    async def show(self) -> Json:
        """All about it, with its steps and events."""
        return await client.show(self.connection.central, self.number)

    async def why(self) -> Json:
        """What it waits for: {"state", "reasons"}."""
        return await client.why(self.connection.central, self.number)

    async def follow(self) -> AsyncIterator[Json]:
        """Every event, as it happens, to its end."""
        async for event in client.watch(self.connection.central, self.number):
            yield event
            new = event["new"]
            if new in model.FINAL - {model.LOST}:
                return
            if new == model.LOST and (await self.show())["state"] == model.LOST:  # else another FTD tries
                return

    async def kill(self) -> str:
        """Its state afterwards."""
        return await client.kill(self.connection.central, self.number)


@dataclass(frozen=True)
class Transfers:
    """All transfers that you may see."""

    connection: Connection = field(repr=False)

    def __getitem__(self, number: int) -> Transfer:
        """The transfer of that number; whether there is one is told by the first call."""
        return Transfer(self.connection, number)

    async def mirror(
        self, *names: str, to: str, kind: str = model.MIRROR, recursive: bool = False
    ) -> Sequence[Transfer]:
        """Files come to the storage element ``to``, a transfer for each; with ``recursive`` all below the directories.

        What is under way already is not asked for twice. ``kind``: mirror (one more replica), master_copy (the main
        one) or cache (not registered).
        """
        lfns = [Files(self.connection).lfn(name) for name in names]
        wanted = await self._below(lfns) if recursive else lfns
        made = await client.submit(self.connection.central, wanted, to, kind)
        return [Transfer(self.connection, int(each["task"]), each) for each in made]

    async def _below(self, lfns: Sequence[str]) -> Sequence[str]:
        found, central = [], self.connection.central
        for lfn in lfns:
            found += [each.path for each in await copying.tree(central, await catalogue.stat(central, lfn))]
        if not found:
            raise UserError(f"there is no file below {', '.join(lfns)}")
        return found

    async def list(
        self,
        *,
        state: str | None = None,
        owner: str | None = None,
        lfn: str | None = None,
        to: str | None = None,
        limit: int | None = None,
    ) -> Rows:
        """Transfers, newest first (``transfers.client.listing``). ``owner``: you when it is not given, "all" for everybody."""
        whose = None if owner == "all" else owner or self.connection.user
        file = None if lfn is None else Files(self.connection).lfn(lfn)
        return await client.listing(
            self.connection.central, state=state, owner=whose, lfn=file, destination=to, limit=limit
        )
