"""Is a directory already published? By hash; where only the compressor differs, by content."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.software.cvmfs.ingest import pieces_of, read_piece
from orchestrator.software.cvmfs.model import Chunk, Entry, object_path
from orchestrator.software.cvmfs.objects import unpack
from orchestrator.software.cvmfs.scan import Tree
from orchestrator.software.cvmfs.store import Fetch


async def same_content(fetch: Fetch, there: Sequence[Entry], tree: Tree) -> bool:
    """True when ``there``, the published entries at the tree's target, hold what the (hashed) ``tree`` holds.

    An object's name depends on the compressor, which may differ between two publishing machines. So a
    file of the same size under another hash is compared by content before it counts as changed.
    """
    if [entry.path for entry in there] != [entry.path for entry in tree.entries]:
        return False
    differing: list[tuple[Entry, Entry]] = []
    for old, new in zip(there, tree.entries, strict=True):
        was, made = old.shape(), new.shape()
        if was == made:
            continue
        if not new.is_regular or _bare(was) != _bare(made):
            return False
        differing.append((old, new))
    for old, new in differing:
        published = await _published(fetch, old)
        if published is None or published != await asyncio.to_thread(_local, new, tree.sources[new.path]):
            return False
    return True


def _bare(entry: Entry) -> Entry:
    return replace(entry, digest="", chunks=(), flags=entry.flags & ~0x40, raw=False)


async def _published(fetch: Fetch, entry: Entry) -> bytes | None:
    """SHA-256 of the published content; None when an object is not to be had."""
    whole = hashlib.sha256()
    chunks = entry.chunks or (Chunk(0, entry.size, entry.digest),)
    for chunk, name in zip(chunks, entry.objects(), strict=True):
        stored = await fetch(object_path(name))
        if stored is None:
            return None
        whole.update(await asyncio.to_thread(unpack, name, stored, chunk.size, raw=entry.raw))
    return whole.digest()


def _local(entry: Entry, source: str) -> bytes:
    whole = hashlib.sha256()
    for piece in pieces_of(entry, source):
        whole.update(read_piece(piece))
    return whole.digest()
