"""The package routes of central, and the archives at a VO box, as a publisher sees them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from orchestrator.runtime.http import Api
from orchestrator.software.model import Package, PackageName

Json = dict[str, Any]
_BLOCK = 1 << 20


async def listing(central: Api, name: str | None = None, version: str | None = None) -> list[Json]:
    """Packages without their torrents, by name, newest version first: {name, version, fqrn, path, revision,
    size, sha256, info_hash, made (seconds since the epoch), by}."""
    found: list[Json] = await central.get("/v1/packages", name=name, version=version, brief="1")
    return found


async def entry(central: Api, name: PackageName) -> Package | None:
    """The entry of one package; None when it is not published."""
    found = await central.get("/v1/packages", name=name.name, version=name.version)
    return Package.from_json(found[0]) if found else None


async def publish(central: Api, package: Package) -> Package:
    """The package is published: the commit point. Repeating is harmless.

    PermanentError when its version is known with other contents; NotAllowed without the role release.
    """
    return Package.from_json(await central.post("/v1/packages", package.to_json()))


async def upload(
    packman: Api,
    name: PackageName,
    archive: Path,
    file: str,
    sha256: str,
    progress: Callable[[int, int], None],
) -> None:
    """The VO box has the archive as ``file``, whole. ``progress``: bytes sent, bytes in all."""
    await packman.call(
        "PUT",
        f"/v1/releases/{name.name}/{name.version}",
        params={"sha256": sha256, "file": file},
        content=_Body(archive, archive.stat().st_size, progress),
        timeout=600,
    )


async def is_at(url: str, size: int) -> bool:
    """Whether a file of ``size`` bytes is there; False when nobody answers."""
    async with httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(10.0, connect=5.0)) as http:
        with contextlib.suppress(httpx.TransportError):
            answer = await http.head(url)
            return answer.is_success and answer.headers.get("Content-Length") == str(size)
    return False


@dataclass(frozen=True)
class _Body:
    """A file as a request's body; it can be sent again when a call is repeated."""

    file: Path
    size: int
    progress: Callable[[int, int], None]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent = 0
        with self.file.open("rb") as source:
            while block := await asyncio.to_thread(source.read, _BLOCK):
                yield block
                sent += len(block)
                self.progress(sent, self.size)
