"""Central over TLS on a real PostgreSQL, real storage elements at several sites, FTDs and the optimizer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

import orchestrator
from orchestrator.auth import api as auth_api
from orchestrator.auth.verify import verifier
from orchestrator.catalogue import client as catalogue
from orchestrator.catalogue import store as catalogue_store
from orchestrator.catalogue.api import Catalogue
from orchestrator.jobs import compose as jobs
from orchestrator.jobs.jdl import Defaults
from orchestrator.runtime import web
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.http import Api, tls_context
from orchestrator.runtime.sql import Database, migrate
from orchestrator.tasks import client as tasks
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.model import Beat, Claimed, Command, Json, Report, ReportResult
from orchestrator.transfers import client, compose, model
from orchestrator.transfers.decide import Policy
from orchestrator.transfers.ends import Https
from orchestrator.transfers.ftd import Ftd, ftd_ad
from orchestrator.transfers.kind import TransferKind
from orchestrator.transfers.mover import Mover, Streams
from orchestrator.wiring.files import CatalogueFiles
from orchestrator.wiring.replicas import CatalogueReplicas
from orchestrator.wiring.surroundings import GridSurroundings
from tests.support.until import until
from tests.support.vo import founded

from ..catalogue.conftest import VO, Central

PACKAGE = Path(orchestrator.__file__).parent
HOME = f"/{VO}/user/a/ada"
POLICY = Policy(first=0.2, longest=1.0, throttled=0.1, absent=0.3)
PATIENCE = Patience(acknowledge=4.0, silence=2.0, grace=0.5)
_names = itertools.count()


@dataclass
class Line:
    """An FTD's way to central without a ClusterMonitor between: the same calls, as the site's VO box."""

    api: Api
    site: str

    async def claim(self, ad: Json, *, wait: float, claim_id: str, count: int = 1) -> Claimed:
        ad = ad | {"Name": f"{ad['Host']}/ftd"}
        return await tasks.claim(self.api, ad, count=count, wait=wait, claim_id=claim_id)

    async def report(self, token: str, reports: Sequence[Report]) -> list[ReportResult]:
        return await tasks.report(self.api, reports)

    async def beat(self, token: str, beat: Beat) -> list[Command]:
        stale = await tasks.beat(self.api, [beat])
        return [Command(0, task, attempt, "kill") for task, attempt in stale]

    async def commands(self, wait: float) -> list[Command]:
        return await tasks.commands(self.api, wait=wait)

    async def answer(self, command: Command, value: Json) -> None:
        await tasks.answer(self.api, command.id, value)


@dataclass
class Site:
    """A VO box; its programs are real processes."""

    name: str
    root: Path
    address: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.running["se"]

    def start(self, program: str = "se") -> None:
        command = [sys.executable, "-m", "orchestrator.wiring.vobox", program, "--root", str(self.root)]
        self.running[program] = subprocess.Popen(command)

    async def stop(self, *programs: str, how: int = signal.SIGTERM) -> None:
        """These programs have ended; central, which they may still call, is in this event loop."""
        ending = [self.running.pop(program) for program in programs or list(self.running)]
        for process in ending:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
        for process in ending:
            await asyncio.to_thread(process.wait, 10)

    def file(self, se: str, guid: str) -> Path:
        return self.root / "data/se" / se / guid[:2] / guid


@dataclass
class World:
    """Everything a test talks to."""

    central: Central
    folder: Path
    kind: TransferKind
    ada: Api
    root: Api
    http: httpx.AsyncClient
    sites: dict[str, Site] = field(default_factory=dict)
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def site(self, name: str, *ses: str, programs: Sequence[str] = ("se",)) -> Site:
        """A site whose storage elements are known; the ClusterMonitor is central itself unless it is a program."""
        address = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        root = self.central.machine(self.folder / f"{name}-vobox", address, site=name)
        names = {"vo": VO, "site": name, "machine": f"{name}-vobox", "address": address}
        urls = dict.fromkeys(("central", "broker", "clustermonitor"), self.central.url)
        if "clustermonitor" in programs:
            del urls["clustermonitor"]
        storage = [{"name": se, "capacity": 256 << 20} for se in ses]
        write_json(root / "etc/vobox.json", names | urls | {"storage_elements": storage})
        site = Site(name, root, address)
        for program in programs:
            site.start(program)
        self.stack.push_async_callback(site.stop)
        self.sites[name] = site

        async def known() -> bool:
            found = await self.central.rows(
                "SELECT name FROM grid.storage_element WHERE name = ANY(%(ses)s)", ses=list(ses)
            )
            return len(found) == len(ses)

        await until(known)
        return site

    def mover(self) -> Streams:
        return Streams({"https": Https(self.http)}, pause=0.05)

    @contextlib.asynccontextmanager
    async def ftd(
        self, site: str, *ses: str, mover: Mover | None = None, slots: int = 4
    ) -> AsyncIterator[Ftd]:
        """A running FTD near ``ses``; it leaves in good order."""
        async with self.central.host(self.sites[site].root) as api:
            ad = ftd_ad(f"{site}-vobox", ses, 1 << 40, ["https"])
            made = Ftd(
                Line(api, site),
                {"https": mover or self.mover()},
                lambda: ad,
                f"{site}-{next(_names)}",
                slots=slots,
                heartbeat=0.5,
                wait=3.0,
            )
            stop = asyncio.Event()
            running = asyncio.create_task(made.run(stop))
            try:
                yield made
            finally:
                stop.set()
                await running

    async def put(self, name: str, data: bytes, se: str) -> catalogue.Output:
        """A file of ada's, with one replica."""
        path = self.folder / f"put-{next(_names)}"
        await asyncio.to_thread(path.write_bytes, data)
        return (await catalogue.put(self.ada, path, f"{HOME}/{name}", se))[0]

    async def submit(self, lfn: str, to: str, kind: str = model.MIRROR) -> int:
        return int((await client.submit(self.ada, [lfn], to, kind))[0]["task"])

    async def ends(self, transfer: int, seconds: float = 30.0) -> Json:
        """The transfer once it is final."""

        async def final() -> Json | None:
            found = await client.show(self.ada, transfer)
            return found if found["state"] in model.FINAL else None

        found: Json = await until(final, seconds)
        return found

    async def where(self, lfn: str) -> set[str]:
        return {each["se"] for each in await catalogue.whereis(self.ada, lfn)}


@pytest.fixture
async def database(server: str) -> AsyncIterator[Database]:
    """A fresh database with all tables and the top of the tree."""
    name = f"transfers{next(_names)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    async with Database(server.replace("/grid?", f"/{name}?"), size=16) as opened:
        parts = ("auth", "catalogue", "tasks", "jobs", "transfers", "software")
        await migrate(opened, [PACKAGE / part for part in parts])
        async with opened.transaction() as connection:
            await catalogue_store.begin(connection, VO, "root")
        yield opened


@pytest.fixture
def policy() -> Policy:
    return POLICY


@pytest.fixture
async def world(database: Database, tmp_path: Path, policy: Policy) -> AsyncIterator[World]:
    """Central and the optimizer run; sites and FTDs are the tests'."""
    authority, _, issuer = await founded(database, tmp_path / "keys", VO)
    socket = web.listen("127.0.0.1", 0)
    here = Central(database, authority, issuer, f"https://127.0.0.1:{socket.getsockname()[1]}")
    root = here.machine(tmp_path / "central", "127.0.0.1", "central")
    tls = tls_context(authority.ca)
    files = CatalogueFiles(database, issuer.envelope, tls, VO, "root")
    kind = TransferKind(CatalogueReplicas(), issuer.envelope, policy)
    around = GridSurroundings.over(database, kind)
    served = jobs.central_routes(database, files, Defaults(VO), PATIENCE, also=[kind], surroundings=around)
    broker = jobs.broker_routes(database, issuer.job, PATIENCE, also=[kind])
    routes = [
        *auth_api.routes(issuer, read_json(root / "etc/token-keys.json")),
        *Catalogue(database, issuer.envelope, VO).routes(),
        *served.routes,
        *broker.routes,
        *compose.central_routes(database, served.hub, kind, SystemClock().now, PATIENCE),
    ]
    app = web.application(routes, verifier(root / "etc/token-keys.json", VO))
    running = web.server(app, web.TlsFiles.of(root))
    stop = asyncio.Event()
    optimizer = compose.optimizer(database, kind, PATIENCE)
    async with asyncio.TaskGroup() as group:
        group.create_task(running._serve([socket]))
        for each in (served.hub, broker.hub, optimizer):
            group.create_task(each.run(stop))
        try:
            async with here.user("ada") as ada, here.user("root") as admin:
                async with httpx.AsyncClient(verify=tls, trust_env=False) as http:
                    made = World(here, tmp_path, kind, ada, admin, http)
                    async with made.stack:
                        yield made
        finally:
            stop.set()
            running.should_exit = True
