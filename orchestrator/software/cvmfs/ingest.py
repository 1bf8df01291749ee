"""Files into objects, in parallel: read, compress, hash in threads; stored in batches while more are read."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from orchestrator.errors import TemporaryError, UserError
from orchestrator.software.cvmfs.model import PARTIAL, PIECE, Chunk, Entry
from orchestrator.software.cvmfs.objects import pack
from orchestrator.software.cvmfs.scan import Tree
from orchestrator.software.cvmfs.store import ObjectStore

Progress = Callable[[int, int], None]  # bytes done, bytes in all
_BATCH_BYTES, _BATCH_PIECES = 8 * 1024 * 1024, 512


@dataclass(frozen=True)
class Piece:
    """``size`` bytes at ``offset`` of the file ``source``, which is ``total`` bytes long."""

    path: str
    source: str
    offset: int
    size: int
    total: int

    @property
    def suffix(self) -> str:
        return PARTIAL if self.total > PIECE else ""


async def ingest(
    store: ObjectStore, tree: Tree, level: int, workers: int, progress: Progress | None
) -> tuple[tuple[Entry, ...], int]:
    """``tree``'s entries with their hashes, and how many objects were new; all objects are in ``store``.

    UserError when a file changes meanwhile. Holds at most about 16 MiB for each of ``workers`` threads.
    """
    found: dict[str, list[Chunk]] = defaultdict(list)
    batches = _batches(tree)
    new, done, whole = 0, 0, tree.size
    loop = asyncio.get_running_loop()

    async def work(pool: ThreadPoolExecutor) -> None:
        nonlocal new, done
        for batch in batches:
            packed = await loop.run_in_executor(pool, _pack, batch, level)
            count = await store.put(packed)  # `new += await …` would lose what others count meanwhile
            new += count
            for piece, (name, _) in zip(batch, packed, strict=True):
                found[piece.path].append(Chunk(piece.offset, piece.size, name[:40]))
            done += sum(piece.size for piece in batch)
            if progress is not None:
                progress(done, whole)

    with ThreadPoolExecutor(workers, thread_name_prefix="ingest") as pool:
        tasks = [asyncio.create_task(work(pool)) for _ in range(workers + 1)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return tuple(_hashed(entry, found) for entry in tree.entries), new


def read_piece(piece: Piece) -> bytes:
    """The bytes of ``piece``; UserError when the file is not as long as it was when it was scanned."""
    try:
        descriptor = os.open(piece.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            last = piece.offset + piece.size == piece.total
            data = os.pread(descriptor, piece.size + last, piece.offset)
            while data and len(data) < piece.size:
                more = os.pread(descriptor, piece.size + last - len(data), piece.offset + len(data))
                if not more:
                    break
                data += more
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise UserError(f"{piece.source} vanished while it was published; publish again") from error
    except PermissionError as error:
        raise UserError(f"{piece.source} is not readable; chmod +r it or run as its owner") from error
    except OSError as error:
        raise TemporaryError(f"cannot read {piece.source}: {error.strerror}", retry_in=10.0) from error
    if len(data) != piece.size:
        raise UserError(f"{piece.source} changed while it was published; publish when the build has ended")
    return data


def pieces_of(entry: Entry, source: str) -> Iterator[Piece]:
    """How ``entry`` is cut: fixed marks, one piece for a file up to PIECE bytes."""
    for offset in range(0, max(entry.size, 1), PIECE):
        size = min(PIECE, entry.size - offset)
        yield Piece(entry.path, source, offset, size, entry.size)


def _pack(batch: list[Piece], level: int) -> list[tuple[str, bytes]]:
    return [pack(read_piece(piece), piece.suffix, level) for piece in batch]


def _batches(tree: Tree) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for entry in tree.entries:
        if not entry.is_regular:
            continue
        for piece in pieces_of(entry, tree.sources[entry.path]):
            if batch and (size + piece.size > _BATCH_BYTES or len(batch) == _BATCH_PIECES):
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += piece.size
    if batch:
        yield batch


def _hashed(entry: Entry, found: dict[str, list[Chunk]]) -> Entry:
    if not entry.is_regular:
        return entry
    parts = sorted(found[entry.path], key=lambda chunk: chunk.offset)
    if entry.size > PIECE:
        return replace(entry, chunks=tuple(parts))
    return replace(entry, digest=parts[0].digest)
