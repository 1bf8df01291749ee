"""The CE with real agents, PackMan with web and seeder, as real processes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import http.server
import io
import os
import signal
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.runtime import web
from orchestrator.runtime.http import tls_context
from orchestrator.software.torrent import make
from tests.support.same import same


async def _wait(true: Any, what: str, seconds: float = 30.0) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < give_up, f"{what} did not come"
        await asyncio.sleep(0.02)
    return found


async def test_the_ce_keeps_an_agent_idle_and_agents_outlive_it(machine: Any, central: Any) -> None:
    machine.start("clustermonitor")
    await machine.ready()
    ce = machine.start("ce", "--name", "farm")
    try:
        await _wait(lambda: central.claims, "an idle agent")
        assert central.claims[0]["ad"]["CE"] == "farm"
        slots = machine.root / "data/ce/farm"
        assert [file.stat().st_mode & 0o777 for file in slots.glob("*/agent.json")] == [0o600]
        environ = Path(f"/proc/{_pid(slots)}/environ").read_bytes()
        assert f"ORCHESTRATE_MACHINE={machine.root}".encode() in environ
        central.job(1)
        await _wait(lambda: "DONE" in central.states(1), "the first job")
        os.kill(ce.pid, signal.SIGKILL)
        ce.wait()
        central.job(2)
        await _wait(lambda: "DONE" in central.states(2), "a job without the CE")
        before = {folder.name for folder in slots.iterdir()}
        machine.start("ce", "--name", "farm")
        log = machine.root / "log/ce_farm.log"
        await _wait(
            lambda: log.read_text().count('"decided"') >= 3 or "are free for" in log.read_text()[-400:], "CE"
        )
        assert {folder.name for folder in slots.iterdir()} == before, "the agents were known again"
    finally:
        for file in (machine.root / "data/ce/farm").glob("*/pid"):
            os.killpg(int(file.read_text().split()[0]), signal.SIGTERM)
        await _wait(lambda: not _alive(machine.root), "the agents' end")


def _pid(slots: Path) -> int:
    return int(next(slots.glob("*/pid")).read_text().split()[0])


def _alive(root: Path) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"{root}/data/ce".encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _archive(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(_entry("hello.txt", 300_000), io.BytesIO(os.urandom(300_000)))
    (folder / "Tool-1.tar.gz").write_bytes(buffer.getvalue())
    return buffer.getvalue()


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


async def test_a_release_is_uploaded_served_and_seeded(machine: Any, central: Any, tmp_path: Path) -> None:
    data = _archive(tmp_path)
    torrent = make.make(tmp_path / "Tool-1.tar.gz")
    sha256 = hashlib.sha256(data).hexdigest()
    package = {
        "name": "Tool", "version": "1", "fqrn": "testvo.example.org", "path": "Tool/1", "revision": 1,
        "size": len(data), "sha256": sha256, "info_hash": torrent.info_hash, "torrent": _base64(torrent.data),
    }  # fmt: skip

    async def packages(request: Any) -> Any:
        web.caller(request).require("vobox")
        return [package] if request.query_params["name"] == "Tool" else []

    await central.stop()
    routes = central._routes()
    central._routes = lambda: [*routes, web.route("GET", "/v1/packages", packages)]
    await central.start()
    for program in ("clustermonitor", "packman", "web", "seeder"):
        machine.start(program)
    await machine.ready(8445)
    await machine.ready(8446)
    await machine.ready(8080, "http")
    tls = tls_context(machine.root / "etc/tls/ca.pem")
    release = central.signer.sign({"sub": "user:rose", "roles": ["user", "release"]}, time.time(), 600)
    user = central.signer.sign({"sub": "user:ada", "roles": ["user"]}, time.time(), 600)
    target = f"https://{machine.address}:8446/v1/releases/Tool/1"
    async with httpx.AsyncClient(verify=tls, trust_env=False) as http:
        refused = await http.put(target, content=data, params={"sha256": sha256}, headers=_bearer(user))
        assert refused.status_code == 403
        wrong = await http.put(target, content=data[:-1], params={"sha256": sha256}, headers=_bearer(release))
        assert wrong.status_code == 400
        assert not list((machine.root / "data/www/releases").iterdir())
        put = await http.put(target, content=data, params={"sha256": sha256}, headers=_bearer(release))
        assert put.json()["url"] == f"http://{machine.address}:8080/releases/Tool-1.tar.gz"
        part = await http.get(put.json()["url"], headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, data[100:200])
        for hidden in (
            "/releases/.x",
            "/etc/tls/host.key",
            "/releases/../../../etc/tls/host.key",
            "/releases/",
        ):
            assert (await http.get(f"http://{machine.address}:8080{hidden}")).status_code == 404, hidden
    async with machine.api() as api:
        agent = (await api.post("/v1/redeem", {"host": "h"}, token=central.enrolment("p")))["token"]
        told = await api.get("/v1/packages/Tool/1", token=agent, timeout=20)
        assert told["urls"] == [f"http://{machine.address}:8080/releases/Tool-1.tar.gz"]
        assert told["info_hash"] == torrent.info_hash
        from orchestrator.errors import NotFound

        with pytest.raises(NotFound, match="Nothing::1 is not published"):
            await api.get("/v1/packages/Nothing/1", token=agent, timeout=20)
    (tmp_path / "node").mkdir()
    import base64

    from orchestrator.software.torrent.fetch import fetch
    from orchestrator.software.torrent.patience import Patience
    from orchestrator.software.torrent.session import Session

    with Session(f"{machine.address}:0") as session:
        got = await fetch(
            base64.b64decode(told["torrent"]), tmp_path / "node", session=session, sha256=sha256,
            patience=Patience(web_after=20, http_after=30), timeout=30,
        )  # fmt: skip
    assert same(got.path, data)
    assert got.from_peers == len(data), "it came from the seeder, by the tracker"


async def test_a_release_that_waiting_jobs_want_is_here_before_anybody_asks(
    machine: Any, central: Any, tmp_path: Path
) -> None:
    data = _archive(tmp_path)
    wanted = [{"package": "Gone::1", "jobs": 1}]
    with _served(tmp_path) as url:
        torrent = make.make(tmp_path / "Tool-1.tar.gz", web_seeds=[f"{url}/Tool-1.tar.gz"])
        package = {
            "name": "Tool", "version": "1", "fqrn": "", "path": "", "revision": 1, "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(), "info_hash": torrent.info_hash,
            "torrent": _base64(torrent.data),
        }  # fmt: skip

        async def packages(request: Any) -> Any:
            return [package] if request.query_params["name"] == "Tool" else []

        async def ahead(request: Any) -> Any:
            web.caller(request).require("vobox")
            return {"packages": [*wanted, {"package": "Tool::1", "jobs": 3}]}

        await central.stop()
        routes = central._routes()
        more = [("/v1/packages", packages), ("/v1/jobs/packages", ahead)]
        central._routes = lambda: [*routes, *(web.route("GET", *each) for each in more)]
        await central.start()
        for program in ("clustermonitor", "packman", "web"):
            machine.start(program)
        await machine.ready(8080, "http")
        releases = machine.root / "data/www/releases"
        await _wait(lambda: (releases / "Tool-1.tar.gz.torrent").is_file(), "the release")
        assert (releases / "Tool-1.tar.gz").read_bytes() == data
        assert "Gone::1 is not published" in machine.log(), "the one that cannot be had is told"
        assert "here ahead of its jobs" in machine.log()


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The URL of a web server over the files of ``folder``."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


async def test_sigterm_ends_every_program_at_once_and_cleanly(machine: Any, central: Any) -> None:
    names = ("clustermonitor", "packman", "web", "seeder")
    processes = [machine.start(name) for name in names]
    await machine.ready(8445)
    await machine.ready(8446)
    await machine.ready(8080, "http")
    await _wait(lambda: '"starts"' in machine.log(), "the seeder")
    async with machine.api() as api:
        agent = (await api.post("/v1/redeem", {"host": "h"}, token=central.enrolment("t")))["token"]
        asking = asyncio.create_task(api.get("/v1/commands", wait=20, token=agent, timeout=25))
        await asyncio.sleep(0)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [await asyncio.to_thread(process.wait, 10) for process in processes]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert codes == [0, 0, 0, 0], machine.log()
