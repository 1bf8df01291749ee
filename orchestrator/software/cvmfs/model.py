"""Words of the CernVM-FS format shared by every module here; pure.

Source: the format section of the design page on software distribution, tried against a 2.12 client.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import UserError

MANIFEST, WHITELIST, REFLOG = ".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog"

DIRECTORY, NESTED_MOUNTPOINT, FILE, SYMLINK, SPECIAL, NESTED_ROOT, CHUNKED = 1, 2, 4, 8, 16, 32, 64
EXTERNAL, COMPRESSION_SHIFT, BIND_MOUNTPOINT, HIDDEN = 128, 11, 0x4000, 0x8000

CATALOG, HISTORY, CERTIFICATE, METAINFO, PARTIAL = "C", "H", "X", "M", "P"

PIECE = 4 * 1024 * 1024  # bytes; a larger file is stored in pieces of this size

_FQRN = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_OBJECT = re.compile(r"[0-9a-f]{40}[CHXMP]?")


@dataclass(frozen=True)
class Chunk:
    """``size`` bytes (uncompressed) at ``offset``, stored as the object ``digest`` + "P"."""

    offset: int
    size: int
    digest: str


@dataclass(frozen=True)
class Entry:
    """One row of a catalog. ``path`` is "" for the root, else "/a/b"; bytes that are not UTF-8 are surrogates.

    ``digest`` (hex, of the stored bytes) names a regular file's object; a chunked file has ``chunks`` instead.
    ``links`` is the number of hard links, ``group`` their group (0: none). ``mtime`` is in seconds.
    """

    path: str
    flags: int
    mode: int
    size: int
    mtime: int
    links: int = 1
    group: int = 0
    symlink: str = ""
    digest: str = ""
    chunks: tuple[Chunk, ...] = ()
    uid: int = 0
    gid: int = 0
    raw: bool = False

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def is_directory(self) -> bool:
        return bool(self.flags & DIRECTORY)

    @property
    def is_symlink(self) -> bool:
        return bool(self.flags & SYMLINK)

    @property
    def is_regular(self) -> bool:
        return bool(self.flags & FILE) and not self.flags & (SYMLINK | SPECIAL)

    def objects(self) -> Iterator[str]:
        """Names of the objects that hold the content."""
        if self.digest:
            yield self.digest
        for chunk in self.chunks:
            yield chunk.digest + PARTIAL

    def shape(self) -> Entry:
        """The entry without what a mere copy changes: time, owner, the number of a hard link group.

        A directory's link count follows from what is in it, so it is left out too.
        """
        links = 0 if self.is_directory else self.links
        return replace(self, mtime=0, group=int(self.group > 0), uid=0, gid=0, links=links)


@dataclass(frozen=True)
class Change:
    """Put the directory ``source`` at ``target`` in place of what is there; None removes ``target``."""

    source: Path | None
    target: str


@dataclass(frozen=True)
class Revision:
    """What a publish left behind; ``changed`` is False when the content was there already."""

    fqrn: str
    number: int
    root: str
    published: int
    changed: bool
    files: int = 0
    size: int = 0
    new_objects: int = 0


def check_fqrn(fqrn: str) -> str:
    """``fqrn`` when it is a repository's fully qualified name ("alice.example.org"); UserError otherwise."""
    if len(fqrn) > 200 or not _FQRN.fullmatch(fqrn):
        raise UserError(
            f"{fqrn!r} is not a repository name; write one like 'alice.example.org', in lower case",
            fqrn=fqrn,
        )
    return fqrn


def check_object(name: str) -> str:
    """``name`` when it is an object's name: 40 hex digits and at most one suffix letter; UserError otherwise."""
    if not _OBJECT.fullmatch(name):
        raise UserError(f"{name[:80]!r} is not the name of a repository object", name=name[:80])
    return name


def object_path(name: str) -> str:
    """Where the object ``name`` lies below the repository: data/ab/cdef…"""
    return f"data/{name[:2]}/{name[2:]}"


def md5path(path: str) -> tuple[int, int]:
    """The catalog key of ``path``: its MD5 as two little-endian signed 64-bit numbers."""
    digest = hashlib.md5(path.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    first, second = struct.unpack("<qq", digest)
    return first, second


def parent_key(path: str) -> tuple[int, int]:
    """The key of the directory that holds ``path``; (0, 0) for the repository's root."""
    return md5path(path.rpartition("/")[0]) if path else (0, 0)


def target_path(text: str) -> str:
    """``text`` as a path inside a repository ("/PYTHIA/8.317"); UserError for the root and for odd ones."""
    parts = text.strip("/").split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 or "\0" in part for part in parts):
        raise UserError(
            f"{text!r} is not a place inside a repository; write a path like '/PYTHIA/8.317'", target=text
        )
    if parts[0].startswith(".cvmfs"):
        raise UserError(
            f"{text!r}: names that begin with .cvmfs belong to CernVM-FS; choose another", target=text
        )
    return "/" + "/".join(parts)
