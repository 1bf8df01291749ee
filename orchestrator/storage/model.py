"""Names of copies on a storage element, and what an envelope permits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.errors import NotAllowed, NotFound, PermanentError, TemporaryError, UserError

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MD5 = re.compile(r"[0-9a-f]{32}")
# HEAD tells no more than GET does; who may write may also ask whether the write arrived.
_PERMITS = {"HEAD": ("GET", "PUT"), "GET": ("GET",), "PUT": ("PUT",), "DELETE": ("DELETE",)}


class NoRoom(TemporaryError):
    """The storage element is full: 507; another one may have room."""

    http_status: ClassVar[int] = 507


class OtherContent(PermanentError):
    """The name is taken by other content: 409."""


@dataclass(frozen=True)
class Permit:
    """One method on one file, of ``size`` bytes and this MD5 (hex)."""

    pfn: str
    size: int
    md5: str


def pfn_of(folder: str, guid: str) -> str:
    """``/ab/<guid>``, the only form a path of a storage element has; NotFound for any other."""
    if _GUID.fullmatch(guid) is None or folder != guid[:2]:
        raise NotFound(f"/{folder}/{guid} is no file of a storage element: they are named /ab/<guid>")
    return f"/{folder}/{guid}"


def split(pfn: str) -> tuple[str, str]:
    """Folder and GUID of ``/ab/<guid>``; NotFound when it is none."""
    _, folder, guid = (*pfn.split("/", 2), "", "")[:3]
    pfn_of(folder, guid)
    return folder, guid


def permit(claims: Mapping[str, Any], method: str, se: str, pfn: str) -> Permit:
    """What the verified claims of an envelope permit; NotAllowed unless it is ``method`` on this very file."""
    if claims.get("sub") != "envelope":
        raise NotAllowed("a storage element takes envelopes only; ask the catalogue for one (read or write)")
    if claims.get("pfn") != f"{se}:{pfn}":
        raise NotAllowed(f"the envelope is for {claims.get('pfn')}, not for {se}:{pfn}")
    if claims.get("method") not in _PERMITS.get(method, ()):
        raise NotAllowed(f"the envelope permits {claims.get('method')}, not {method}")
    size, md5 = claims.get("size"), claims.get("md5")
    if not isinstance(size, int) or size < 0 or not isinstance(md5, str):
        raise NotAllowed("the envelope names no size and MD5")
    if method == "PUT" and _MD5.fullmatch(md5) is None:
        raise UserError(f"the envelope's MD5 {md5!r} is not 32 hex digits")
    return Permit(pfn, size, md5)


def free(capacity: int, used: int, disk: int, room: int) -> int:
    """Bytes that may still come: what ``capacity`` (0: unlimited) leaves and the ``disk`` holds, with ``room`` to spare."""
    here = max(0, disk - room)
    return max(0, min(here, capacity - used)) if capacity else here
