"""/proc/<user>/<job>: what the catalogue shows and does not keep. Who computes it stands behind a port."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from dataclasses import dataclass
from typing import Protocol

from orchestrator.catalogue.model import PROC, Entry, in_proc
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.runtime.web import Caller


@dataclass(frozen=True)
class Seen:
    """A computed entry: a directory with its ``children``, or a file with its ``content``."""

    entry: Entry
    children: tuple[Entry, ...] = ()
    content: str = ""

    def file(self) -> Entry:
        """The entry; UserError when it is a directory."""
        if self.entry.is_directory:
            raise UserError(f"{self.entry.path} is a directory", path=self.entry.path)
        return self.entry


class View(Protocol):
    """Computes what is at or below /proc, each time anew."""

    async def look(self, path: str) -> Seen:
        """What is at the clean ``path``, with the entries of a directory; NotFound when there is nothing."""
        ...


@dataclass(frozen=True)
class Proc:
    """/proc as the routes ask for it; without a view there is none."""

    view: View | None

    async def seen(self, who: Caller, path: str) -> Seen | None:
        """What ``who`` sees at the clean ``path``; None when that is not in /proc. A job sees its user's jobs alone."""
        if not in_proc(path):
            return None
        if self.view is None:
            raise NotFound(f"{path} is not in the catalogue", path=path)
        if who.roles == {"job"} and not f"{path}/".startswith(f"{PROC}/{who.user}/"):
            raise NotAllowed(f"{who.subject} may look at the jobs of {who.user} alone", path=path)
        return await self.view.look(path)

    def top(self) -> list[Entry]:
        """What the root directory shows of it."""
        return [directory(PROC, "")] if self.view is not None else []


def directory(path: str, owner: str, made: float = 0.0) -> Entry:
    """A directory that nobody can write to."""
    return Entry(path, owner, 0o555, "", 0, "", "", made)


def file(path: str, owner: str, made: float, content: str) -> Entry:
    """A file that nobody can write to; its GUID follows from its path."""
    data = content.encode()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    guid = str(uuid.uuid5(uuid.NAMESPACE_URL, path))
    return Entry(path, owner, 0o444, guid, len(data), md5, f"{zlib.adler32(data):08x}", made)
