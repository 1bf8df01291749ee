"""The VO box's composition root: one program per name, each under the machine's supervisor.

``python -m orchestrator.wiring.vobox clustermonitor|ce|packman|se|ftd|web|seeder --root ROOT [--name CE]``

Each program imports what it is made of by itself: the others' libraries would be most of its start.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from orchestrator.errors import GridError
from orchestrator.runtime import daemon, logs
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.vobox.model import VoBoxConfig
from orchestrator.wiring.box import Box

if TYPE_CHECKING:
    from starlette.requests import Request

    from orchestrator.software.model import Package

CLUSTERMONITOR, PACKMAN, WEB, SEEDER = 8445, 8446, 8080, 6881


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
        looking = asyncio.create_task(daemon.loop("ahead", logic.ahead, box.stop))
        try:
            await box.serve(web.application(routes, box.verifier()), PACKMAN)
        finally:
            looking.cancel()  # a release may be on its way
            await asyncio.gather(looking, return_exceptions=True)


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


async def storage_element(box: Box) -> None:
    from orchestrator.storage.server import serve

    found: Any = serve(box.root)
    if isinstance(found, Awaitable):
        await found


async def ftd(box: Box) -> None:
    from orchestrator.wiring import pulling

    await pulling.ftd(box)


_PROGRAMS: dict[str, Callable[[Box], Awaitable[None]]] = {
    "clustermonitor": clustermonitor,
    "packman": packman,
    "se": storage_element,
    "ftd": ftd,
    "web": public_web,
    "seeder": seeder,
}


_BULK = {"seeder": 5, "ftd": 5}  # nice: what moves much data goes after what must answer at once


async def run(program: str, root: Path, name: str) -> None:
    """Run one program of the VO box rooted at ``root`` until SIGTERM."""
    os.nice(_BULK.get(program, 0))
    box = Box(root, VoBoxConfig.of(read_json(root / "etc/vobox.json")), asyncio.Event())
    logs.get(program).info("starts", pid=os.getpid(), root=str(root))
    if program == "ce":
        from orchestrator.wiring import pulling

        await pulling.computing_element(box, name)
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
