"""Submission: jobs one by one and in bulk, through the service function and over HTTPS, durable.

    python tests/benchmarks/queue/submit.py [--jobs 40000]

Then the optimizer makes them ready to wait. A bulk is one JDL with 2,000 lists of arguments, parsed once, inserted in one transaction. Beside it, on the same
server and in the same run, a bare INSERT of the same rows in one statement a bulk (no events, no indexes but the key).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import world
from peers.figures import Figures

from orchestrator.auth import model as auth
from orchestrator.jobs import bulk, client, together
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue, JobKind
from orchestrator.jobs.service import Jobs, Who
from orchestrator.runtime.sql import Database
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.manager import Manager

EACH, ALONE, READY = 2_000, 500, 500
JDL = """
Executable = "/bench/bin/simulate.sh";
Arguments = "--run $1 --seed $2 --events 1000";
Packages = {"AliRoot::v5-09", "PYTHIA::8.317"};
OutputDir = "/bench/user/a/ada/sim/2026/$1/$2";
OutputFile = {"histos.root@disk=2", "stdout"};
TTL = "6 h"; MemorySize = "4 GB"; WorkDirectorySize = "10 GB"; JobTag = "mc26";
Requirements = other.Arch == "x86_64" && member("CERN::SE", other.CloseSE);
"""


def lists(start: int) -> list[list[str]]:
    return [[f"{number // 100:06d}", str(number)] for number in range(start, start + EACH)]


async def in_process(url: str, jobs: int, figure: Figures) -> None:
    """The service function alone."""
    async with Database(url, size=4) as database:
        hub = Hub(database, [])
        nothing = cast(Catalogue, None)  # a submission asks nothing of the catalogue
        service = Jobs(database, Manager(database, {"job": JobKind(None)}), hub, nothing, Defaults(world.VO))
        who = Who("ada")
        await bulk.submit(service, who, JDL, lists(0), "warm")
        begun = time.perf_counter()
        for start in range(0, jobs, EACH):
            made = await bulk.submit(service, who, JDL, lists(start), f"bulk-{start}")
            assert len(made["tasks"]) == EACH
        figure("submit_bulk", jobs / (time.perf_counter() - begun), "tasks/s", least=5000)
        begun = time.perf_counter()
        for number in range(ALONE):
            await service.submit(who, JDL, ["1", str(number)], f"one-{number}")
        figure("submit_one_by_one", ALONE / (time.perf_counter() - begun), "tasks/s")
        (kept,) = await database.rows("SELECT count(*) AS n FROM grid.task")
        assert kept["n"] == jobs + EACH + ALONE


async def made_ready(url: str, jobs: int, figure: Figures) -> None:
    """What the optimizer does next with submitted jobs: INSERTING → WAITING."""
    async with Database(url, size=4) as database:
        manager = Manager(database, {"job": JobKind(None)})
        catalogue = cast(Catalogue, _Nothing())
        found = await database.rows("SELECT id FROM grid.task WHERE state = 'INSERTING' LIMIT %(n)s", n=jobs)
        ids = [each["id"] for each in found]
        begun = time.perf_counter()
        for start in range(0, len(ids), READY):
            left = await together.ready(
                database, manager, catalogue, Defaults(world.VO), ids[start : start + READY]
            )
            assert left == []
        figure("made_ready", len(ids) / (time.perf_counter() - begun), "tasks/s")


class _Nothing:
    """A catalogue that knows no file: these jobs have none."""

    async def placed(self, _connection: object, _lfns: object) -> dict[str, object]:
        return {}


async def over_https(url: str, jobs: int, figure: Figures) -> None:
    """The same by a client of central, with TLS, a token and JSON on the way."""
    with tempfile.TemporaryDirectory() as folder:
        central = world.Central(Path(folder), url)
        central.start("central")
        try:
            async with central.api("central", auth.user_claims(auth.Person("ada", auth.USER_ROLES))) as api:
                await client.submit_many(api, JDL, lists(0), "warm-https")
                begun = time.perf_counter()
                for start in range(0, jobs, EACH):
                    await client.submit_many(api, JDL, lists(start), f"https-{start}")
                figure("submit_bulk_https", jobs / (time.perf_counter() - begun), "tasks/s")
        finally:
            central.stop()


def bare(url: str, jobs: int) -> float:
    """Rows per second of the bare INSERT."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, spec jsonb)"
        )
        found = connection.execute(
            "SELECT spec::text FROM grid.task WHERE spec ? 'submission' LIMIT %s", (EACH,)
        )
        rows = [each[0] for each in found.fetchall()]
        begun = time.perf_counter()
        for _ in range(0, jobs, EACH):
            connection.execute("INSERT INTO bare (spec) SELECT unnest(%s::jsonb[])", (rows,))
        return jobs / (time.perf_counter() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40_000)
    jobs = parser.parse_args().jobs
    figure = Figures()
    with world.server() as url:
        asyncio.run(world.tables(url))
        uvloop.run(in_process(url, jobs, figure))
        uvloop.run(made_ready(url, jobs // 4, figure))
        figure("bare_insert", bare(url, jobs), "rows/s")
        uvloop.run(over_https(url, jobs, figure))
    return figure.end()


if __name__ == "__main__":
    sys.exit(main())
