"""LFNs, entries, replicas, tags, quotas. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.errors import NotAllowed, UserError
from orchestrator.units import format_size

LONGEST = 1024  # characters of an LFN
MOST = 10_000  # LFNs of one bulk call
PROC = "/proc"  # what lies below is computed from the jobs
MOST_TAGS, LONGEST_TAG = 50, 256  # tags of one entry; characters of a text
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
Value = str | int | float | bool  # of a tag


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
    tags: Mapping[str, Value] = field(default_factory=dict)

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
            tags=value.get("tags") or {},
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


@dataclass(frozen=True)
class Placed:
    """A file of the catalogue and the storage elements that hold it, sorted; ``size`` in bytes."""

    lfn: str
    guid: str
    size: int
    md5: str
    ses: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Placed:
        texts = {key: str(value[key]) for key in ("lfn", "guid", "md5")}
        return cls(size=int(value["size"]), ses=tuple(value["ses"]), **texts)


@dataclass(frozen=True)
class Quota:
    """What a user has in the catalogue, and may have at most (None: no limit). Sizes in bytes, copies not counted."""

    user: str
    files: int
    bytes: int
    most_files: int | None
    most_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Quota:
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})

    def check(self, files: int = 0, size: int = 0) -> None:
        """UserError when ``files`` more, of ``size`` bytes together, are too many."""
        count, total = self.files + files, self.bytes + size
        over = []
        if self.most_files is not None and count > self.most_files:
            over.append(f"{count} files where {self.most_files} are allowed")
        if self.most_bytes is not None and total > self.most_bytes:
            over.append(f"{format_size(total)} where {format_size(self.most_bytes)} are allowed")
        if over:
            raise UserError(
                f"the quota of {self.user} is used up: with this they would have {' and '.join(over)}; remove "
                f"files, or ask an admin for `orchestrate file quota {self.user}` with more",
                **self.to_json(),
            )


def check_tags(tags: Mapping[str, Any]) -> dict[str, Value]:
    """The tags, if they can be kept; UserError names the one that cannot."""
    for name, value in tags.items():
        check_tag_name(name)
        if isinstance(value, str):
            good = len(value) <= LONGEST_TAG and all(ord(char) >= 32 for char in value)
        else:
            good = isinstance(value, int | float) and abs(value) < 2**63
        if not good:
            said = f"a number, true, false, or a text of one line and at most {LONGEST_TAG} characters"
            raise UserError(f"tag {name}={str(value)[:40]!r} cannot be kept: give it {said}", tag=name)
    return dict(tags)


def check_tag_name(name: Any) -> str:
    """The name of a tag; UserError when it cannot be one."""
    if not isinstance(name, str) or not _TAG.fullmatch(name):
        raise UserError(
            f"{str(name)[:80]!r} is no name of a tag: a letter, then letters, digits, _ or ., 64 at most"
        )
    return name


def in_proc(path: str) -> bool:
    """Whether a clean path is /proc or below it."""
    return path == PROC or path.startswith(f"{PROC}/")


def clean_new(path: str) -> str:
    """The clean spelling of an LFN that somebody wants to make; NotAllowed below /proc."""
    path = clean(path)
    if in_proc(path):
        raise NotAllowed(f"{path} is computed from the jobs; nobody may write there", path=path)
    return path


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


def new_guid(now: float, chance: int) -> str:
    """A GUID made at ``now`` (seconds since the epoch) with 66 random bits: version 8 of RFC 9562.

    What is made together stands together in the indexes, so a run's files cost few pages at 10^9 entries.
    The first two digits, a storage element's directory, are those of the present 65 seconds.
    """
    ms = int(now * 1000) & 0xFFFF_FFFF_FFFF
    head = (ms >> 16 & 0xFF) << 40 | ms >> 8
    middle = 0x8000 | (ms & 0xFF) << 4 | chance >> 62 & 0xF
    return str(uuid.UUID(int=head << 80 | middle << 64 | 0b10 << 62 | chance & (1 << 62) - 1))


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
