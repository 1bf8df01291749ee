"""How long one user's million waiting jobs delay another's ten, on the running services over HTTPS.

    python tests/benchmarks/queue/fair.py [--waiting 1000000] [--days 3]

user0 runs 20,000 jobs, and so many wait, submitted over the last three days; eight resources ask without a pause. Then
others come, one after the other, with ten jobs each. What is counted are the claims that user0 got between the moment
the ten waited and the moment the last of them was given away: those that were under way when the broker heard of the
ten (its index may be 20 ms old for a thousand classes) and two transactions of 64 claims. The bound does not depend
on how many wait.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
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

from orchestrator.auth.model import USER_ROLES, Person, user_claims
from orchestrator.jobs import client as jobs
from orchestrator.tasks import client

CLASSES, CLIENTS, RUNNING, TEN, USERS = 1000, 8, 20_000, 10, 5
OVERTAKEN, SECONDS = 200, 5.0  # the bound: claims of the other user, and seconds from the submission's answer
LONGEST = 20.0  # seconds until a user is given up
JDL = 'Executable = "/bin/simulate"; TTL = 3600; MemorySize = "2 GB"; WorkDirectorySize = "2 GB";'
_OVERTAKEN = """
WITH mine AS (SELECT max(at) FILTER (WHERE new = 'WAITING') AS waiting, max(at) FILTER (WHERE new = 'ASSIGNED') AS given
                FROM grid.task_event WHERE task = ANY(%(tasks)s))
SELECT count(*) FROM grid.task_event, mine
 WHERE new = 'ASSIGNED' AND at >= mine.waiting AND at <= coalesce(mine.given, now()) AND task <> ALL(%(tasks)s)
"""
_LEFT = "SELECT count(*) FROM grid.task WHERE id = ANY(%s) AND state IN ('INSERTING', 'WAITING')"


def prepare(url: str, waiting: int, days: float) -> None:
    """user0 has jobs that wait, and jobs that run."""
    world.fill(url, waiting, CLASSES, users=1, apart=days * 86400 / CLASSES)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO grid.task (kind, owner, state, class, spec, deadline, site, resource)"
            " SELECT 'job', 'user0', 'RUNNING', c.id, '{\"jdl\": {}, \"own\": \"\"}', now() + interval '1 day', 'FNAL', 'n'"
            "   FROM generate_series(1, %s), LATERAL (SELECT min(id) AS id FROM grid.task_class) AS c",
            (RUNNING,),
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE grid.task")


async def ask(central: world.Central, number: int) -> None:
    """One resource that asks again and again."""
    async with central.api("broker", central.vobox()) as api:
        while True:
            await client.claim(api, world.ad(number), claim_id=str(time.time_ns()))


async def delay(central: world.Central, url: str, user: str) -> tuple[float, int, int]:
    """Seconds until ten jobs of ``user`` are given away, the other's claims meanwhile, and how many were left."""
    async with central.api("central", user_claims(Person(user, USER_ROLES))) as api:
        made = (await jobs.submit_many(api, JDL, [[]] * TEN, f"ten-{user}"))["tasks"]
    begin, left = time.perf_counter(), TEN
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while left and time.perf_counter() < begin + LONGEST:
            await asyncio.sleep(0.01)
            (left,) = await (await connection.execute(_LEFT, (made,))).fetchone() or (TEN,)
        took = time.perf_counter() - begin
        (overtaken,) = await (await connection.execute(_OVERTAKEN, {"tasks": made})).fetchone() or (0,)
    return took, overtaken, left


async def measure(url: str, folder: Path, waiting: int, days: float) -> int:
    figure = Figures()
    await world.tables(url)
    await asyncio.to_thread(prepare, url, waiting, days)
    central = world.Central(folder, url)
    try:
        for program in ("central", "broker", "optimizer"):
            central.start(program)
        await shared(url)
        asking = [asyncio.create_task(ask(central, number)) for number in range(CLIENTS)]
        await asyncio.sleep(2.0)  # until its index and its connections are warm
        found = [await delay(central, url, f"few{number}") for number in range(USERS)]
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    finally:
        central.stop()
    figure("fair_jobs_not_given_away", sum(left for *_, left in found), "jobs", 0)
    figure("fair_seconds_median", statistics.median(took for took, *_ in found), "s")
    figure("fair_seconds_slowest", max(took for took, *_ in found), "s", SECONDS)
    figure("fair_overtaken_most", max(overtaken for _, overtaken, _ in found), "claims", OVERTAKEN)
    return figure.end()


async def shared(url: str) -> None:
    """The optimizer has told the broker how much user0 runs."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while True:
                    found = await connection.execute("SELECT 1 FROM grid.task_class WHERE factor < 1 LIMIT 1")
                    if await found.fetchone():
                        return
                    await asyncio.sleep(0.2)
    raise SystemExit("the optimizer has set no share within 60 s")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--waiting", type=int, default=1_000_000, help="jobs of the first user")
    parser.add_argument("--days", type=float, default=3.0, help="over which they were submitted")
    chosen = parser.parse_args()
    with world.server() as url, tempfile.TemporaryDirectory(prefix="queue.") as folder:
        return uvloop.run(measure(url, Path(folder), chosen.waiting, chosen.days))


if __name__ == "__main__":
    sys.exit(main())
