"""The package cache by HTTP alone (torrents: tests/integration), over a real ASGI file server."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.software.archive import pack
from orchestrator.software.environment import payload_environment
from orchestrator.software.install import PackageCache
from orchestrator.software.model import Package
from orchestrator.software.torrent.make import make


class Depot:
    """Releases and their archives, served over HTTP."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        app = Starlette(routes=[Route("/{name}", self.serve)])
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://depot")

    async def serve(self, request: Request) -> Response:
        self.requests.append(request.path_params["name"])
        await asyncio.sleep(0)
        return FileResponse(self.root / request.path_params["name"])

    def publish(self, name: str, version: str = "1", size: int = 200_000) -> Package:
        tree = self.root / "trees" / f"{name}-{version}"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin" / "run").write_bytes(os.urandom(size))
        archive = self.root / f"{name}-{version}.tar.gz"
        made, torrent = pack(tree, archive), make(archive)
        return Package(
            name,
            version,
            "vo.example.org",
            f"{name}/{version}",
            1,
            made.size,
            made.sha256,
            torrent.info_hash,
            torrent.data,
        )

    def urls(self, package: Package) -> list[str]:
        return [f"http://depot/{package.name}-{package.version}.tar.gz"]

    def content(self, package: Package) -> bytes:
        return (self.root / "trees" / f"{package.name}-{package.version}" / "bin" / "run").read_bytes()

    def cache(self, root: Path, limit: int | None = None) -> PackageCache:
        return PackageCache(root, limit=limit, client=self.client, mounts=self.root / "cvmfs")


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    (tmp_path / "depot").mkdir()
    return Depot(tmp_path / "depot")


async def test_fetched_once_for_many_agents_of_a_node(depot: Depot, tmp_path: Path) -> None:
    package = depot.publish("A")
    caches = [depot.cache(tmp_path / "node") for _ in range(5)]
    paths = await asyncio.gather(*(cache.ensure(package, depot.urls(package)) for cache in caches))
    assert len(set(paths)) == 1
    assert (paths[0] / "bin" / "run").read_bytes() == depot.content(package)
    assert depot.requests == ["A-1.tar.gz"]
    assert caches[0].installed() == ["A::1"]
    environment = payload_environment([(package.name, paths[0])], {"PATH": "/bin"})
    assert environment == {"PATH": f"{paths[0]}/bin:/bin", "A_ROOT": str(paths[0])}


async def test_mounted_cvmfs_comes_first(depot: Depot, tmp_path: Path) -> None:
    package = depot.publish("A")
    mounted = depot.root / "cvmfs" / "vo.example.org" / "A" / "1"
    mounted.mkdir(parents=True)
    assert await depot.cache(tmp_path / "node").ensure(package, depot.urls(package)) == mounted
    assert depot.requests == []


async def test_least_recently_used_goes_but_never_what_is_in_use(depot: Depot, tmp_path: Path) -> None:
    packages = [depot.publish(name) for name in "ABC"]
    cache, other = (depot.cache(tmp_path / "node", limit=900_000) for _ in range(2))  # two fit
    first, second, third = packages
    await other.ensure(first, depot.urls(first))
    path = await cache.ensure(second, depot.urls(second))
    cache.release(second)
    await cache.ensure(third, depot.urls(third))
    assert cache.installed() == ["A::1", "C::1"]
    assert not path.exists()
    other.close()
    await cache.ensure(second, depot.urls(second))
    assert cache.installed() == ["B::1", "C::1"]
    assert depot.requests == [f"{name}-1.tar.gz" for name in "ABCB"]


async def test_a_lease_is_counted(depot: Depot, tmp_path: Path) -> None:
    package = depot.publish("A")
    cache = depot.cache(tmp_path / "node", limit=1)
    await cache.ensure(package, depot.urls(package))
    path = await cache.ensure(package, depot.urls(package))
    cache.release(package)
    assert await cache.evict() == []
    assert path.is_dir()
    cache.release(package)
    assert len(await cache.evict()) == 1
    cache.release(package)  # once too often: nothing happens


async def test_what_a_killed_agent_left_is_used_or_cleared(depot: Depot, tmp_path: Path) -> None:
    package = depot.publish("A")
    path = await depot.cache(tmp_path / "node").ensure(package, depot.urls(package))
    home = path.parent
    (home / "package.json").unlink()
    (path / "bin" / "run").write_bytes(b"half")
    (home / ".release.x").mkdir()
    archive = home / "archive" / "A-1.tar.gz"
    archive.rename(archive.with_name("A-1.tar.gz.part"))
    again = await depot.cache(tmp_path / "node").ensure(package, depot.urls(package))
    assert (again / "bin" / "run").read_bytes() == depot.content(package)
    assert depot.requests == ["A-1.tar.gz"]
    assert sorted(path.name for path in home.iterdir()) == ["archive", "package.json", "release", "used"]


async def test_errors_leave_no_lease_and_no_release(depot: Depot, tmp_path: Path) -> None:
    package = depot.publish("A")
    cache = depot.cache(tmp_path / "node", limit=1)
    with pytest.raises(TemporaryError):
        await cache.ensure(package, [])
    good = (depot.root / "A-1.tar.gz").read_bytes()
    (depot.root / "A-1.tar.gz").write_bytes(bytes(len(good)))
    with pytest.raises(PermanentError):
        await cache.ensure(package, depot.urls(package))
    assert cache.installed() == []
    (depot.root / "A-1.tar.gz").write_bytes(good)
    assert (await cache.ensure(package, depot.urls(package))).is_dir()


async def test_a_torrent_of_another_archive_is_refused(depot: Depot, tmp_path: Path) -> None:
    one, two = depot.publish("A"), depot.publish("B", size=100_000)
    mixed = Package.from_json(one.to_json() | {"torrent": two.to_json()["torrent"]})
    with pytest.raises(PermanentError, match="another archive"):
        await depot.cache(tmp_path / "node").ensure(mixed, depot.urls(one))


async def test_a_cancelled_call_lets_the_next_one_in(depot: Depot, tmp_path: Path) -> None:
    package = depot.publish("A")
    cache = depot.cache(tmp_path / "node")
    waiting = asyncio.create_task(cache.ensure(package, depot.urls(package)))
    while not depot.requests:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await cache.ensure(package, depot.urls(package))).is_dir()
