"""A package entry: one release of one piece of software, as the grid knows it.

The entry is the commit point of a publication: whoever holds one can check every byte of the
release it names (``sha256`` of the archive, the piece hashes inside ``torrent``).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import PermanentError, UserError

_WORD = r"[A-Za-z0-9][A-Za-z0-9._+@-]*"
_SPELLING = re.compile(rf"({_WORD})::({_WORD})")
_FQRN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INFO_HASH = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, order=True)
class PackageName:
    """What a job writes in ``Packages``: name and version."""

    name: str
    version: str

    def __post_init__(self) -> None:
        if _SPELLING.fullmatch(f"{self.name}::{self.version}") is None:
            raise UserError(
                f"package {self.name!r} version {self.version!r}: use letters, digits and . _ + - @ only, "
                "beginning with a letter or digit",
                name=self.name,
                version=self.version,
            )

    def __str__(self) -> str:
        return f"{self.name}::{self.version}"


def parse_spelling(text: str) -> PackageName:
    """ "AliRoot::v5-09-01" → its name and version; UserError for anything else."""
    name, separator, version = text.partition("::")
    if not separator:
        raise UserError(f"package {text!r} has no version; write NAME::VERSION", package=text)
    return PackageName(name, version)


@dataclass(frozen=True, slots=True)
class Package:
    """One published release.

    ``fqrn``, ``path``, ``revision`` say where it stands in the CernVM-FS repository (path has no
    leading slash; both empty: in none); ``size`` (bytes) and ``sha256`` (hex) describe the release archive; ``info_hash``
    is the v1 info-hash (40 hex digits) of the hybrid ``torrent`` (BEP 3, BEP 52).
    """

    name: str
    version: str
    fqrn: str
    path: str
    revision: int
    size: int
    sha256: str
    info_hash: str
    torrent: bytes

    def __post_init__(self) -> None:
        PackageName(self.name, self.version)
        if _FQRN.fullmatch(self.fqrn) is None:
            raise UserError(f"package {self.spelling}: {self.fqrn!r} is no repository name", fqrn=self.fqrn)
        if _SHA256.fullmatch(self.sha256) is None:
            raise UserError(
                f"package {self.spelling}: sha256 is not 64 lower-case hex digits", value=self.sha256
            )
        if _INFO_HASH.fullmatch(self.info_hash) is None:
            raise UserError(
                f"package {self.spelling}: info_hash is not 40 lower-case hex digits", value=self.info_hash
            )
        if self.size < 0 or self.revision < 0:
            raise UserError(f"package {self.spelling}: size and revision can't be negative")
        if self.path.startswith("/") or ".." in self.path.split("/"):
            raise UserError(f"package {self.spelling}: path must stay inside the repository", path=self.path)

    @property
    def spelling(self) -> str:
        """ "NAME::VERSION"."""
        return f"{self.name}::{self.version}"

    def to_json(self) -> dict[str, Any]:
        """The JSON of the API; ``torrent`` is base64."""
        return {
            "name": self.name,
            "version": self.version,
            "fqrn": self.fqrn,
            "path": self.path,
            "revision": self.revision,
            "size": self.size,
            "sha256": self.sha256,
            "info_hash": self.info_hash,
            "torrent": base64.b64encode(self.torrent).decode(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Package:
        """The package of an API answer; keys it does not know (``urls``, ``made``) are left alone.

        UserError names the key that is missing or wrong.
        """
        texts = {
            key: _text(document, key) for key in ("name", "version", "fqrn", "path", "sha256", "info_hash")
        }
        try:
            torrent = base64.b64decode(_text(document, "torrent"), validate=True)
        except binascii.Error as wrong:
            raise UserError(f"package entry: 'torrent' is not base64 ({wrong})") from wrong
        return cls(
            **texts, revision=_whole(document, "revision"), size=_whole(document, "size"), torrent=torrent
        )


def other_contents(spelling: str, known: str, given: str) -> PermanentError:
    """The refusal of a package whose version is published already with another archive (sha256 ``known``)."""
    return PermanentError(
        f"{spelling} is published with other contents (sha256 {known[:12]}…, yours {given[:12]}…); "
        "contents identify versions: publish yours under another version",
        package=spelling,
        known=known,
        given=given,
    )


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise UserError(f"package entry: {key!r} must be a text", key=key)
    return value


def _whole(document: Mapping[str, Any], key: str) -> int:
    value = document.get(key, 0 if key == "revision" else None)
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"package entry: {key!r} must be a whole number", key=key)
    return value
