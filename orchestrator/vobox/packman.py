"""PackMan: the site's copies of release archives, and what its agents need to get one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import NotFound, PermanentError, TemporaryError, UserError
from orchestrator.runtime import logs
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.files import write_atomic
from orchestrator.runtime.http import Api
from orchestrator.runtime.web import caller, route
from orchestrator.software.model import Package, PackageName, parse_spelling

_FRESH = 10.0  # seconds a package entry is believed
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,200}")
_ROOM, _LOOK = 256 << 20, 64 << 20  # bytes left to others on the disk, and between two looks at it
_LOOK_AHEAD, _LATER = 30.0, 600.0  # seconds between two looks at what jobs will want; where nobody can tell
_AHEAD = 10  # packages of one look
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Torrents:
    """What PackMan must do with torrents, given to it by the composition root.

    ``file_of``: name and size of a torrent's file; ``readdress``: the same torrent with these trackers
    and web seeds; ``obtain``: bring the archive of the package to that path, whole and checked.
    """

    file_of: Callable[[bytes], tuple[str, int]]
    readdress: Callable[[bytes, str, str], bytes]
    obtain: Callable[[Package, Path], Awaitable[None]]


class PackMan:
    """Archives stand in ``releases``, each with FILE.torrent beside it for the seeder; ``web`` serves them.

    ``base``: the site's public web, for example http://127.0.3.1:8080.
    """

    def __init__(
        self, releases: Path, base: str, clustermonitor: Api, torrents: Torrents, clock: Clock
    ) -> None:
        self._releases = releases
        self._base = base.rstrip("/")
        self._clustermonitor = clustermonitor
        self._torrents = torrents
        self._clock = clock
        self._known: dict[PackageName, tuple[float, Package]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._log = logs.get("packman")

    def routes(self) -> list[BaseRoute]:
        """GET /v1/packages/NAME/VERSION, PUT /v1/releases/NAME/VERSION."""
        return [
            route("GET", "/v1/packages/{name}/{version}", self.package),
            route("PUT", "/v1/releases/{name}/{version}", self.upload),
        ]

    async def package(self, request: Request) -> Any:
        """The package entry with this site's tracker, web seed and URLs; the archive is here and seeded."""
        caller(request).require("agent", "job", "vobox", "user", "release", "admin")
        name = PackageName(request.path_params["name"], request.path_params["version"])
        found = await self._entry(name)
        file, _ = self._torrents.file_of(found.torrent)
        urls: list[str] = []
        try:
            await self._prepare(found, file)
            urls = [f"{self._base}/releases/{file}"]
        except TemporaryError as error:  # the swarm may have it all the same
            self._log.warning("archive is not here", package=found.spelling, reason=error.message)
        torrent = self._addressed(found, file)
        return found.to_json() | {"torrent": base64.b64encode(torrent).decode(), "urls": urls}

    async def ahead(self) -> float:
        """The archives that waiting jobs want at this site are here, and seeded, before the first agent asks for one.

        Returns the seconds until the next look. One that cannot be had is tried again then.
        """
        try:
            wanted = (await self._clustermonitor.get("/v1/packages/wanted"))["packages"]
        except NotFound:
            return _LATER  # the ClusterMonitor or central is of a version that does not know
        for each in wanted[:_AHEAD]:
            try:
                found = await self._entry(parse_spelling(str(each["package"])))
                file, _ = self._torrents.file_of(found.torrent)
                if (self._releases / file).is_file():
                    continue
                self._releases.mkdir(parents=True, exist_ok=True)
                if _free(self._releases / file) < found.size + _ROOM:
                    raise TemporaryError(f"there is no room for {file} on this VO box", retry_in=_LOOK_AHEAD)
                await self._prepare(found, file)
            except (TemporaryError, PermanentError, NotFound) as error:
                self._log.warning("package is not here ahead", package=each["package"], reason=error.message)
            else:
                self._log.info("package is here ahead of its jobs", package=found.spelling, size=found.size)
        return _LOOK_AHEAD

    async def upload(self, request: Request) -> Any:
        """Store the body as a release archive. Its checksum (query ``sha256``) must hold; repeating is harmless.

        Query ``file``: its name, NAME-VERSION.tar.gz when absent.
        """
        caller(request).require("release", "admin")
        name = PackageName(request.path_params["name"], request.path_params["version"])
        sha256 = request.query_params.get("sha256", "")
        file = request.query_params.get("file") or f"{name.name}-{name.version}.tar.gz"
        if not _SHA256.fullmatch(sha256) or not _FILE.fullmatch(file) or file.endswith(".torrent"):
            raise UserError(f"upload of {name}: give sha256 (64 hex digits) and a plain file name")
        size = await receive(request.stream(), self._releases / file, sha256)
        self._log.info("release received", package=str(name), file=file, size=size)
        return {"url": f"{self._base}/releases/{file}", "file": file, "size": size, "sha256": sha256}

    async def _entry(self, name: PackageName) -> Package:
        now = self._clock.monotonic()
        known = self._known.get(name)
        if known is not None and now - known[0] < _FRESH:
            return known[1]
        answer = await self._clustermonitor.get("/v1/packages", name=name.name, version=name.version)
        rows = answer.get("packages", []) if isinstance(answer, dict) else answer
        if not rows:
            raise NotFound(f"package {name} is not published; see `orchestrate software list`")
        found = Package.from_json(rows[0])
        self._known[name] = (now, found)
        return found

    async def _prepare(self, package: Package, file: str) -> None:
        """The archive is here; its torrent lies beside it, where the seeder looks."""
        path = self._releases / file
        async with self._locks.setdefault(file, asyncio.Lock()):
            if not path.is_file() or path.stat().st_size != package.size:
                await self._torrents.obtain(package, path)
            wanted, beside = self._addressed(package, file), path.with_name(f"{file}.torrent")
            if not beside.is_file() or beside.read_bytes() != wanted:
                await asyncio.to_thread(write_atomic, beside, wanted)

    def _addressed(self, package: Package, file: str) -> bytes:
        return self._torrents.readdress(
            package.torrent, f"{self._base}/announce", f"{self._base}/releases/{file}"
        )


async def receive(stream: AsyncIterator[bytes], target: Path, sha256: str) -> int:
    """``target`` has the stream's bytes, whole or not at all; returns their number. UserError: another checksum."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    digest, size = hashlib.sha256(), 0
    try:
        with part.open("wb") as out:
            async for block in stream:
                digest.update(block)
                if size // _LOOK != (size + len(block)) // _LOOK and _free(target) < _ROOM:
                    raise TemporaryError(f"there is no room for {target.name} on this VO box", retry_in=60.0)
                size += len(block)
                await asyncio.to_thread(out.write, block)
            out.flush()
            await asyncio.to_thread(os.fsync, out.fileno())
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{target.name} arrived with checksum {digest.hexdigest()}, not {sha256}; send it again"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return size


def _free(path: Path) -> int:
    return shutil.disk_usage(path.parent).free
