"""A repository's server side: takes objects and commits from publishers elsewhere, trusting only signatures.

| call | body → answer |
|---|---|
| GET /v1/repositories/{fqrn}/manifest | → {fqrn, revision, root, published, manifest (base64)} |
| GET /v1/repositories/{fqrn}/files/{path} | → {content (base64)}: .cvmfspublished, .cvmfswhitelist, .cvmfsreflog, data/ab/cdef… |
| POST /v1/repositories/{fqrn}/missing | {hashes: [name]} → {missing: [name]} |
| POST /v1/repositories/{fqrn}/objects | `wire` frames → {stored: new ones} |
| POST /v1/repositories/{fqrn}/commit | {base, manifest, whitelist, reflog, master_public} (base64 but base) → {revision} |
| POST /v1/repositories/{fqrn}/whitelist | {whitelist} → {expires} |

Each is safe to repeat. 409 with ``facts.moved`` when another revision came first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import NotFound, UserError
from orchestrator.runtime.files import write_atomic
from orchestrator.runtime.web import route
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs import whitelist as whitelists
from orchestrator.software.cvmfs.accept import check_commit
from orchestrator.software.cvmfs.keys import public_key
from orchestrator.software.cvmfs.model import (
    MANIFEST,
    REFLOG,
    WHITELIST,
    check_fqrn,
    check_object,
    object_path,
)
from orchestrator.software.cvmfs.objects import verify
from orchestrator.software.cvmfs.store import Commit, LocalStore
from orchestrator.software.cvmfs.wire import MAX_NAMES, Unframe

Authorize = Callable[[Request, str], Awaitable[None]]  # (request, role wanted); raises NotAllowed
Now = Callable[[], float]
ROLE = "release"
_MAX_BODY = 256 * 1024 * 1024
_STORE_AT = 8 * 1024 * 1024  # bytes of small objects written at once


class Repositories:
    """All repositories below ``root`` (``root/FQRN``), each pinned to the public master key ``keys/FQRN.pub``.

    A key placed there beforehand is authoritative; otherwise the first commit that verifies pins its own.
    """

    def __init__(self, root: Path, keys: Path) -> None:
        self.root = root
        self.keys = keys
        self._one_at_a_time = threading.Lock()  # commits from afar queue up instead of failing

    def store(self, fqrn: str) -> LocalStore:
        """The files of ``fqrn``; UserError when that is no repository name."""
        return LocalStore(self.root / check_fqrn(fqrn))

    def names(self) -> list[str]:
        """Repositories that have a revision."""
        return sorted(place.parent.name for place in self.root.glob(f"*/{MANIFEST}"))

    def read(self, fqrn: str, path: str) -> bytes:
        """One public file of ``fqrn``; NotFound when it is absent or not one that a repository has."""
        if path not in (MANIFEST, WHITELIST, REFLOG):
            name = path.removeprefix("data/").replace("/", "", 1)
            if object_path(check_object(name)) != path:
                raise NotFound(f"{path} is not a file of a repository", path=path)
        content = self.store(fqrn).read(path)
        if content is None:
            raise NotFound(f"{fqrn} has no {path}", fqrn=fqrn, path=path)
        return content

    def commit(self, fqrn: str, commit: Commit, now: float) -> int:
        """Verify ``commit`` and make it the present revision; its number.

        PermanentError when it does not verify or replaces another revision than the present one.
        """
        store = self.store(fqrn)
        pinned = self.pinned(fqrn)
        with self._one_at_a_time, store.held():
            number = check_commit(store, fqrn, commit, pinned or commit.master_public, now)
            if pinned is None:
                write_atomic(self.keys / f"{fqrn}.pub", commit.master_public)
            store.accept(commit)
        self._tell()
        return number

    def renew(self, fqrn: str, whitelist: bytes, now: float) -> float:
        """Replace the whitelist by one that the pinned key signed; when it expires."""
        pinned = self.pinned(fqrn)
        if pinned is None:
            raise NotFound(f"there is no repository {fqrn} here yet; publish to it first", fqrn=fqrn)
        found = whitelists.verify(whitelist, pinned, fqrn, now)
        write_atomic(self.store(fqrn).root / WHITELIST, whitelist)
        return found.expires

    def pinned(self, fqrn: str) -> bytes | None:
        """The public master key that ``fqrn`` is bound to (PEM)."""
        place = self.keys / f"{check_fqrn(fqrn)}.pub"
        if not place.exists():
            return None
        pem = place.read_bytes()
        public_key(pem)
        return pem

    def _tell(self) -> None:
        """What a stratum 1 asks for: info/v1/repositories.json."""
        listed = [{"name": name, "url": f"/cvmfs/{name}"} for name in self.names()]
        text = json.dumps({"schema": 1, "repositories": listed, "replicas": []}, indent=1)
        write_atomic(self.root / "info/v1/repositories.json", text + "\n")


def routes(repositories: Repositories, authorize: Authorize, now: Now) -> list[BaseRoute]:
    """The calls above; each first awaits ``authorize(request, "release")``. Errors are GridErrors for the
    application's handler (``runtime.web.application`` has it)."""
    guarded = _Guarded(repositories, authorize, now)
    base = "/v1/repositories/{fqrn}"
    return [
        route("GET", f"{base}/manifest", guarded.manifest),
        route("GET", f"{base}/files/{{path:path}}", guarded.file),
        route("POST", f"{base}/missing", guarded.missing),
        route("POST", f"{base}/objects", guarded.objects),
        route("POST", f"{base}/commit", guarded.commit),
        route("POST", f"{base}/whitelist", guarded.whitelist),
    ]


async def receive(store: LocalStore, stream: AsyncIterator[bytes]) -> int:
    """Store the objects in a body of ``wire`` frames, each verified; how many were new.

    UserError or PermanentError at the first bad one; those before it stay, they are what they say.
    """
    parser, batch, size, new = Unframe(), list[tuple[str, bytes]](), 0, 0
    async for piece in stream:
        for name, stored in parser.feed(piece):
            batch.append((name, verify(name, stored)))
            size += len(stored)
        if size >= _STORE_AT:
            new += await store.put(batch)
            batch, size = [], 0
    parser.end()
    return new + await store.put(batch)


class _Guarded:
    def __init__(self, repositories: Repositories, authorize: Authorize, now: Now) -> None:
        self._all = repositories
        self._authorize = authorize
        self._now = now

    async def manifest(self, request: Request) -> dict[str, Any]:
        fqrn = await self._named(request)
        content = await asyncio.to_thread(self._all.read, fqrn, MANIFEST)
        found = manifests.parse(content)
        return {
            "fqrn": fqrn,
            "revision": found.revision,
            "root": found.catalog,
            "published": found.published,
            "manifest": base64.b64encode(content).decode(),
        }

    async def file(self, request: Request) -> dict[str, str]:
        fqrn = await self._named(request)
        content = await asyncio.to_thread(self._all.read, fqrn, request.path_params["path"])
        return {"content": base64.b64encode(content).decode()}

    async def missing(self, request: Request) -> dict[str, list[str]]:
        store = self._all.store(await self._named(request))
        names = (await _object(request)).get("hashes")
        if not isinstance(names, list) or len(names) > MAX_NAMES:
            raise UserError(f"'hashes' must be a list of at most {MAX_NAMES} object names")
        wanted = [check_object(str(name)) for name in names]
        return {"missing": sorted(await store.missing(wanted))}

    async def objects(self, request: Request) -> dict[str, int]:
        store = self._all.store(await self._named(request))
        return {"stored": await receive(store, request.stream())}

    async def commit(self, request: Request) -> dict[str, int]:
        fqrn = await self._named(request)
        body = await _object(request)
        commit = Commit(
            base=str(body.get("base", "")),
            manifest=_bytes(body, "manifest"),
            whitelist=_bytes(body, "whitelist"),
            reflog=_bytes(body, "reflog"),
            master_public=_bytes(body, "master_public"),
        )
        return {"revision": await asyncio.to_thread(self._all.commit, fqrn, commit, self._now())}

    async def whitelist(self, request: Request) -> dict[str, float]:
        fqrn = await self._named(request)
        content = _bytes(await _object(request), "whitelist")
        return {"expires": await asyncio.to_thread(self._all.renew, fqrn, content, self._now())}

    async def _named(self, request: Request) -> str:
        await self._authorize(request, ROLE)
        return check_fqrn(str(request.path_params["fqrn"]))


async def _object(request: Request) -> dict[str, Any]:
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > _MAX_BODY:
            raise UserError(
                f"the body of {request.url.path} is too large; at most {_MAX_BODY} bytes are taken"
            )
    try:
        value = json.loads(held)
    except ValueError as error:
        raise UserError(f"the body of {request.url.path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"the body of {request.url.path} must be a JSON object")
    return value


def _bytes(body: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(str(body.get(name, "")), validate=True)
    except binascii.Error as error:
        raise UserError(f"'{name}' is not base64") from error
