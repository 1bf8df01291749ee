"""LFNs, entries, replicas. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.errors import UserError

LONGEST = 1024  # characters of an LFN


@dataclass(frozen=True)
class Entry:
    """A file or directory of the catalogue; ``guid`` is "" for a directory, ``size`` in bytes."""

    path: str
    owner: str
    mode: int
    guid: str
    size: int
    md5: str
    adler32: str
    made: float  # seconds since the epoch

    @property
    def is_directory(self) -> bool:
        return not self.guid

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        return cls(
            path=str(value["path"]),
            owner=str(value["owner"]),
            mode=int(value["mode"]),
            guid=str(value["guid"] or ""),
            size=int(value["size"]),
            md5=str(value["md5"]),
            adler32=str(value["adler32"]),
            made=float(value["made"]),
        )


@dataclass(frozen=True)
class Output:
    """A stored file that waits to be registered: its name, content and one copy."""

    lfn: str
    guid: str
    size: int
    md5: str
    adler32: str
    se: str
    pfn: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Output:
        try:
            return cls(
                lfn=str(value["lfn"]),
                guid=str(value["guid"]),
                size=int(value["size"]),
                md5=str(value.get("md5", "")),
                adler32=str(value.get("adler32", "")),
                se=str(value["se"]),
                pfn=str(value["pfn"]),
            )
        except (KeyError, ValueError) as error:
            raise UserError(f"an output lacks or garbles {error}") from error

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def clean(path: str) -> str:
    """An absolute LFN in its one spelling ("/" becomes ""); UserError says what is wrong with it."""
    if not path.startswith("/"):
        raise UserError(f"LFN {path!r} is not absolute; begin it with /", path=path)
    parts = [part for part in path.split("/") if part and part != "."]
    if ".." in parts or any(ord(char) < 32 for char in path):
        raise UserError(f"LFN {path!r} has .. or a control character in it", path=path)
    if len(path) > LONGEST:
        raise UserError(f"LFN {path[:40]}… is longer than {LONGEST} characters", path=path[:80])
    return "".join(f"/{part}" for part in parts)


def parent(path: str) -> str:
    """The directory of a clean LFN ("" is the root)."""
    return path.rpartition("/")[0]


def lineage(path: str) -> list[str]:
    """A clean path and all directories above it, deepest first, the root ("") last."""
    found = [path]
    while path:
        path = parent(path)
        found.append(path)
    return found


def may_write(entry: Entry, user: str, admin: bool) -> bool:
    """Whether ``user`` may change ``entry`` (a directory: add to it or remove from it)."""
    return admin or entry.owner == user or bool(entry.mode & 0o002)


def home(vo: str, user: str) -> str:
    """The home directory of a user: /<vo>/user/<first letter>/<user>."""
    return f"/{vo}/user/{user[0]}/{user}"


def clean_guid(guid: str) -> str:
    """A GUID in its one spelling (RFC 9562, lower case); UserError when it is none."""
    try:
        return str(uuid.UUID(guid))
    except ValueError as error:
        raise UserError(f"{guid[:80]!r} is no GUID", guid=guid[:80]) from error


def check_md5(md5: str) -> None:
    """UserError unless it is one in hex."""
    if len(md5) != 32 or set(md5) - set("0123456789abcdef"):
        raise UserError(f"{md5[:80]!r} is no MD5: 32 hex digits are wanted")


def pfn_of(guid: str) -> str:
    """Where a storage element keeps a file: spread over 256 directories."""
    guid = clean_guid(guid)
    return f"/{guid[:2]}/{guid}"
