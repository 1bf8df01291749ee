"""What finished tasks cost: claims, `job ps`, the optimizer's sweep and the size of the live tables' indexes with no
finished tasks, with many of them live, and with as many in the archive; and how fast the archive takes them.

    python tests/benchmarks/queue/archive.py [--most 100000] [--seconds 2]

Three databases on one server, measured in turn, some laps of each; a ratio is the median of the laps' ratios. Then
days pass: as many tasks as before finish and are archived, a fifth at a time, and the live indexes do not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import claims
import world
from peers.figures import Figures

from orchestrator.jobs import archived, compose, store
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.store import Choice
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.sql import Connection, Database
from orchestrator.tasks import store as tasks
from orchestrator.tasks.archive import Archive
from orchestrator.tasks.keeping import Keeping
from orchestrator.wiring.files import CatalogueFiles

WAITING, LAPS, DAYS, OWNER = 40_000, 5, 5, "user0"
# Jobs of a month ago with the events of one attempt.
_FINISHED = """
WITH made AS (
    INSERT INTO grid.task (kind, owner, state, class, spec, seq, submitted, changed, resource, site, result)
    SELECT 'job', 'user' || number %% 20, 'DONE', (SELECT min(id) FROM grid.task_class), %(spec)s, 6,
           now() - interval '1 month', now() - interval '1 month', 'node' || number %% 999 || '/agent', 'CERN', %(result)s
      FROM generate_series(1, %(count)s) AS number
    RETURNING id
)
INSERT INTO grid.task_event (task, seq, at, attempt, old, new, actor, reason)
SELECT id, seq, now() - interval '1 month', 1, state[seq], state[seq + 1], 'CERN', ''
  FROM made, generate_series(1, 6) AS seq,
       (SELECT ARRAY['', 'INSERTING', 'WAITING', 'ASSIGNED', 'STARTED', 'RUNNING', 'DONE'] AS state) AS life
"""
_RESULT = {
    "usage": {"cpu": 3511.2, "wall": 3600.1, "memory": 1_800_000_000, "disk": 2_000_000_000},
    "host": "node17.cern.ch",
    "outputs": [
        {"lfn": f"/{world.VO}/sim/2026/00017/{name}", "guid": "0" * 36, "size": 123_456_789, "md5": "0" * 32,
         "adler32": "0" * 8, "se": "CERN::SE", "pfn": "/00/" + "0" * 36}
        for name in ("histos.root", "stdout")
    ],
}  # fmt: skip


def finish(url: str, count: int) -> None:
    """So many jobs finished a month ago."""
    spec = json.dumps({"jdl": world.jdl(17), "own": "", "conditions": []})
    with psycopg.connect(url) as connection:
        connection.execute(_FINISHED, {"spec": spec, "result": json.dumps(_RESULT), "count": count})


def tidy(url: str) -> None:
    """What autovacuum does in time."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE grid.task, grid.task_event")
        connection.execute("CHECKPOINT")


def indexes(url: str) -> float:
    """Bytes of the indexes of the live tables."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT pg_indexes_size('grid.task') + pg_indexes_size('grid.task_event')"
        ).fetchone()
    assert found is not None
    return float(found[0])


async def put_away(url: str, count: int) -> float:
    """All finished jobs are archived, without a pause between two pages; the seconds it took."""
    async with Database(url, size=2) as database:
        past = Archive(database, {"job": archived.ENDED}, SystemClock().now, Keeping(period=0.0))
        await past.cut()
        begin, done = time.perf_counter(), await past.page()
        while past.after is not None:
            done += await past.page()
        took = time.perf_counter() - begin
        assert done == count, (done, count)
        return took


async def typical(times: int, act: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds that one of several calls takes, the median."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        await act()
        took.append(1000 * (time.perf_counter() - begin))
    return statistics.median(took)


async def looks(url: str) -> dict[str, float]:
    """Milliseconds of what users and the optimizer look at again and again."""
    async with Database(url, size=4) as database:
        await database.rows(
            "UPDATE grid.task SET deadline = '2030-01-01' WHERE state = 'ASSIGNED'"
        )  # nobody runs them
        files = CatalogueFiles(database, lambda *_: "", ssl.create_default_context(), world.VO, "admin")
        sweep = compose.optimizer(database, files, Defaults(world.VO))

        async def ps(**chosen: Any) -> None:
            async with database.transaction() as connection:
                await archived.listing(connection, Choice(owner=OWNER, **chosen), 100)

        async def top() -> None:
            async with database.transaction() as connection:
                await store.open_counts(connection)

        return {
            "ps": await typical(30, lambda: ps(master=0)),
            "ps_failed": await typical(30, lambda: ps(states=["ERROR_E"])),
            "top": await typical(10, top),
            "sweep": await typical(10, sweep.step),
        }


async def old(url: str, figure: Figures) -> None:
    """What a look at archived jobs takes."""
    async with Database(url, size=2) as database:
        (newest,) = await database.rows("SELECT max(id) AS id FROM grid.task_archive")

        async def show() -> None:
            async with database.transaction() as connection:
                task = await tasks.get(connection, newest["id"])
                assert len(await tasks.events(connection, task.id)) == 6
                await archived.part_counts(connection, task)

        async def ps(connection: Connection) -> int:
            choice = Choice(owner=OWNER, master=0, since=40 * 86400.0)
            return len(await archived.listing(connection, choice, 1000))

        async def listed() -> None:
            async with database.transaction() as connection:
                assert await ps(connection) == 1000

        figure("archive_show_old", await typical(30, show), "ms", 20)
        figure("archive_ps_since_1000_old", await typical(10, listed), "ms")


async def measure(server: str, most: int, seconds: float) -> int:
    figure = Figures()
    urls = {name: await world.database(server, name) for name in ("none", "live", "past")}
    for name, url in urls.items():
        await asyncio.to_thread(world.fill, url, WAITING, claims.CLASSES)
        if name != "none":
            await asyncio.to_thread(finish, url, most)
    took = await put_away(urls["past"], most)
    figure("archive_rate", most / took, "tasks/s", least=1000)
    for url in urls.values():
        await asyncio.to_thread(tidy, url)
    rates: dict[str, list[float]] = {name: [] for name in urls}
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
    for _ in range(LAPS):
        for name, url in urls.items():
            rates[name].append(await claims.in_process(url, seconds, most=WAITING / LAPS / 2))
            seen[name].append(await looks(url))
    for name in urls:
        figure(f"archive_claims_{name}", statistics.median(rates[name]), "tasks/s")
    ratio = statistics.median(past / none for past, none in zip(rates["past"], rates["none"], strict=True))
    figure("archive_claims_past_to_none", ratio, "ratio", least=0.8)
    for what in seen["none"][0]:
        typical_of = {name: statistics.median(each[what] for each in seen[name]) for name in urls}
        for name, value in typical_of.items():
            figure(f"archive_{what}_{name}", value, "ms")
        pairs = zip(seen["past"], seen["none"], strict=True)
        ratio = statistics.median(past[what] / none[what] for past, none in pairs)
        figure(f"archive_{what}_past_to_none", ratio, "ratio", 1.5)
    await old(urls["past"], figure)
    await days(urls, most, figure)
    return figure.end()


async def days(urls: dict[str, str], most: int, figure: Figures) -> None:
    """A fifth as many jobs finish each day; in one database they are archived, in the other they stay."""
    size = {name: [] for name in ("live", "past")}
    for _ in range(DAYS):
        for name, sizes in size.items():
            await asyncio.to_thread(finish, urls[name], most // DAYS)
            if name == "past":
                await put_away(urls[name], most // DAYS)
            await asyncio.to_thread(tidy, urls[name])
            sizes.append(indexes(urls[name]))
    for name, sizes in size.items():
        figure(f"archive_indexes_{name}", sizes[-1] / 1e6, "MB")
    figure("archive_indexes_growth_live", size["live"][-1] / size["live"][0], "ratio")
    figure("archive_indexes_growth_past", size["past"][-1] / size["past"][0], "ratio", 1.1)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=100_000, help="finished tasks")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each lap of claims")
    chosen = parser.parse_args()
    with world.server() as url:
        return uvloop.run(measure(url, chosen.most, chosen.seconds))


if __name__ == "__main__":
    sys.exit(main())
