"""Getting one file onto this node: from peers, then with web seeds, then by plain HTTP; then giving it on.

The agent imports this: nothing beyond libtorrent and httpx.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from orchestrator.errors import TemporaryError
from orchestrator.software.torrent.download import Progress, download
from orchestrator.software.torrent.patience import Patience
from orchestrator.software.torrent.session import Session, Source, Torrent, file_of, web_seeds_of

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class FetchResult:
    """Where the bytes came from (they add up to the file's size, less what was already here).

    ``by_address``: bytes from each peer's address as last seen; who gave little and left at once may
    be missing (the giver's own count is exact). ``torrent`` seeds the file now; None without session.
    """

    path: Path
    torrent: Torrent | None
    seconds: float
    from_peers: int
    from_web: int
    from_http: int
    by_address: dict[str, int]


@dataclass(slots=True)
class _Tally:
    """Bytes by source, over reconnections: libtorrent counts from zero for each connection."""

    last: dict[tuple[str, int, bool], int] = field(default_factory=dict)
    gone: dict[tuple[str, int, bool], int] = field(default_factory=dict)

    def see(self, sources: Sequence[Source]) -> None:
        for source in sources:
            key = (source.address, source.port, source.web)
            if source.received < self.last.get(key, 0):
                self.gone[key] = self.gone.get(key, 0) + self.last[key]
            self.last[key] = source.received

    def seen(self) -> int:
        """All bytes seen so far, verified or not."""
        return sum(self.last.values()) + sum(self.gone.values())

    def total(self, *, web: bool) -> dict[str, int]:
        totals: dict[str, int] = {}
        for key, received in self.last.items():
            if key[2] is web and received + self.gone.get(key, 0):
                totals[key[0]] = totals.get(key[0], 0) + received + self.gone.get(key, 0)
        return totals


async def fetch(
    torrent: bytes,
    into: Path,
    *,
    session: Session | None,
    sha256: str,
    http_urls: Sequence[str] = (),
    trackers: Sequence[str] = (),
    client: httpx.AsyncClient | None = None,
    patience: Patience = Patience(),
    timeout: float = 600.0,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FetchResult:
    """The torrent's file stands whole and checked in the directory ``into`` and is seeded by ``session``.

    Without a session it comes by HTTP alone and is not seeded.
    ``progress(done, total)`` in bytes. TemporaryError when no source gave it within ``timeout``
    seconds; what has come stays for the next try. Cancelled: the session leaves the torrent.
    """
    began = clock()
    name, size = file_of(torrent)
    await asyncio.to_thread(into.mkdir, parents=True, exist_ok=True)
    tally, done = _Tally(), False
    joined: Torrent | None = None
    here: int | None = None
    from_http = 0
    try:
        async with asyncio.timeout(timeout):
            if session is not None:
                joined = await asyncio.to_thread(
                    session.add, torrent, into, trackers=trackers, web_seeds=False
                )
                here = await _by_torrent(
                    joined, tally, web_seeds_of(torrent), len(http_urls), patience, progress, clock
                )
                if here is None:
                    await asyncio.to_thread(session.remove, joined)
                else:
                    await asyncio.to_thread(session.write_out, joined)
            if here is None:
                from_http = await _by_http(http_urls, into / name, size, sha256, client, progress)
                if session is not None:
                    joined = await asyncio.to_thread(
                        session.add, torrent, into, verified=True, upload_only=True, trackers=trackers
                    )
            done = True
    except TimeoutError as late:
        raise TemporaryError(f"{name} did not come within {timeout:.0f} s", retry_in=30, name=name) from late
    finally:
        if not done and session is not None and joined is not None:
            session.remove(joined)
    peers, web = tally.total(web=False), sum(tally.total(web=True).values())
    if here is None:
        return FetchResult(into / name, joined, clock() - began, 0, 0, from_http, {})
    # A peer that left between two looks gave a little more than was seen: the sum is what is certain.
    fetched = size - here
    web = min(web, fetched)
    return FetchResult(into / name, joined, clock() - began, fetched - web, web, 0, peers)


async def _by_torrent(
    joined: Torrent,
    tally: _Tally,
    web_seeds: Sequence[str],
    http_urls: int,
    patience: Patience,
    progress: Progress | None,
    clock: Callable[[], float],
) -> int | None:
    """Bytes that were here before (found whole by hash), once the file is complete; None: use HTTP."""
    before: int | None = None
    done, changed, web_added = -1, clock(), False
    while True:
        standing, sources = await asyncio.to_thread(lambda: (joined.standing(), joined.sources()))
        tally.see(sources)
        now = clock()
        if standing.checking:
            changed = now
        else:
            before = max(0, standing.done - tally.seen()) if before is None else before
        if standing.done != done:
            done, changed = standing.done, now
            if progress is not None:
                progress(done, standing.total)
        if standing.complete:
            return before or 0
        if standing.error:
            if http_urls:
                return None
            raise TemporaryError(f"torrent of {joined.name}: {standing.error}", retry_in=30, name=joined.name)
        step = patience.step(
            now - changed, web_seeds=len(web_seeds), web_added=web_added, http_urls=http_urls
        )
        if step == "http":
            return None
        if step == "web":
            web_added = True
            await asyncio.to_thread(joined.add_web_seeds, web_seeds)
        await asyncio.sleep(_POLL)


async def _by_http(
    urls: Sequence[str],
    path: Path,
    size: int,
    sha256: str,
    client: httpx.AsyncClient | None,
    progress: Progress | None,
) -> int:
    if client is not None:
        return await download(urls, path, size=size, sha256=sha256, client=client, progress=progress)
    async with httpx.AsyncClient(timeout=httpx.Timeout(30.0, connect=5.0), trust_env=False) as own:
        return await download(urls, path, size=size, sha256=sha256, client=own, progress=progress)
