"""Files of the grid from a program: over ``catalogue.client``. Names that do not begin with / start at your home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.catalogue import client, model
from orchestrator.catalogue.model import Entry, Value
from orchestrator.client import copying
from orchestrator.client.copying import Step

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection

Json = dict[str, Any]


def _quiet(_bytes: int) -> None:
    """Nobody wants to know how far it is."""


@dataclass(frozen=True)
class Files:
    """The catalogue and what it holds."""

    connection: Connection = field(repr=False)

    @property
    def home(self) -> str:
        """Your home directory, /VO/user/L/LOGIN."""
        return model.home(self.connection.vo, self.connection.user)

    def lfn(self, name: str) -> str:
        """The absolute LFN of a name: relative ones and ~ start at your home."""
        return copying.absolute(name, self.home)

    async def ls(self, name: str = "") -> list[Entry]:
        """What a directory holds, or the file itself."""
        return await client.ls(self.connection.central, self.lfn(name))

    async def stat(self, name: str) -> Entry:
        """One entry; NotFound when there is none."""
        return await client.stat(self.connection.central, self.lfn(name))

    async def find(self, name: str = "", pattern: str = "*", where: str = "") -> list[Entry]:
        """Files below a directory whose names match; with ``where`` what has such tags: ``run > 1000 && pass == "p2"``."""
        return await client.find(self.connection.central, self.lfn(name), pattern, where)

    async def whereis(self, name: str) -> list[Json]:
        """se, site and pfn of every copy."""
        return await client.whereis(self.connection.central, self.lfn(name))

    async def read(self, name: str) -> bytes:
        """The content of a file of at most 64 MiB."""
        return await client.read_bytes(self.connection.central, self.lfn(name))

    async def get(self, name: str, to: str | Path = ".", progress: Step = _quiet) -> list[Json]:
        """A file, or a directory with all in it, is on this computer: {lfn, path, size} of each file.

        ``to``: its new name, or a directory to put it in. ``progress`` is told the bytes as they come.
        """
        entry = await self.stat(name)
        files = await copying.tree(self.connection.central, entry)
        return await self.fetch(entry, files, Path(to), progress)

    async def fetch(self, entry: Entry, files: list[Entry], to: Path, progress: Step = _quiet) -> list[Json]:
        """The same for an entry and the files that it holds, known already."""
        target = to / (entry.name or self.connection.vo) if to.is_dir() else to
        return await copying.download(self.connection.central, entry, files, target, progress)

    async def put(
        self, source: str | Path, name: str = "~", se: str = "", copies: int = 1, progress: Step = _quiet
    ) -> list[Json]:
        """A local file, or a directory with all in it, is on the grid: {lfn, guid, size, se, new} of each file.

        ``name``: its new name, or a directory to put it in. What is there already with the same content is passed
        over (``new`` is False). ``progress`` is told the bytes as they go, those of each copy.
        """
        path, central = Path(source), self.connection.central
        files = copying.local(path)
        target = await copying.landing(central, path.resolve().name, name, self.home)
        if path.is_dir():
            await client.mkdir(central, target)
        return await copying.upload(central, files, target, se, copies, progress)

    async def mkdir(self, name: str) -> None:
        """The directory and those above it exist."""
        await client.mkdir(self.connection.central, self.lfn(name))

    async def rm(self, name: str, *, recursive: bool = False) -> int:
        """The entry is gone; how many went."""
        return await client.rm(self.connection.central, self.lfn(name), recursive)

    async def mv(self, name: str, to: str) -> None:
        """The entry has a new name, or is in the directory ``to``."""
        old = self.lfn(name)
        target = await copying.landing(self.connection.central, old.rpartition("/")[2], to, self.home)
        await client.mv(self.connection.central, old, target)

    async def tag(self, name: str, tags: Mapping[str, Value]) -> dict[str, Value]:
        """The entry has these tags too; all it has then."""
        return await client.tag(self.connection.central, self.lfn(name), tags)

    async def untag(self, name: str, tags: Sequence[str]) -> dict[str, Value]:
        """The entry has these tags no more; those it has still."""
        return await client.untag(self.connection.central, self.lfn(name), tags)
