"""The port behind which files move, and the adapter that moves them as streams between two ends."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.transfers.model import DESTINATION, SOURCE, Content, Place

Progress = Callable[[int], None]  # told how many bytes went since the last time
RESUMES = 5  # times a source that broke off is asked for the rest
PAUSE = 0.2  # seconds before the first of them, twice as long before each further one


class Mover(Protocol):
    """Errors have a fact ``blame``: source, or destination when that is where the trouble lies."""

    async def holds(self, place: Place, content: Content) -> bool:
        """Whether this very content is there: size and checksum. TemporaryError: it does not answer, so nobody knows."""
        ...

    async def move(self, source: Place, target: Place, content: Content, progress: Progress) -> None:
        """``target`` holds ``content``, read from ``source``; checked by size and checksum.

        Again is harmless. Unless it succeeds ``target`` has nothing under that name, but it may keep a part to go
        on from. PermanentError: not so from this source, or not there; TemporaryError: perhaps another time.
        """
        ...

    async def remove(self, place: Place) -> None:
        """There is nothing at ``place``; that there never was is no error."""
        ...


class End(Protocol):
    """One protocol's way to read and write; errors need no blame, the mover knows which end it was."""

    async def holds(self, place: Place, content: Content, /) -> bool: ...
    async def remove(self, place: Place, /) -> None: ...

    def read(self, place: Place, content: Content, offset: int, /) -> AsyncGenerator[bytes, None]:
        """The bytes from ``offset`` on; PermanentError when there is no file, or one of another size."""
        ...

    async def kept(self, place: Place, content: Content, /) -> AsyncIterator[bytes] | None:
        """The part that an earlier try left, to go on from; None when there is none."""
        ...

    async def write(
        self, place: Place, content: Content, blocks: AsyncIterator[bytes], offset: int, /
    ) -> None:
        """The file is there once all ``blocks`` came, behind the ``offset`` bytes that were kept; else it is not."""
        ...

    async def discard(self, place: Place, /) -> None:
        """No part is kept."""
        ...


class Corrupt(PermanentError):
    """All bytes came, and they are not the file."""


@dataclass
class Streams:
    """A Mover for every pair of ``ends`` (by URL scheme): what comes from one goes straight to the other."""

    ends: Mapping[str, End]
    pause: float = PAUSE

    def _end(self, place: Place, blame: str) -> End:
        if place.scheme not in self.ends:
            raise PermanentError(f"nobody here can move files by {place.scheme}", blame=blame)
        return self.ends[place.scheme]

    async def holds(self, place: Place, content: Content) -> bool:
        with _blaming(DESTINATION):
            return await self._end(place, DESTINATION).holds(place, content)

    async def remove(self, place: Place) -> None:
        with _blaming(DESTINATION):
            await self._end(place, DESTINATION).remove(place)

    async def move(self, source: Place, target: Place, content: Content, progress: Progress) -> None:
        giver, taker = self._end(source, SOURCE), self._end(target, DESTINATION)
        with _blaming(DESTINATION):
            md5 = hashlib.md5(usedforsecurity=False)
            offset = 0
            if (part := await taker.kept(target, content)) is not None:
                async for block in part:
                    md5.update(block)
                    offset += len(block)
            try:
                await self._copy(giver, taker, source, target, content, progress, md5, offset)
            except Corrupt:
                await taker.discard(target)
                if not offset:
                    raise
                # It may have been the kept part that was wrong.
                md5 = hashlib.md5(usedforsecurity=False)
                await self._copy(giver, taker, source, target, content, progress, md5, 0)

    async def _copy(
        self,
        giver: End,
        taker: End,
        source: Place,
        target: Place,
        content: Content,
        progress: Progress,
        md5: hashlib._Hash,
        offset: int,
    ) -> None:
        async with aclosing(self._checked(giver, source, content, progress, md5, offset)) as blocks:
            try:
                await taker.write(target, content, blocks, offset)
            except Corrupt:
                await taker.discard(target)
                raise

    async def _checked(
        self,
        giver: End,
        source: Place,
        content: Content,
        progress: Progress,
        md5: hashlib._Hash,
        offset: int,
    ) -> AsyncGenerator[bytes, None]:
        """The bytes behind ``offset``; the last block only after the checksum of all has been found right.

        So what is corrupt never becomes a whole file at the target, whatever that checks by itself.
        """
        with _blaming(SOURCE):
            held = b""
            async with aclosing(self._patient(giver, source, content, offset)) as coming:
                async for block in coming:
                    md5.update(block)
                    progress(len(block))
                    if held:
                        yield held
                    held = block
            if md5.hexdigest() != content.md5:
                raise Corrupt(f"{source.se} has other content: MD5 {md5.hexdigest()}, not {content.md5}")
            if held:
                yield held

    async def _patient(
        self, giver: End, source: Place, content: Content, offset: int
    ) -> AsyncGenerator[bytes, None]:
        """A source that breaks off is asked for the rest a few times."""
        broken = 0
        while offset < content.size:
            try:
                async with aclosing(giver.read(source, content, offset)) as coming:
                    async for block in coming:
                        offset += len(block)
                        yield block
                if offset < content.size:
                    raise TemporaryError(f"{source.se} broke off after {offset} of {content.size} bytes")
            except TemporaryError:
                broken += 1
                if broken > RESUMES:
                    raise
                await asyncio.sleep(self.pause * 2 ** (broken - 1))


@contextlib.contextmanager
def _blaming(blame: str) -> Iterator[None]:
    """Errors inside say whose fault they are, unless they say so already."""
    try:
        yield
    except GridError as error:
        error.facts.setdefault("blame", blame)
        raise
