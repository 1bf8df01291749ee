"""Stored objects: bytes ↔ zlib stream and its name, the SHA-1 of the *stored* bytes."""

from __future__ import annotations

import hashlib
from typing import cast

from isal import isal_zlib

from orchestrator.errors import PermanentError

_BadStream = cast("type[Exception]", isal_zlib.IsalError)  # its stub calls it an instance
LEVEL = 1  # of 0–3; isal's streams are valid zlib (RFC 1950), four times faster than zlib's level 1


def pack(data: bytes, suffix: str = "", level: int = LEVEL) -> tuple[str, bytes]:
    """(name, stored bytes) of ``data``. Equal data give equal names while the compressor is the same."""
    stored: bytes = isal_zlib.compress(data, level)
    return digest(stored) + suffix, stored


def digest(stored: bytes) -> str:
    """SHA-1 of ``stored`` in hex: the format's own choice, an identifier below the manifest's signature."""
    return hashlib.sha1(stored, usedforsecurity=False).hexdigest()


def verify(name: str, stored: bytes) -> bytes:
    """``stored`` when ``name`` names it; PermanentError otherwise."""
    found = digest(stored)
    if found != name[:40]:
        raise PermanentError(
            f"object {name} is damaged: its content has the hash {found}; fetch it again from another source",
            name=name,
            found=found,
        )
    return stored


def unpack(name: str, stored: bytes, size: int | None = None, *, raw: bool = False) -> bytes:
    """The content of object ``name``, its hash and (when given) its ``size`` verified.

    A stream that would grow beyond ``size`` is not inflated further. PermanentError when anything differs.
    """
    verify(name, stored)
    if raw:
        data = stored
    else:
        stream = isal_zlib.decompressobj()
        try:
            data = stream.decompress(stored, 0 if size is None else size + 1)
        except _BadStream as error:
            raise PermanentError(f"object {name} is not a zlib stream: {error}", name=name) from error
        if not stream.eof and (size is None or len(data) <= size):
            raise PermanentError(f"object {name} is cut short", name=name)
    if size is not None and len(data) != size:
        raise PermanentError(
            f"object {name} holds {len(data)} bytes or more where the catalog says {size}", name=name
        )
    return data
