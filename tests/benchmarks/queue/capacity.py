"""What one job costs the central services from its submission to DONE: CPU, write-ahead log and disk.

    python tests/benchmarks/queue/capacity.py [--jobs 5000]

Everything a ClusterMonitor and an agent send for a job with a package and two output files, over HTTPS to the running
programs: bulk submission, the optimizer's work, a claim, four reports, two envelopes to write, the outputs booked with
DONE. Files and packages themselves are not central's work. Heartbeats come on top, by the job's length (beats.py).
The services' CPU is counted, the clients' is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import submit
import world
from peers.figures import Figures

from orchestrator.auth.model import USER_ROLES, Person, user_claims
from orchestrator.jobs import client as jobs
from orchestrator.jobs import model
from orchestrator.runtime.http import Api
from orchestrator.tasks import client
from orchestrator.tasks.model import Assignment, Output, Report

BULK, CLIENTS, OUTPUTS = 1000, 8, ("histos.root", "stdout")
SE = f"{world.SITE}::SE"
PROGRAMS = ("central", "broker", "optimizer")
A_DAY, BUSY = 2e6, 0.5  # jobs that are to be served in a day, and how busy this host's cores may be with them
_WAITING = "SELECT count(*) FROM grid.task WHERE state = 'WAITING'"
_USAGE = {"cpu": 3500.0, "wall": 3600.0, "memory": 1_500_000_000, "disk": 20_000_000}


class Meter:
    """CPU seconds of each program and of PostgreSQL, and bytes of write-ahead log, since ``begin``."""

    def __init__(self, url: str, pids: dict[str, int]) -> None:
        self.url, self.pids = url, pids
        self._begin = self._read()

    def _read(self) -> dict[str, float]:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
        assert found is not None
        cpu = {name: world.cpu(pid) for name, pid in self.pids.items()}
        return {**cpu, "postgres": world.postgres_cpu(self.url), "wal": float(found[0])}

    def used(self) -> dict[str, float]:
        return {name: value - self._begin[name] for name, value in self._read().items()}


async def submitted(central: world.Central, url: str, first: int, number: int) -> None:
    """The jobs from ``first`` on, so many, wait."""
    async with central.api("central", user_claims(Person("ada", USER_ROLES))) as api:
        for start in range(first, first + number, BULK):
            await jobs.submit_many(api, submit.JDL, submit.lists(start)[:BULK], f"bulk-{start}")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        async with asyncio.timeout(300):
            while (await (await connection.execute(_WAITING)).fetchone() or (0,))[0] < number:
                await asyncio.sleep(0.2)


async def outputs(api: Api, task: Assignment) -> tuple[Output, ...]:
    """Where central lets the job put its files; as if they were there."""
    made = []
    for name in OUTPUTS:
        asked = {
            "lfn": f"{task.jdl['OutputDir']}/{name}",
            "size": 20_000_000,
            "md5": "0" * 32,
            "se": [],
            "copies": 1,
        }
        place = await api.post("/v1/catalogue/write", asked, token=task.token)
        (write,) = place["writes"]
        made.append(
            Output(place["lfn"], place["guid"], 20_000_000, "0" * 32, "0" * 8, write["se"], write["pfn"])
        )
    return tuple(made)


async def live(broker: Api, central: Api, number: int, turn: int) -> bool:
    """One claim, and the whole life of its task; False when nothing was left."""
    claimed = await client.claim(broker, world.ad(number), claim_id=f"{time.time_ns()}-{turn}")
    for task in claimed.tasks:
        for state in (model.STARTED, model.RUNNING, model.SAVING, model.DONE):
            facts, files = {}, ()
            if state == model.DONE:
                facts, files = {"status": 0, "usage": _USAGE}, await outputs(central, task)
            (verdict,) = await client.report(
                central, [Report(task.task, task.attempt, state, "", facts, files)]
            )
            assert verdict.accepted, verdict
    return bool(claimed.tasks)


async def lives(central: world.Central) -> None:
    """Every waiting job is DONE."""
    async with (
        central.api("broker", central.vobox()) as broker,
        central.api("central", central.vobox()) as manager,
    ):

        async def run(number: int) -> None:
            turn = 0
            while await live(broker, manager, number, turn):
                turn += 1

        await asyncio.gather(*(run(number) for number in range(CLIENTS)))


async def measure(url: str, folder: Path, number: int) -> int:
    figure = Figures()
    await world.tables(url)
    central = world.Central(folder, url)
    try:
        pids = {program: central.start(program) for program in PROGRAMS}
        async with central.api("central", central.vobox()) as api:
            place = {"name": SE, "site": world.SITE, "url": "https://127.0.0.1:1", "free": 10**15}
            await api.post("/v1/catalogue/storage", place)
        await submitted(central, url, 0, BULK)
        await lives(central)
        meter = Meter(url, pids)
        await submitted(central, url, BULK, number)
        first = meter.used()
        begin = time.perf_counter()
        await lives(central)
        took, used = time.perf_counter() - begin, meter.used()
    finally:
        central.stop()
    tell(figure, number, took, first, used)
    sizes(figure, url, number + BULK)
    return figure.end()


def tell(figure: Figures, number: int, took: float, first: dict[str, float], used: dict[str, float]) -> None:
    """CPU and log of one job; ``first`` is the part until all waited."""
    programs = [name for name in used if name != "wal"]
    total = 1000 * sum(used[name] for name in programs) / number
    for name in programs:
        figure(f"life_cpu_{name}", 1000 * used[name] / number, "ms/job")
    figure("life_cpu_until_waiting", 1000 * sum(first[name] for name in programs) / number, "ms/job")
    figure("life_wal", used["wal"] / number / 1e3, "kB/job")
    figure("life_rate", number / took, "jobs/s")  # from claim to DONE, the clients on the same cores
    figure("life_cpu", total, "ms/job")
    served = 86400 * (os.cpu_count() or 1) * BUSY / (total / 1000)
    figure("life_jobs_a_day_at_half_load", served, "jobs", least=A_DAY)


def sizes(figure: Figures, url: str, number: int) -> None:
    """Bytes that a finished job leaves, with indexes: as it was left, and without the dead rows that its moves made
    (PostgreSQL uses their place again, and the archive has none)."""
    with psycopg.connect(url, autocommit=True) as connection:
        (done, events, files) = (
            connection.execute(
                "SELECT (SELECT count(*) FROM grid.task WHERE state = 'DONE'), (SELECT count(*) FROM grid.task_event),"
                " (SELECT count(*) FROM grid.entry WHERE guid IS NOT NULL)"
            ).fetchone()
            or ()
        )
        assert (done, files) == (number, number * len(OUTPUTS)), (done, files)
        figure("disk_task_as_left", world.disk(url, "grid.task") / done, "B/job")
        connection.execute("VACUUM FULL grid.task")
    figure("disk_task", world.disk(url, "grid.task") / done, "B/job")
    figure("events", events / done, "events/job")
    figure("disk_event", world.disk(url, "grid.task_event") / events, "B/event")
    figure("disk_lfn", (world.disk(url, "grid.entry") + world.disk(url, "grid.replica")) / files, "B/LFN")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=5000)
    chosen = parser.parse_args()
    with world.server() as url, tempfile.TemporaryDirectory(prefix="queue.") as folder:
        return uvloop.run(measure(url, Path(folder), chosen.jobs // BULK * BULK))


if __name__ == "__main__":
    sys.exit(main())
