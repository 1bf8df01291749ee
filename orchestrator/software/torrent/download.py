"""Plain HTTP download of one file: resumed where it broke off, checked before it gets its name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from orchestrator.errors import PermanentError, TemporaryError

_CHUNK = 1 << 20
Progress = Callable[[int, int], None]


async def download(
    urls: Sequence[str],
    into: Path,
    *,
    size: int,
    sha256: str,
    client: httpx.AsyncClient,
    progress: Progress | None = None,
) -> int:
    """``into`` is the whole, checked file; gives the bytes that came over the network.

    URLs are tried in order. What an earlier try left in ``into``.part is kept and continued (HTTP
    Range). TemporaryError when no URL gave the file, PermanentError when all gave a wrong one.
    """
    reasons: dict[str, str] = {}
    wrong = received = 0
    for url in urls:
        part = into.with_name(into.name + ".part")
        try:
            received += await _continue(url, part, size, client, progress)
        except httpx.HTTPError as failed:
            reasons[url] = str(failed) or type(failed).__name__
            continue
        except OSError as failed:
            raise TemporaryError(f"can't write {part}: {failed}", retry_in=60, path=str(part)) from failed
        found = await asyncio.to_thread(_digest, part)
        if found == sha256:
            part.replace(into)
            return received
        wrong += 1
        part.unlink()
        reasons[url] = f"checksum {found} instead of {sha256}"
    told = "; ".join(f"{url}: {reason}" for url, reason in reasons.items()) or "no URL is known"
    if wrong and wrong == len(urls):
        raise PermanentError(f"{into.name} is damaged or changed at every source: {told}", reasons=reasons)
    raise TemporaryError(f"no server gave {into.name}: {told}", retry_in=10, reasons=reasons)


async def _continue(
    url: str, part: Path, size: int, client: httpx.AsyncClient, progress: Progress | None
) -> int:
    """``part`` has ``size`` bytes; gives how many of them came now."""
    have = part.stat().st_size if part.exists() else 0
    if have == size:
        return 0
    if have > size:
        part.unlink()
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    received = 0
    async with client.stream("GET", url, headers=headers) as answer:
        answer.raise_for_status()
        if have and (answer.status_code != 206 or not _continues(answer, have)):
            have = 0  # the server sends the file from its beginning
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            async for data in answer.aiter_raw(_CHUNK):
                if have + received + len(data) > size:
                    raise httpx.RemoteProtocolError(f"more than the expected {size} bytes")
                await asyncio.to_thread(file.write, data)
                received += len(data)
                if progress is not None:
                    progress(have + received, size)
    if have + received != size:
        raise httpx.RemoteProtocolError(f"ended after {have + received} of {size} bytes")
    return received


def _continues(answer: httpx.Response, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
