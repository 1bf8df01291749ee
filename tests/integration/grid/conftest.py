"""A real PostgreSQL, and on it a manager, a broker and an optimizer served over HTTP to real clients."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

import orchestrator
from orchestrator.catalogue import bulk, facts
from orchestrator.catalogue import store as catalogue_store
from orchestrator.catalogue.model import Placed
from orchestrator.errors import NotFound
from orchestrator.jobs import compose
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.optimizer import Optimizer
from orchestrator.runtime import web
from orchestrator.runtime.http import Api
from orchestrator.runtime.sql import Connection, Database, migrate, rows
from orchestrator.tasks import client
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.model import Assignment, Output, Report, ReportResult

PACKAGE = Path(orchestrator.__file__).parent
DEFAULTS = Defaults("grid")
_names = itertools.count()


@pytest.fixture
async def url(server: str) -> str:
    """The URL of a fresh database with the project's tables."""
    name = f"test{next(_names)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    own = server.replace("/grid?", f"/{name}?")
    async with Database(own, size=1) as database:
        await migrate(database, [PACKAGE / part for part in ("tasks", "jobs", "catalogue")])
        async with database.transaction() as connection:
            await catalogue_store.begin(connection, "grid", "admin")
    return own


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database(url, size=12) as opened:
        yield opened


@dataclass
class Files:
    """The catalogue as wiring gives it to jobs; contents of small files come from ``texts``."""

    texts: dict[str, str] = field(default_factory=dict)

    async def register(self, connection: Connection, outputs: Sequence[Output], owner: str) -> None:
        await catalogue_store.ensure_home(connection, "grid", owner, "admin")
        await catalogue_store.register(connection, outputs, owner)

    async def exists(self, connection: Connection, lfn: str) -> bool:
        return lfn in self.texts or await catalogue_store.exists(connection, lfn)

    async def placed(self, connection: Connection, lfns: Sequence[str]) -> Mapping[str, Placed]:
        found = await bulk.lookup(connection, lfns)
        texts = {lfn: Placed(lfn, "", len(self.texts[lfn]), "", ()) for lfn in lfns if lfn in self.texts}
        return found | texts

    async def sites(self, connection: Connection) -> Mapping[str, str]:
        return {str(one["se"]): str(one["site"]) for one in await facts.distances(connection, "")}

    async def remove(self, connection: Connection, lfns: Sequence[str]) -> None:
        for lfn in lfns:
            if await catalogue_store.exists(connection, lfn):
                await catalogue_store.remove(connection, lfn, "admin", True)

    async def read_text(self, lfn: str) -> str:
        if lfn not in self.texts:
            raise NotFound(f"{lfn} is not in the catalogue")
        return self.texts[lfn]


def authenticate(token: str) -> web.Caller:
    """ "vobox@SITE", or the name of a user ("root" is the admin)."""
    kind, _, site = token.partition("@")
    if kind == "vobox":
        return web.Caller(f"host:{site}-vobox", frozenset({"vobox"}), {"site": site})
    roles = {"user", "admin"} if token == "root" else {"user"}
    return web.Caller(f"user:{token}", frozenset(roles))


def job_token(task: int, attempt: int, user: str, site: str, seconds: float) -> str:
    return f"job:{task}:{attempt}:{user}:{site}:{seconds:g}"


def machine(**more: object) -> dict[str, object]:
    """What a slot offers."""
    return {
        "Name": "agent-1",
        "Host": "node-1",
        "TTL": 86400,
        "Cores": 1,
        "Memory": 8 * 1024**3,
        "Disk": 50 * 1024**3,
        "CloseSE": ["SE"],
        "Packages": [],
        "InstallMethods": ["torrent", "http"],
        "Requirements": 'other.Type == "job"',
    } | more


def guid(job: Assignment, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{job.task}/{job.attempt}/{name}"))


@dataclass
class Grid:
    """Everything a test talks to."""

    database: Database
    files: Files
    central: Api  # as ada
    broker: Api  # as the VO box of CERN
    vobox: Api  # the same at central
    optimizer: Optimizer
    base: str

    async def rows(self, statement: str, **values: object) -> list[dict[str, object]]:
        return await self.database.rows(statement, **values)  # type: ignore[arg-type]

    async def claim(
        self, *, wait: float = 10.0, count: int = 1, claim_id: str = "", **ad: object
    ) -> list[Assignment]:
        found = await client.claim(self.broker, machine(**ad), wait=wait, count=count, claim_id=claim_id)
        return list(found.tasks)

    async def report(self, job: Assignment, *states: str, **more: object) -> list[ReportResult]:
        reports = [Report(job.task, job.attempt, state, **more) for state in states]  # type: ignore[arg-type]
        return await client.report(self.vobox, reports)

    async def finish(self, job: Assignment) -> list[ReportResult]:
        """Run it well, with one output for each name of its OutputFile."""
        begun = await self.report(job, "STARTED", "RUNNING", "SAVING")
        outputs = tuple(
            Output(
                f"{job.jdl['OutputDir']}/{name}",
                guid(job, name),
                3,
                "0" * 32,
                "0" * 8,
                "SE",
                f"/{job.task}/{name}",
            )
            for name in job.jdl["OutputFile"]
        )
        return begun + await self.report(job, "DONE", outputs=outputs)

    async def state(self, job: int) -> str:
        return str((await self.rows("SELECT state FROM grid.task WHERE id = %(id)s", id=job))[0]["state"])

    async def until(self, job: int, *states: str, within: float = 20.0) -> str:
        """Wait until the job is in one of ``states``, by its events."""
        give_up = time.monotonic() + within
        seen = 0
        while (now := await self.state(job)) not in states:
            if time.monotonic() > give_up:
                (task,) = await self.rows("SELECT reason FROM grid.task WHERE id = %(id)s", id=job)
                pytest.fail(f"job {job} is {now}, not {states}: {task['reason']}")
            events = await self.central.get(f"/v1/jobs/{job}/events", after=seen, wait=2, timeout=10)
            seen = max([seen, *(event["seq"] for event in events["events"])])
        return now


class ServedApp:
    """An application on a free port of 127.0.0.1, in this event loop."""

    def __init__(self, served: compose.Served) -> None:
        self.server = web.server(web.application(served.routes, authenticate), None)
        self.socket = web.listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    async def run(self, stop: asyncio.Event) -> None:
        async def end() -> None:
            await stop.wait()
            self.server.should_exit = True

        async with asyncio.TaskGroup() as group:
            group.create_task(end())
            await self.server._serve([self.socket])


def api(base: str, token: str) -> Api:
    async def source() -> str:
        return token

    return Api(base, ssl.create_default_context(), source, patience=2)


@pytest.fixture
def patience() -> Patience:
    """Long enough that nothing lapses by accident."""
    return Patience()


@pytest.fixture
async def grid(database: Database, patience: Patience) -> AsyncIterator[Grid]:
    """Central, broker and optimizer, all running; everything ends with the test."""
    files, stop = Files(), asyncio.Event()
    central = compose.central_routes(database, files, DEFAULTS, patience)
    broker = compose.broker_routes(database, job_token, patience)
    apps = [ServedApp(central), ServedApp(broker)]
    optimizer = compose.optimizer(database, files, DEFAULTS, patience)
    async with asyncio.TaskGroup() as group:
        for app in apps:
            group.create_task(app.run(stop))
        for hub in (central.hub, broker.hub, optimizer):
            group.create_task(hub.run(stop))
        try:
            async with (
                api(apps[0].url, "ada") as ada,
                api(apps[1].url, "vobox@CERN") as claims,
                api(apps[0].url, "vobox@CERN") as vobox,
            ):
                yield Grid(database, files, ada, claims, vobox, optimizer, apps[0].url)
        finally:
            stop.set()


async def recount(database: Database) -> None:
    """Every class counts its waiting members exactly."""
    async with database.transaction() as connection:
        found = await rows(
            connection,
            """SELECT class.id, class.waiting, count(task.id) AS really FROM grid.class_now AS class
                 LEFT JOIN grid.task AS task ON task.class = class.id AND task.state = 'WAITING'
                GROUP BY class.id, class.waiting""",
        )
    assert found
    assert [each for each in found if each["waiting"] != each["really"]] == []
