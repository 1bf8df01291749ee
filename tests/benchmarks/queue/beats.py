"""Heartbeats of 50,000 running tasks through central: the CPU that one beat a minute of each takes.

    python tests/benchmarks/queue/beats.py [--running 50000]

They come as ClusterMonitors send them: in batches, over HTTPS, from many sites. All beats of a minute are sent as
fast as central takes them; the share of a core is the CPU they took, divided by the minute.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import world
from peers.figures import Figures

from orchestrator.tasks import client
from orchestrator.tasks.model import Beat

BATCH, MINUTES = 1000, 3
_USAGE = {"cpu": 1234.5, "wall": 1300.0, "memory": 1_500_000_000, "disk": 20_000_000}


def run_all(url: str, running: int) -> list[int]:
    """So many tasks run at the site; their ids."""
    world.fill(url, running, 1000)
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE grid.task SET state = 'RUNNING', site = %s, resource = 'node/' || id, deadline = now() + interval '1 h'",
            (world.SITE,),
        )
        connection.execute("UPDATE grid.task_class SET waiting = 0")
        ids = [row[0] for row in connection.execute("SELECT id FROM grid.task ORDER BY id")]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM FULL ANALYZE grid.task")
    return ids


async def minute(central: world.Central, ids: list[int]) -> float:
    """One beat of each; the wall seconds it took."""
    begin = time.perf_counter()
    async with central.api("central", central.vobox()) as api:
        gate = asyncio.Semaphore(4)

        async def send(some: list[int]) -> None:
            async with gate:
                stale = await client.beat(api, [Beat(task, 1, _USAGE) for task in some])
                assert not stale, stale[:3]

        await asyncio.gather(*(send(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)))
    return time.perf_counter() - begin


async def measure(url: str, folder: Path, running: int) -> int:
    figure = Figures()
    await world.tables(url)
    ids = await asyncio.to_thread(run_all, url, running)
    central = world.Central(folder, url)
    try:
        pid = central.start("central")
        await minute(central, ids)  # its start is not counted
        own, server = world.cpu(pid), world.postgres_cpu(url)
        took = [await minute(central, ids) for _ in range(MINUTES)]
        own, server = world.cpu(pid) - own, world.postgres_cpu(url) - server
        figure("beats_wall", min(took), "s")
        figure("beats_central_share", 100 * own / MINUTES / 60, "% of a core", 30)
        figure("beats_postgres_share", 100 * server / MINUTES / 60, "% of a core")
        figure("central_memory", world.rss(pid), "MB")
    finally:
        central.stop()
    return figure.end()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--running", type=int, default=50_000, help="tasks that beat")
    chosen = parser.parse_args()
    with world.server() as url, tempfile.TemporaryDirectory(prefix="queue.") as folder:
        return uvloop.run(measure(url, Path(folder), chosen.running))


if __name__ == "__main__":
    sys.exit(main())
