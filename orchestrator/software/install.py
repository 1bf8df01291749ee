"""The packages of one node: fetched once, checked, unpacked, shared by its agents, given on to others.

The agent imports this: nothing beyond libtorrent and httpx. The files are ``shelf``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.software.archive import unpack
from orchestrator.software.locks import FileLock
from orchestrator.software.model import Package
from orchestrator.software.shelf import Shelf, key_of
from orchestrator.software.torrent.download import Progress
from orchestrator.software.torrent.fetch import FetchResult, fetch
from orchestrator.software.torrent.patience import Patience
from orchestrator.software.torrent.session import Session, Torrent, file_of

METHODS = ("cvmfs", "torrent", "http")


class PackageCache:
    """The node's packages, for one agent process; call ``close`` at its end. The session is the caller's.

    ``limit``: bytes the cache may take, as far as what is in use allows; None for no limit.
    ``methods``: those of METHODS that may be used. ``mounts``: where CernVM-FS is mounted.
    Without ``session`` nothing comes or goes by torrent. ``on_fetch`` is told of every fetch.
    """

    def __init__(
        self,
        root: Path,
        *,
        session: Session | None = None,
        limit: int | None = None,
        methods: Sequence[str] = METHODS,
        mounts: Path = Path("/cvmfs"),
        trackers: Sequence[str] = (),
        client: httpx.AsyncClient | None = None,
        patience: Patience = Patience(),
        timeout: float = 1800.0,
        on_fetch: Callable[[Package, FetchResult], None] | None = None,
    ) -> None:
        self._shelf = Shelf(root)
        self._session = session if "torrent" in methods else None
        self._limit = limit
        self._methods = tuple(methods)
        self._mounts = mounts
        self._trackers = tuple(trackers)
        self._client = client
        self._patience = patience
        self._timeout = timeout
        self._on_fetch = on_fetch
        self._leases: dict[str, list[FileLock]] = {}
        self._seeding: dict[str, tuple[FileLock, Torrent]] = {}

    async def ensure(
        self, package: Package, sources: Sequence[str], *, progress: Progress | None = None
    ) -> Path:
        """The release's directory, whole and checked, leased until ``release``.

        ``sources`` are URLs of the archive. TemporaryError when no source gave it or the disk is
        full, PermanentError when the package itself is broken. Agents of one node may call at once:
        one fetches, the others wait for it.
        """
        mounted = self._mounts / package.fqrn / package.path
        if "cvmfs" in self._methods and package.fqrn and await asyncio.to_thread(mounted.is_dir):
            return mounted
        key = key_of(package)
        lock, lease = self._shelf.lock(key, "install"), self._shelf.lock(key, "lease")
        await lock.exclusive()
        try:
            if not lease.try_shared():
                raise TemporaryError(f"package {package.spelling} is being removed", retry_in=1)
            await self._install(key, package, sources, progress)
        except BaseException:
            lease.release()
            raise
        finally:
            lock.release()
        self._leases.setdefault(key, []).append(lease)
        await self.evict()
        return self._shelf.release(key)

    def release(self, package: Package) -> None:
        """One ``ensure`` of the package is over; with the last one it may be evicted."""
        if leases := self._leases.get(key_of(package)):
            leases.pop().release()

    def installed(self) -> list[str]:
        """ "NAME::VERSION" of each package that is ready here, for the agent's ad."""
        return self._shelf.installed()

    async def evict(self, need: int = 0) -> list[str]:
        """What is least recently used and not in use is gone until ``need`` more bytes fit; gives the keys."""
        limit = self._limit
        if limit is None:
            return []
        return await asyncio.to_thread(lambda: self._shelf.evict(limit, need, self._stop_seeding))

    def close(self) -> None:
        """No lease is held and no package is seeded by this cache any more."""
        for leases in self._leases.values():
            for lease in leases:
                lease.release()
        self._leases.clear()
        for key in list(self._seeding):
            self._stop_seeding(key)

    async def _install(
        self, key: str, package: Package, sources: Sequence[str], progress: Progress | None
    ) -> None:
        name, size = file_of(package.torrent)
        if size != package.size:
            raise PermanentError(
                f"package {package.spelling}: its torrent is of another archive", package=package.spelling
            )
        fetched: Torrent | None = None
        if not self._shelf.ready(key):
            await self.evict(package.size)
            # If it was seeded, another agent evicted it: the session would think it still has the file.
            self._stop_seeding(key)
            await asyncio.to_thread(self._shelf.clear, key)
            result = await fetch(
                package.torrent,
                self._shelf.archive(key),
                session=self._session,
                sha256=package.sha256,
                http_urls=sources if "http" in self._methods else (),
                trackers=self._trackers,
                client=self._client,
                patience=self._patience,
                timeout=self._timeout,
                progress=progress,
            )
            fetched = result.torrent
            try:
                await _to_its_end(lambda: self._unpack(key, package, name))
            except BaseException as failed:
                if fetched is not None and self._session is not None:
                    self._session.remove(fetched)
                if isinstance(failed, PermanentError):
                    await asyncio.to_thread(self._shelf.spoil, key)
                raise
            if self._on_fetch is not None:
                self._on_fetch(package, result)
        self._shelf.touch(key)
        await asyncio.to_thread(self._seed, key, package, fetched)

    def _unpack(self, key: str, package: Package, name: str) -> None:
        unpack(self._shelf.archive(key) / name, self._shelf.release(key), sha256=package.sha256)
        self._shelf.finish(key, package)

    def _seed(self, key: str, package: Package, fetched: Torrent | None) -> None:
        """The node seeds it: this process, unless another one of the node does already."""
        if self._session is None:
            return
        if key in self._seeding:
            if not self._seeding[key][1].standing().error:
                return
            self._stop_seeding(key)  # another agent had evicted its files; they have come again
        lock = self._shelf.lock(key, "seed")
        if lock.try_exclusive():
            archive = self._shelf.archive(key)
            torrent = self._session.add(
                package.torrent, archive, verified=True, upload_only=True, trackers=self._trackers
            )
            self._seeding[key] = (lock, torrent)
        elif fetched is not None:
            self._session.remove(fetched)

    def _stop_seeding(self, key: str) -> None:
        if key in self._seeding:
            lock, torrent = self._seeding.pop(key)
            if self._session is not None:
                self._session.remove(torrent)
            lock.release()


async def _to_its_end(work: Callable[[], None]) -> None:
    """In a thread. A cancellation waits for it: no lock may be let go while it still writes."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
