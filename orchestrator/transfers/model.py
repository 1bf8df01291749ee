"""The life of a transfer: its states in one table, and what an FTD is told to do. Pure.

A transfer is a task. When it is one fetch, FTDs take the task itself; when it needs several steps (staging from
mass storage, a route over other storage elements) each step is a task of its own with the transfer as its
parent, and the transfer's state says which step is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

KIND: Final = "transfer"
FTD: Final = "FTD"  # Type in the ad of a File Transfer Daemon

# Not with an FTD.
INSERTING, WAITING = "INSERTING", "WAITING"
# With an FTD: its heartbeats are expected. (A transfer that has steps is in these states with nobody.)
ASSIGNED, STAGING, TRANSFERRING, CLEANING = "ASSIGNED", "STAGING", "TRANSFERRING", "CLEANING"
ZOMBIE, LOST = "ZOMBIE", "LOST"
# Final.
DONE, FAILED, EXPIRED, KILLED = "DONE", "FAILED", "EXPIRED", "KILLED"

ACTIVE = frozenset({ASSIGNED, STAGING, TRANSFERRING, CLEANING})
FAILURES = frozenset({FAILED, EXPIRED, KILLED, LOST})  # LOST: the FTD of the last attempt vanished
FINAL = FAILURES | {DONE}


def _active(*to: str) -> frozenset[str]:
    """An active transfer may also fail, fall silent, be given back (attempt + 1) or be killed."""
    return frozenset({*to, FAILED, ZOMBIE, WAITING, KILLED})


LIFE: Mapping[str, frozenset[str]] = {
    # At once STAGING or TRANSFERRING: its first step waits. DONE: the replica is there already.
    INSERTING: frozenset({WAITING, STAGING, TRANSFERRING, DONE, FAILED, EXPIRED, KILLED}),
    WAITING: frozenset({ASSIGNED, INSERTING, EXPIRED, KILLED}),  # INSERTING: the next attempt is planned anew
    ASSIGNED: _active(STAGING, TRANSFERRING, CLEANING),
    STAGING: _active(TRANSFERRING, DONE, INSERTING, EXPIRED),
    TRANSFERRING: _active(CLEANING, DONE, INSERTING, EXPIRED),
    CLEANING: _active(DONE),
    ZOMBIE: ACTIVE | {LOST, KILLED},
    LOST: frozenset({WAITING}),
    **dict.fromkeys((DONE, FAILED, EXPIRED, KILLED), frozenset()),
}

# What shall come of the copy: not in the catalogue, one more replica, or the replica that counts as the master.
CACHE, MIRROR, MASTER_COPY = "cache", "mirror", "master_copy"
KINDS = (CACHE, MIRROR, MASTER_COPY)

# What a step does, and the state it is in meanwhile.
STAGE, FETCH, CLEAN = "stage", "fetch", "clean"
DOING: Mapping[str, str] = {STAGE: STAGING, FETCH: TRANSFERRING, CLEAN: CLEANING}

# Whose fault a failure was: a fact of the FTD's report.
SOURCE, DESTINATION = "source", "destination"


@dataclass(frozen=True)
class Content:
    """What a file must be; ``size`` in bytes, ``md5`` in hex."""

    size: int
    md5: str


@dataclass(frozen=True)
class Place:
    """A copy on a storage element. ``envelope`` permits what is to be done there ("" where none is needed)."""

    se: str
    url: str
    envelope: str = ""

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]


@dataclass(frozen=True)
class Leg:
    """What one FTD does: bring ``content`` from ``source`` to ``target``, or remove it from ``target`` (clean)."""

    role: str
    lfn: str
    content: Content
    source: Place
    target: Place

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, jdl: Mapping[str, Any]) -> Self:
        """Read an assignment's ``jdl``; KeyError, TypeError or ValueError only when central itself is wrong."""
        size, md5 = int(jdl["content"]["size"]), str(jdl["content"]["md5"])
        source, target = (
            Place(**{key: str(text) for key, text in dict(jdl[end]).items()}) for end in ("source", "target")
        )
        if jdl["role"] not in DOING:
            raise ValueError(f"{jdl['role']!r} is nothing that an FTD does")
        return cls(str(jdl["role"]), str(jdl["lfn"]), Content(size, md5), source, target)
