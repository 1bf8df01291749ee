"""Real swarms on loopback: tracker under uvicorn, libtorrent sessions, each node at its own 127.x.y.z."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from orchestrator.errors import TemporaryError, UserError
from orchestrator.software.archive import checksum, pack
from orchestrator.software.install import PackageCache
from orchestrator.software.model import Package
from orchestrator.software.torrent.fetch import FetchResult, fetch
from orchestrator.software.torrent.make import make
from orchestrator.software.torrent.patience import Patience
from orchestrator.software.torrent.seed import Seeder
from orchestrator.software.torrent.session import Session
from orchestrator.software.torrent.swarm import Policy, Swarms
from orchestrator.software.torrent.swarm import Seeder as SeederNetwork
from orchestrator.software.torrent.tracker import routes
from tests.support.same import same

SIZE = 6_000_000
IMPATIENT = Patience(web_after=0.3, http_after=1.0)
# One /16 a test process, so that runs side by side do not meet.
PREFIX = f"127.{64 + os.getpid() % 128}"
SEEDER = """
import sys, time
from pathlib import Path
from orchestrator.software.torrent.seed import Seeder
from orchestrator.software.torrent.session import Session
session = Session(sys.argv[1], seeder=True)
seeder = Seeder(Path(sys.argv[2]), session)
problems = seeder.start() | seeder.adopt(Path(sys.argv[3]))
while not seeder.ready():
    time.sleep(0.02)
    problems = seeder.maintain()
problems |= seeder.maintain()
print("ready", session.port(), len(seeder.seeds()), problems, flush=True)
sys.stdin.read()
"""


def wait_for(what: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.02)


class Web:
    """A uvicorn server in a thread, at a free port of its address."""

    def __init__(self, address: str, served: list[BaseRoute]) -> None:
        config = uvicorn.Config(
            Starlette(routes=served), host=address, port=0, log_level="warning", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://{address}:{port}"

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@dataclass
class Grid:
    """One central address with tracker and web server; nodes of site A at .1.x, of site B at .2.x."""

    root: Path
    stack: ExitStack
    requests: list[str] = field(default_factory=list)
    swarms: Swarms = field(init=False)
    web: Web = field(init=False)

    def __post_init__(self) -> None:
        networks = tuple(
            (ipaddress.ip_network(f"{PREFIX}.{n}.0/24"), site) for n, site in ((1, "A"), (2, "B"))
        )
        seeders = (SeederNetwork(ipaddress.ip_network(f"{PREFIX}.0.9/32")),)
        self.swarms = Swarms(Policy("", networks, seeders, interval=5, min_interval=1))
        (self.root / "web").mkdir()
        self.web = Web(f"{PREFIX}.0.1", [*routes(self.swarms), Route("/files/{name}", self._serve)])
        self.stack.callback(self.web.close)

    async def _serve(self, request: Request) -> Response:
        self.requests.append(request.path_params["name"])
        return FileResponse(self.root / "web" / request.path_params["name"])

    def archive(
        self, name: str = "big-1.tar.gz", *, web_seed: bool = False, hybrid: bool = True
    ) -> tuple[Path, bytes]:
        path = self.root / "web" / name
        path.write_bytes(os.urandom(SIZE))
        urls = [f"{self.web.url}/files/{name}"] if web_seed else []
        torrent = make(path, trackers=[f"{self.web.url}/announce"], web_seeds=urls, hybrid=hybrid).data
        path.with_name(name + ".torrent").write_bytes(torrent)
        return path, torrent

    def session(self, host: str, *, seeder: bool = False) -> Session:
        session = Session(f"{PREFIX}.{host}:0", seeder=seeder)
        self.stack.callback(session.close)
        return session

    def announced(self, host: str) -> bool:
        """Whether a complete peer at that address is known to the tracker."""
        address = f"{PREFIX}.{host}"
        return any(
            peer.address == address and peer.left == 0
            for swarm in list(self.swarms._swarms.values())
            for peer in list(swarm.peers.values())
        )


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    with ExitStack() as stack:
        yield Grid(tmp_path, stack)


@pytest.fixture
async def seeder_process(grid: Grid) -> AsyncIterator[Callable[[], tuple[subprocess.Popen[str], str]]]:
    """Starts a seeder in a process of its own; gives it and the line it printed when it was ready."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str]:
        arguments = [f"{PREFIX}.0.9:0", str(grid.root / "seeds"), str(grid.root / "web")]
        process = subprocess.Popen(
            [sys.executable, "-c", SEEDER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline()

    yield start
    for process in started:
        process.kill()
        process.communicate()


async def get(grid: Grid, torrent: bytes, host: str, **more: object) -> FetchResult:
    sha256 = str(more.pop("sha256", "0" * 64))
    options: dict[str, object] = {"patience": IMPATIENT, "timeout": 20.0} | more
    session = grid.session(host)
    return await fetch(torrent, grid.root / host, session=session, sha256=sha256, **options)  # type: ignore[arg-type]


async def test_leechers_share_and_a_killed_seeder_comes_back_by_itself(
    grid: Grid, seeder_process: Callable[[], tuple[subprocess.Popen[str], str]]
) -> None:
    archive, torrent = grid.archive()
    grid.archive("other-1.tar.gz")
    seeder, line = seeder_process()
    assert line.split()[0::2][:2] == ["ready", "2"]
    assert line.endswith("{}\n")

    seen: list[int] = []
    first = await get(grid, torrent, "1.1", progress=lambda done, total: seen.append(done))
    assert same(first.path, archive)
    assert (first.from_peers, first.from_web, first.from_http) == (SIZE, 0, 0)
    assert set(first.by_address) <= {f"{PREFIX}.0.9"}
    assert seen == sorted(seen)
    assert seen[-1] == SIZE

    seeder.send_signal(signal.SIGKILL)
    seeder.communicate()
    second = await get(grid, torrent, "1.2")
    assert same(second.path, archive)
    assert set(second.by_address) == {f"{PREFIX}.1.1"}
    assert first.torrent is not None
    given = first.torrent.uploaded()
    assert given >= SIZE

    _, line = seeder_process()
    assert line.split()[0::2][:2] == ["ready", "2"]
    other_site = await get(grid, torrent, "2.1")  # B's nodes hear of the seeder, not of A's nodes
    assert same(other_site.path, archive)
    assert set(other_site.by_address) <= {f"{PREFIX}.0.9"}
    assert first.torrent.uploaded() == given
    assert grid.requests == []


async def test_many_at_once_take_from_each_other(grid: Grid) -> None:
    archive, torrent = grid.archive()
    session = Session(f"{PREFIX}.0.9:0", seeder=True, upload_limit=4_000_000)
    grid.stack.callback(session.close)
    seeder = Seeder(grid.root / "seeds", session)
    seeder.start()
    seeder.add(archive, torrent, verified=True)
    results = await asyncio.gather(*(get(grid, torrent, f"1.{n}") for n in range(1, 5)))
    assert all(same(result.path, archive) for result in results)
    # Four whole copies left the seeder if nobody shared.
    assert seeder.uploaded() < 3.5 * SIZE
    assert sum(result.from_peers for result in results) == 4 * SIZE


async def test_a_lone_node_takes_the_web_seed(grid: Grid) -> None:
    archive, torrent = grid.archive(web_seed=True)
    result = await get(grid, torrent, "1.1")
    assert same(result.path, archive)
    assert (result.from_peers, result.from_web, result.from_http) == (0, SIZE, 0)
    assert grid.requests


async def test_http_is_the_last_resort_and_then_the_node_seeds(grid: Grid) -> None:
    archive, torrent = grid.archive()
    sha256 = checksum(archive).sha256
    url = f"{grid.web.url}/files/{archive.name}"
    first = await get(grid, torrent, "1.1", http_urls=[url], sha256=sha256)
    assert (first.from_peers, first.from_web, first.from_http) == (0, 0, SIZE)
    assert grid.requests == [archive.name]
    await asyncio.to_thread(wait_for, lambda: grid.announced("1.1"))
    second = await get(grid, torrent, "1.2", http_urls=[url], sha256=sha256)
    assert (second.from_peers, second.from_http) == (SIZE, 0)
    assert same(second.path, archive)
    assert grid.requests == [archive.name]


async def test_without_any_source_it_ends_in_time_and_goes_on_later(grid: Grid) -> None:
    archive, torrent = grid.archive()
    began = time.monotonic()
    with pytest.raises(TemporaryError, match="did not come within"):
        await get(grid, torrent, "2.1", timeout=1.0)
    assert time.monotonic() - began < 5
    # Half of it is here already: only the other half is fetched.
    (grid.root / "1.1").mkdir()
    with (grid.root / "1.1" / archive.name).open("wb") as half:
        half.write(archive.read_bytes()[: SIZE // 2])
        half.truncate(SIZE)
    session = grid.session("1.9")
    session.add(torrent, archive.parent, verified=True, upload_only=True)
    result = await get(grid, torrent, "1.1")
    assert same(result.path, archive)
    assert 0 < result.from_peers <= SIZE // 2 + (1 << 20)


def test_a_seeder_hashes_again_only_what_changed(grid: Grid) -> None:
    archive, torrent = grid.archive()
    with Session(f"{PREFIX}.0.9:0") as session:
        seeder = Seeder(grid.root / "seeds", session)
        seeder.start()
        info_hash = seeder.add(archive, torrent)
        wait_for(lambda: seeder.maintain() == {} and seeder.seeds()[0].verified)
        facts = archive.stat()
    with archive.open("r+b") as file:
        file.write(b"changed")
    os.utime(archive, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with Session(f"{PREFIX}.0.9:0") as session:  # same size and time: believed, so not hashed
        seeder = Seeder(grid.root / "seeds", session)
        assert seeder.start() == {}
        wait_for(seeder.ready)
    os.utime(archive)
    with Session(f"{PREFIX}.0.9:0") as session:
        seeder = Seeder(grid.root / "seeds", session)
        seeder.start()
        wait_for(lambda: "damaged" in seeder.maintain().get(info_hash, ""))
        assert archive.read_bytes().startswith(b"changed")  # a seeder never writes
        archive.unlink()
        assert "missing" in seeder.maintain()[info_hash]
        assert not seeder.ready()
        seeder.drop(info_hash)
        assert seeder.maintain() == {}
        with pytest.raises(UserError, match="not the file"):
            seeder.add(archive, torrent)
    assert list((grid.root / "seeds").iterdir()) == []


def test_adopting_follows_a_replaced_archive(grid: Grid) -> None:
    grid.archive("a-1.tar.gz")
    with Session(f"{PREFIX}.0.9:0") as session:
        seeder = Seeder(grid.root / "seeds", session)
        seeder.start()
        assert seeder.adopt(grid.root / "web") == {}
        first = seeder.seeds()[0].info_hash
        grid.archive("a-1.tar.gz")
        assert seeder.adopt(grid.root / "web") == {}
        assert [seed.info_hash for seed in seeder.seeds()] != [first]
        assert len(seeder.seeds()) == 1
        wait_for(seeder.ready)
        (grid.root / "web" / "b-1.tar.gz.torrent").write_bytes(b"junk")
        assert "b-1.tar.gz.torrent" in seeder.adopt(grid.root / "web")


async def test_the_package_cache_gives_on_what_it_fetched(grid: Grid) -> None:
    tree = grid.root / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "run").write_bytes(os.urandom(SIZE))
    archive = grid.root / "web" / "A-1.tar.gz"
    made = pack(tree, archive)
    torrent = make(archive, trackers=[f"{grid.web.url}/announce"])
    package = Package("A", "1", "", "", 0, made.size, made.sha256, torrent.info_hash, torrent.data)
    urls = [f"{grid.web.url}/files/A-1.tar.gz"]
    fetched: list[FetchResult] = []

    def cache(node: str, session: Session, limit: int | None = None) -> PackageCache:
        one = PackageCache(
            grid.root / node,
            session=session,
            limit=limit,
            patience=IMPATIENT,
            timeout=20,
            on_fetch=lambda _, result: fetched.append(result),
        )
        grid.stack.callback(one.close)
        return one

    first = cache("node1", grid.session("1.1"), limit=1)
    same_node = cache("node1", grid.session("1.2"))
    path = await first.ensure(package, urls)
    assert (path / "bin" / "run").read_bytes() == (tree / "bin" / "run").read_bytes()
    assert await same_node.ensure(package, urls) == path
    same_node.release(package)
    await asyncio.to_thread(wait_for, lambda: grid.announced("1.1"))
    second = cache("node2", grid.session("1.3"))
    await second.ensure(package, urls)
    assert [(result.from_http, result.from_peers) for result in fetched] == [(made.size, 0), (0, made.size)]
    assert set(fetched[1].by_address) == {f"{PREFIX}.1.1"}

    first.release(package)
    assert len(await first.evict()) == 1  # and the torrent is left: the next node asks node2
    await asyncio.to_thread(wait_for, lambda: not grid.announced("1.1"))
    await cache("node3", grid.session("1.4")).ensure(package, urls)
    assert set(fetched[2].by_address) == {f"{PREFIX}.1.3"}
    assert grid.requests == ["A-1.tar.gz"]
    await same_node.ensure(package, urls)  # evicted by another agent of its node: fetched again
    assert set(fetched[3].by_address) <= {f"{PREFIX}.1.3", f"{PREFIX}.1.4"}


@pytest.fixture(scope="session")
def aria2() -> str:
    """The aria2c program, installed from the distribution if it is missing."""
    if shutil.which("aria2c") is None:
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=600"]
        subprocess.run([*apt, "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
        install = [*apt, "install", "-y", "-qq", "--no-install-recommends", "aria2"]
        subprocess.run(
            install,
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
    found = shutil.which("aria2c")
    assert found is not None
    return found


async def test_aria2_fetches_and_gives_on(grid: Grid, aria2: str) -> None:
    archive, torrent = grid.archive(hybrid=False)  # Debian 12's aria2 1.36 miscomputes hybrid info-hashes
    session = grid.session("0.9", seeder=True)
    session.add(torrent, archive.parent, verified=True, upload_only=True)
    await asyncio.to_thread(wait_for, lambda: grid.announced("0.9"))
    (grid.root / "aria2").mkdir()
    port = 20000 + os.getpid() % 10000
    process = subprocess.Popen(
        [
            aria2,
            "--no-conf",
            "--quiet",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--disable-ipv6=true",
            f"--interface={PREFIX}.1.7",
            f"--listen-port={port}-{port + 99}",
            "--seed-ratio=0.0",
            f"--dir={grid.root / 'aria2'}",
            str(archive.with_name(archive.name + ".torrent")),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        await asyncio.to_thread(wait_for, lambda: grid.announced("1.7"), 30)
        assert same(grid.root / "aria2" / archive.name, archive)
        session.close()
        result = await get(grid, torrent, "1.8")  # now from aria2 alone
        assert same(result.path, archive)
        assert set(result.by_address) <= {f"{PREFIX}.1.7"}
    finally:
        process.terminate()
        process.wait(10)
