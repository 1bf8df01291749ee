"""One file to or from a storage element, in blocks, by HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from orchestrator.errors import PermanentError, TemporaryError

if TYPE_CHECKING:
    import httpx

BLOCK = 1 << 20  # bytes read or written at once
Progress = Callable[[int], None]  # told how many bytes went since the last time
Source = Path | Callable[[], BinaryIO]  # a local file, or what opens it (each time anew)


def opened(source: Source) -> BinaryIO:
    """The local file, open for reading."""
    return source.open("rb") if isinstance(source, Path) else source()


async def upload(
    http: httpx.AsyncClient, url: str, envelope: str, source: Source, size: int, progress: Progress | None
) -> None:
    """The file is at ``url``. PermanentError when its storage element refuses, TemporaryError when it is away."""
    import httpx

    async def blocks() -> AsyncIterator[bytes]:
        with opened(source) as stream:
            while block := await asyncio.to_thread(stream.read, BLOCK):
                yield block
                if progress is not None:
                    progress(len(block))

    headers = {"Authorization": f"Bearer {envelope}", "Content-Length": str(size)}
    content: AsyncIterator[bytes] | bytes = blocks() if size else b""
    try:
        answer = await http.put(
            url, content=content, headers=headers, timeout=httpx.Timeout(60.0, connect=5.0)
        )
    except httpx.TransportError as error:
        raise TemporaryError(f"{url} does not answer: {type(error).__name__} {error}", url=url) from error
    _check(answer, url)


async def download(
    http: httpx.AsyncClient, url: str, envelope: str, out: BinaryIO, progress: Progress | None
) -> tuple[int, str]:
    """What is at ``url`` is written to ``out``: its bytes and MD5. Errors as for ``upload``."""
    import httpx

    md5, size = hashlib.md5(usedforsecurity=False), 0
    headers = {"Authorization": f"Bearer {envelope}"}
    try:
        async with http.stream(
            "GET", url, headers=headers, timeout=httpx.Timeout(60.0, connect=5.0)
        ) as answer:
            if not answer.is_success:
                await answer.aread()
                _check(answer, url)
            async for block in answer.aiter_bytes(BLOCK):
                md5.update(block)
                size += len(block)
                out.write(block)
                if progress is not None:
                    progress(len(block))
    except httpx.TransportError as error:
        raise TemporaryError(f"{url} does not answer: {type(error).__name__} {error}", url=url) from error
    return size, md5.hexdigest()


def _check(answer: httpx.Response, url: str) -> None:
    if answer.is_success:
        return
    kind = TemporaryError if answer.status_code in (429, 502, 503, 504, 507) else PermanentError
    raise kind(
        f"{url} answered {answer.status_code}: {answer.text[:200]}", url=url, status=answer.status_code
    )
