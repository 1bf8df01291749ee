"""Hybrid torrents (BEP 3 and BEP 52 in one file) of release archives, with web seeds (BEP 19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libtorrent as lt

from orchestrator.errors import PermanentError, UserError
from orchestrator.software.torrent.session import info_hash_of

_SMALLEST, _LARGEST = 64 << 10, 4 << 20


@dataclass(frozen=True, slots=True)
class Torrent:
    """A .torrent file's bytes and its v1 info-hash (40 hex digits)."""

    data: bytes
    info_hash: str


def piece_length(size: int) -> int:
    """A power of two from 64 KiB to 4 MiB that makes about a thousand pieces.

    A node can give a piece on only when it has the whole of it, so pieces stay small.
    """
    length = _SMALLEST
    while length < _LARGEST and size // length > 1000:
        length *= 2
    return length


def make(
    archive: Path, *, trackers: Sequence[str] = (), web_seeds: Sequence[str] = (), hybrid: bool = True
) -> Torrent:
    """The torrent of one file; the same bytes for the same file name, content and URLs.

    ``hybrid=False`` makes a plain v1 torrent, for clients that compute a wrong info-hash of a hybrid
    one (aria2 before 1.37). A web seed is the URL of the file itself, or of its directory when it ends in "/". Reads the
    whole file: call it in a thread. UserError if the file is missing or empty.
    """
    if not archive.is_file() or archive.stat().st_size == 0:
        raise UserError(f"{archive} is missing or empty; pack the release first", path=str(archive))
    size = archive.stat().st_size
    flags = lt.create_torrent.no_attributes | (0 if hybrid else lt.create_torrent.v1_only)
    draft = lt.create_torrent([lt.create_file_entry(archive.name, size)], piece_length(size), flags)
    try:
        lt.set_piece_hashes(draft, str(archive.parent))
    except RuntimeError as failed:
        raise PermanentError(f"can't read {archive}: {failed}", path=str(archive)) from failed
    document: dict[bytes, Any] = draft.generate()
    document.pop(b"creation date", None)
    return _address(document, trackers, web_seeds)


def readdress(torrent: bytes, *, trackers: Sequence[str] = (), web_seeds: Sequence[str] = ()) -> Torrent:
    """The same torrent (same info-hash) with other trackers and web seeds, for another site."""
    return _address(_decode(torrent), trackers, web_seeds)


def _address(document: dict[bytes, Any], trackers: Sequence[str], web_seeds: Sequence[str]) -> Torrent:
    for key in (b"announce", b"announce-list", b"url-list"):
        document.pop(key, None)
    if trackers:
        document[b"announce"] = trackers[0].encode()
        document[b"announce-list"] = [[tracker.encode() for tracker in trackers]]
    if web_seeds:
        document[b"url-list"] = [url.encode() for url in web_seeds]
    data: bytes = lt.bencode(document)
    return Torrent(data, info_hash_of(data))


def _decode(torrent: bytes) -> dict[bytes, Any]:
    try:
        document: Any = lt.bdecode(torrent)
    except (RuntimeError, ValueError) as wrong:
        raise UserError(f"these {len(torrent)} bytes are no torrent: {wrong}") from wrong
    if not isinstance(document, dict):
        raise UserError(f"these {len(torrent)} bytes are no torrent")
    return document
