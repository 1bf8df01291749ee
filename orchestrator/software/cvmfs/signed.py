"""The envelope of manifest and whitelist: text, "--", hex SHA-1 of the text, raw signature. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from orchestrator.errors import PermanentError


@dataclass(frozen=True)
class Letter:
    """A parsed envelope; ``text`` ends with a newline, ``digest`` is the 40 hex characters that were signed."""

    text: bytes
    digest: bytes
    signature: bytes


def digest_of(text: bytes) -> bytes:
    """The 40 hex characters that a signature covers."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def seal(text: bytes, signature: bytes) -> bytes:
    """The file: nothing follows the signature, a real client refuses a trailing newline."""
    return text + b"--\n" + digest_of(text) + b"\n" + signature


def unseal(data: bytes, what: str) -> Letter:
    """Parse ``data``; PermanentError when it has not the form or the text does not have the stated hash."""
    mark = data.find(b"\n--\n")
    if mark < 0 or data[mark + 44 : mark + 45] != b"\n":
        raise PermanentError(f"{what} is not a signed CernVM-FS file: no line '--' followed by a hash")
    letter = Letter(data[: mark + 1], data[mark + 4 : mark + 44], data[mark + 45 :])
    if letter.digest != digest_of(letter.text):
        raise PermanentError(f"{what} is damaged: its text does not have the hash it states")
    return letter
