"""The VO box's composition root: one program per name, each under the machine's supervisor.

``python -m orchestrator.wiring.vobox clustermonitor|ce|packman|se|ftd|web|seeder --root ROOT [--name CE]``

Each program imports what it is made of by itself: the others' libraries would be most of its start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from orchestrator.errors import GridError, UserError
from orchestrator.runtime import daemon, logs
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.vobox.model import VoBoxConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from orchestrator.ce.daemon import Site
    from orchestrator.ce.model import CeConfig
    from orchestrator.runtime.http import Api
    from orchestrator.runtime.web import Authenticator
    from orchestrator.software.model import Package

CLUSTERMONITOR, PACKMAN, WEB, SEEDER = 8445, 8446, 8080, 6881
METHODS = ("cvmfs", "torrent", "http")


@dataclass(frozen=True)
class Box:
    """The machine: its root, its configuration, and the end of the program (``stop``)."""

    root: Path
    config: VoBoxConfig
    stop: asyncio.Event

    @property
    def www(self) -> Path:
        return self.root / "data/www"

    def url(self, port: int, scheme: str = "https") -> str:
        address = self.config.address
        return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"

    def api(self, base: str, patience: float = 10.0) -> Api:
        """A client without a token."""
        from orchestrator.runtime.http import Api, tls_context

        return Api(base, tls_context(self.root / "etc/tls/ca.pem"), patience=patience)

    @contextlib.asynccontextmanager
    async def authorised(self, issuer: str, *bases: str, patience: float) -> AsyncIterator[list[Api]]:
        """Clients of ``issuer`` (without token) and of ``bases`` (with this host's token from ``issuer``)."""
        from orchestrator.auth.client import host_tokens

        async with contextlib.AsyncExitStack() as stack:
            plain = await stack.enter_async_context(self.api(issuer))
            token = host_tokens(plain, self.root, self.config.vo)
            found = [plain]
            for base in bases:
                api = await stack.enter_async_context(self.api(base, patience))
                api.token = token
                found.append(api)
            yield found

    async def serve(self, app: Starlette, port: int, *, clear: bool = False) -> None:
        """Serve until SIGTERM; ``stop`` is set then."""
        from orchestrator.runtime import web

        running = web.server(app, None if clear else web.TlsFiles.of(self.root))
        try:
            await running.serve([web.listen(self.config.address, port)])
        finally:
            self.stop.set()

    def verifier(self) -> Authenticator:
        from orchestrator.auth.verify import verifier

        return verifier(self.root / "etc/token-keys.json", self.config.vo)


async def clustermonitor(box: Box) -> None:
    from orchestrator.runtime import web
    from orchestrator.vobox.clustermonitor import ClusterMonitor
    from orchestrator.vobox.mailbox import Beats, Mailbox
    from orchestrator.vobox.registry import Registry
    from orchestrator.vobox.spool import Held, Spool
    from orchestrator.vobox.uplink import Uplink

    config, clock = box.config, SystemClock()
    registry, mailbox, beats = Registry(), Mailbox(clock.monotonic), Beats()
    spool = Held(await asyncio.to_thread(Spool, box.root / "data/spool"))
    bases = (config.central, config.broker)
    async with box.authorised(config.central, *bases, patience=2.0) as (plain, central, broker):
        async with box.api(box.url(PACKMAN)) as packman:
            uplink = Uplink(central, spool, mailbox, beats, registry)
            monitor = ClusterMonitor(config, uplink, plain, broker, packman, registry, mailbox, beats, clock)
            loops = [
                daemon.loop("replay", uplink.replay, box.stop, spool.filled),
                daemon.loop("beats", uplink.beat, box.stop),
                daemon.loop("commands", lambda: uplink.fetch_commands(box.stop), box.stop),
            ]
            app = web.application(monitor.routes(), box.verifier())
            await asyncio.gather(box.serve(app, CLUSTERMONITOR), *loops)


async def packman(box: Box) -> None:
    import httpx

    from orchestrator.runtime import web
    from orchestrator.software.cvmfs import upload
    from orchestrator.software.torrent import make
    from orchestrator.software.torrent.download import download
    from orchestrator.software.torrent.session import file_of, web_seeds_of
    from orchestrator.vobox.packman import PackMan, Torrents

    clock = SystemClock()

    async def authorize(request: Request, role: str) -> None:
        web.caller(request).require(role, "admin")

    async def obtain(package: Package, path: Path) -> None:
        urls = [url + path.name if url.endswith("/") else url for url in web_seeds_of(package.torrent)]
        path.parent.mkdir(parents=True, exist_ok=True)
        own = box.url(WEB, "http")
        async with httpx.AsyncClient(timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False) as client:
            others = [url for url in urls if not url.startswith(own)]
            await download(others, path, size=package.size, sha256=package.sha256, client=client)

    def readdress(torrent: bytes, tracker: str, seed: str) -> bytes:
        return make.readdress(torrent, trackers=[tracker], web_seeds=[seed]).data

    monitor = box.config.clustermonitor
    async with box.authorised(monitor, monitor, patience=10.0) as (_, clustermonitor_api):
        torrents = Torrents(file_of, readdress, obtain)
        logic = PackMan(box.www / "releases", box.url(WEB, "http"), clustermonitor_api, torrents, clock)
        repositories = upload.Repositories(box.www / "cvmfs", box.root / "data/repository-keys")
        routes = [*logic.routes(), *upload.routes(repositories, authorize, clock.now)]
        await box.serve(web.application(routes, box.verifier()), PACKMAN)


async def public_web(box: Box) -> None:
    from orchestrator.software.torrent import tracker
    from orchestrator.software.torrent.swarm import Policy, Seeder, Swarms
    from orchestrator.vobox.web import application

    here = Seeder(ipaddress.ip_network(box.config.address))
    swarms = Swarms(Policy(default_site=box.config.site, seeders=(here,)))
    await box.serve(application(box.www, tracker.routes(swarms)), WEB, clear=True)


async def seeder(box: Box) -> None:
    from orchestrator.software.torrent.seed import Seeder
    from orchestrator.software.torrent.session import Session
    from orchestrator.vobox.seeding import Seeding

    daemon.stop_on_signals(box.stop)
    loopback = ipaddress.ip_address(box.config.address).is_loopback
    with Session(f"{box.config.address}:{SEEDER}", lsd=not loopback) as session:
        seeds = Seeder(box.root / "data/torrents", session, trackers=[box.url(WEB, "http") + "/announce"])
        (box.www / "releases").mkdir(parents=True, exist_ok=True)
        daemon.ready()
        await daemon.loop("seeder", Seeding(seeds, box.www / "releases").step, box.stop)


async def computing_element(box: Box, name: str) -> None:
    from orchestrator.ce.batch.fork import ForkBatch
    from orchestrator.ce.daemon import ComputingElement
    from orchestrator.ce.model import CeConfig

    if name not in box.config.computing_elements:
        known = ", ".join(box.config.computing_elements) or "none"
        raise UserError(f"CE {name!r} is not in vobox.json; there is: {known}", ce=name)
    daemon.stop_on_signals(box.stop)
    clock, config = SystemClock(), CeConfig.of(name, box.config.computing_elements[name])
    os.environ.setdefault("ORCHESTRATE_AGENT_CACHE", str(box.root / "data/agent-cache"))
    monitor = box.config.clustermonitor
    batch = ForkBatch(box.root / "data/ce" / name, config.slots, clock)
    async with box.authorised(monitor, monitor, patience=10.0) as (_, api):
        element = ComputingElement(
            config, _ce_site(box, config), batch, api, clock, lambda: f"{name}-{secrets.token_hex(6)}"
        )
        daemon.ready()
        await _until_stopped(daemon.loop(f"ce {name}", element.step, box.stop), box.stop)


async def _until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event, patience: float = 1.0) -> None:
    """``work`` to its end, at most ``patience`` seconds longer than ``stop``: a call that is tried again would hold it up."""
    working = asyncio.create_task(work)
    await stop.wait()
    await asyncio.wait({working}, timeout=patience)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


def _ce_site(box: Box, config: CeConfig) -> Site:
    """What the agents of a CE get; a slot has its share of this machine."""
    from orchestrator.agent.model import AgentConfig
    from orchestrator.agent.node import measure
    from orchestrator.ce.daemon import Site

    whole = measure(AgentConfig(clustermonitor="", ca="", workdir=str(box.root), host=box.config.machine))
    memory = config.memory or whole.memory // max(1, config.slots)
    node = type(whole)(whole.host, config.cores, memory, whole.disk // 2, whole.arch, whole.os, whole.cvmfs)
    first = box.config.method
    methods = (first, *(each for each in METHODS if each != first)) if first in METHODS else METHODS
    return Site(
        site=box.config.site,
        clustermonitor=box.config.clustermonitor,
        ca=str(box.root / "etc/tls/ca.pem"),
        agent_file=_agent_command(box),
        address=box.config.address,
        cache=str(box.root / "data/packages"),
        methods=methods,
        node=node,
    )


def _agent_command(box: Box) -> tuple[str, ...]:
    """The agent file; where none was delivered (a development checkout), this Python."""
    file = box.root / (box.config.agent_file or "data/www/agent/orchestrate-agent")
    return (str(file),) if file.is_file() else (sys.executable, "-m", "orchestrator.wiring.agent")


async def storage_element(box: Box) -> None:
    from orchestrator.storage.server import serve

    found: Any = serve(box.root)
    if isinstance(found, Awaitable):
        await found


async def ftd(box: Box) -> None:
    """Brings files to the storage elements of this VO box."""
    import httpx

    from orchestrator.agent.model import AgentConfig
    from orchestrator.agent.session import Session
    from orchestrator.runtime.http import tls_context
    from orchestrator.transfers.ends import Https
    from orchestrator.transfers.ftd import Ftd, ftd_ad
    from orchestrator.transfers.model import FTD
    from orchestrator.transfers.mover import Streams

    monitor, machine = box.config.clustermonitor, box.config.machine
    tls = tls_context(box.root / "etc/tls/ca.pem")

    def ad() -> dict[str, Any]:
        free = shutil.disk_usage(box.root / "data").free
        return ftd_ad(machine, sorted(box.config.storage_elements), free, ["https"])

    async def session() -> float:
        """Ask for work as one agent after another: a session that was refused is followed by a new one."""
        async with box.authorised(monitor, monitor, patience=10.0) as (_, host):
            asked = {"ce": FTD, "lifetime": 600.0}
            enrolment = str((await host.post("/v1/enrolments", asked))["token"])
        config = AgentConfig(clustermonitor=monitor, ca="", workdir="", token=enrolment)
        async with box.api(monitor) as api, httpx.AsyncClient(verify=tls, trust_env=False) as http:
            line = Session(api, config, machine)
            await line.token()
            movers = {"https": Streams({"https": Https(http)})}
            await Ftd(line, movers, ad, secrets.token_hex(8)).run(box.stop)
        return 1.0

    daemon.ready()
    await _until_stopped(daemon.loop("ftd", session, box.stop), box.stop, 3.0)


_PROGRAMS: dict[str, Callable[[Box], Awaitable[None]]] = {
    "clustermonitor": clustermonitor,
    "packman": packman,
    "se": storage_element,
    "ftd": ftd,
    "web": public_web,
    "seeder": seeder,
}


async def run(program: str, root: Path, name: str) -> None:
    """Run one program of the VO box rooted at ``root`` until SIGTERM."""
    box = Box(root, VoBoxConfig.of(read_json(root / "etc/vobox.json")), asyncio.Event())
    logs.get(program).info("starts", pid=os.getpid(), root=str(root))
    if program == "ce":
        await computing_element(box, name)
    else:
        if program != "seeder":
            daemon.stop_on_signals(box.stop)
        await _PROGRAMS[program](box)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after SIGTERM; the exit code of the error otherwise."""
    parser = argparse.ArgumentParser(prog="orchestrator.wiring.vobox")
    parser.add_argument("program", choices=["ce", *_PROGRAMS])
    parser.add_argument("--root", required=True, type=Path, help="the machine's root directory")
    parser.add_argument("--name", default="", help="the CE's name")
    chosen = parser.parse_args(arguments)
    root = chosen.root.resolve()
    program = f"{chosen.program}_{chosen.name}" if chosen.name else chosen.program
    logs.configure(root / f"log/{program}.log")
    try:
        uvloop.run(run(chosen.program, root, chosen.name))
    except GridError as error:
        logs.get(program).error("cannot run", reason=error.message, **error.facts)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
