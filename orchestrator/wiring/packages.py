"""An agent's packages: their cache, and the torrent session that serves it, from the first job on that wants one.

Until then nothing of libtorrent is unpacked, loaded or listening: most agents of a busy site never need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import TemporaryError
from orchestrator.software.environment import payload_environment
from orchestrator.software.model import Package
from orchestrator.software.shelf import Shelf

if TYPE_CHECKING:
    from orchestrator.software.install import PackageCache
    from orchestrator.software.torrent.session import Session


class NodePackages:
    """What agent.setup.Packages promises. Close it at the end."""

    def __init__(self, root: Path, listen: str, methods: Sequence[str]) -> None:
        self._root, self._listen, self._methods = root, listen, methods
        self._shelf = Shelf(root)
        self._opening = asyncio.Lock()
        self._torrents: Session | None = None
        self._cache: PackageCache | None = None

    async def ensure(self, package: Package, sources: Sequence[str]) -> Path:
        """As PackageCache.ensure."""
        async with self._opening:
            if self._cache is None:
                self._cache = await asyncio.to_thread(self._open)
        return await self._cache.ensure(package, sources)

    def release(self, package: Package) -> None:
        """As PackageCache.release."""
        if self._cache is not None:
            self._cache.release(package)

    def environment(
        self, releases: Sequence[tuple[Package, Path]], base: Mapping[str, str]
    ) -> dict[str, str]:
        """A payload's environment with these packages (as ``ensure`` gave them)."""
        return payload_environment([(package.name, path) for package, path in releases], base)

    def installed(self) -> list[str]:
        """As PackageCache.installed."""
        return self._shelf.installed()

    def close(self) -> None:
        """Nothing is leased or seeded by this agent any more."""
        if self._cache is not None:
            self._cache.close()
        if self._torrents is not None:
            self._torrents.close()

    def _open(self) -> PackageCache:
        try:
            from orchestrator.software.install import PackageCache
            from orchestrator.software.torrent.session import Session
        except OSError as error:  # the agent file's libtorrent is unpacked by its first import
            raise TemporaryError(f"libtorrent cannot be unpacked here: {error}", retry_in=10) from error
        if "torrent" in self._methods and self._torrents is None:
            self._torrents = Session(f"{self._listen}:0")
        return PackageCache(self._root, session=self._torrents, methods=self._methods)
