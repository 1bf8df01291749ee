"""The ends of streams: our storage elements over https, and plain files."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.transfers.model import Content, Place

BLOCK = 1 << 20  # bytes
_TIMES = httpx.Timeout(60.0, connect=5.0)
_PASSING = (408, 429, 500, 502, 503, 504, 507)


class Https:
    """A storage element; what may be done at a place its envelope says."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def holds(self, place: Place, content: Content) -> bool:
        """By HEAD; a storage element that gives digests (RFC 9530) is taken at its word."""
        headers = _permit(place) | {"Want-Repr-Digest": "md5=10"}
        with _answering(place):
            answer = await self.http.head(place.url, headers=headers, timeout=_TIMES)
        if answer.status_code == 404:
            return False
        _check(answer, place)
        digest = answer.headers.get("Repr-Digest")
        wanted = f"md5=:{base64.b64encode(bytes.fromhex(content.md5)).decode()}:"
        return answer.headers.get("Content-Length") == str(content.size) and digest in (None, wanted)

    async def remove(self, place: Place) -> None:
        with _answering(place):
            answer = await self.http.delete(place.url, headers=_permit(place), timeout=_TIMES)
        if answer.status_code != 404:
            _check(answer, place)

    async def read(self, place: Place, content: Content, offset: int) -> AsyncGenerator[bytes, None]:
        headers = _permit(place) | ({"Range": f"bytes={offset}-"} if offset else {})
        with _answering(place):
            async with self.http.stream("GET", place.url, headers=headers, timeout=_TIMES) as answer:
                if not answer.is_success:
                    await answer.aread()
                    _check(answer, place)
                length = answer.headers.get("Content-Length")
                whole = answer.headers.get("Content-Range", "").rpartition("/")[2] or length
                if whole not in (None, "*", str(content.size)):
                    raise PermanentError(f"{place.se} has {whole} bytes of it, not {content.size}")
                skip = (
                    offset if answer.status_code == 200 else 0
                )  # no ranges there: read over what came before
                async for block in answer.aiter_bytes(BLOCK):
                    fresh = block[min(skip, len(block)) :]
                    skip -= len(block) - len(fresh)
                    if fresh:
                        yield fresh

    async def kept(self, _place: Place, _content: Content) -> AsyncIterator[bytes] | None:
        return None  # a storage element has files whole or not at all

    async def discard(self, _place: Place) -> None:
        return None

    async def write(self, place: Place, content: Content, blocks: AsyncIterator[bytes], _offset: int) -> None:
        headers = _permit(place) | {"Content-Length": str(content.size)}
        with _answering(place):
            body: AsyncIterator[bytes] | bytes = blocks
            if not content.size:  # nothing is read, but the source is looked at
                body = b"".join([block async for block in blocks])
            answer = await self.http.put(place.url, content=body, headers=headers, timeout=_TIMES)
        _check(answer, place)


@contextlib.contextmanager
def _answering(place: Place) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise TemporaryError(f"{place.se} does not answer: {type(error).__name__} {error}") from error


def _permit(place: Place) -> dict[str, str]:
    return {"Authorization": f"Bearer {place.envelope}"} if place.envelope else {}


def _check(answer: httpx.Response, place: Place) -> None:
    if answer.is_success:
        return
    told = answer.text[:200] if answer.request.method != "HEAD" else ""
    message = f"{place.se} answered {answer.status_code} {told}".rstrip()
    kind: type[GridError] = TemporaryError if answer.status_code in _PASSING else PermanentError
    raise kind(message, status=answer.status_code)


class Files:
    """``file:///path`` below ``root``: what this machine sees of a scratch disk, or of the disk before a tape."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    async def holds(self, place: Place, content: Content) -> bool:
        with _failing(place):
            return await asyncio.to_thread(self._holds, self._path(place), content)

    def _path(self, place: Place) -> Path:
        """Never outside the root, whatever central says."""
        path = Path(unquote(urlsplit(place.url).path)).resolve()
        if not path.is_relative_to(self.root):
            raise PermanentError(f"{place.url} does not lie below {self.root}")
        return path

    def _holds(self, path: Path, content: Content) -> bool:
        try:
            with path.open("rb") as here:
                if os.fstat(here.fileno()).st_size != content.size:
                    return False
                md5 = hashlib.file_digest(here, lambda: hashlib.md5(usedforsecurity=False))
        except FileNotFoundError:
            return False
        return md5.hexdigest() == content.md5

    async def remove(self, place: Place) -> None:
        path = self._path(place)
        with _failing(place):
            path.unlink(missing_ok=True)
        await self.discard(place)

    async def read(self, place: Place, content: Content, offset: int) -> AsyncGenerator[bytes, None]:
        path = self._path(place)
        with _failing(place):
            if not path.is_file():
                raise PermanentError(f"{place.se} has no file {path}")
            if (size := path.stat().st_size) != content.size:
                raise PermanentError(f"{place.se} has {size} bytes of it, not {content.size}")
            async for block in _blocks(path, offset):
                yield block

    async def kept(self, place: Place, content: Content) -> AsyncIterator[bytes] | None:
        part = _part(self._path(place))
        if not part.is_file() or part.stat().st_size > content.size:
            return None
        return _blocks(part, 0)

    async def discard(self, place: Place) -> None:
        _part(self._path(place)).unlink(missing_ok=True)

    async def write(self, place: Place, _content: Content, blocks: AsyncIterator[bytes], offset: int) -> None:
        path = self._path(place)
        part = _part(path)
        with _failing(place):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | (0 if offset else os.O_TRUNC)
            with os.fdopen(os.open(part, flags, 0o600), "wb") as out:
                out.seek(offset)
                async for block in blocks:
                    await asyncio.to_thread(out.write, block)
                out.flush()
                await asyncio.to_thread(os.fsync, out.fileno())
            part.replace(path)


async def _blocks(path: Path, offset: int) -> AsyncGenerator[bytes, None]:
    with path.open("rb") as here:
        here.seek(offset)
        while block := await asyncio.to_thread(here.read, BLOCK):
            yield block


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextlib.contextmanager
def _failing(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(place, error) from error


def _failed(place: Place, error: OSError) -> GridError:
    return TemporaryError(f"{place.se}: {error.strerror}")
