"""Memory of central's programs at 10⁴ and at many more waiting tasks, after the same work for each.

    python tests/benchmarks/queue/memory.py [--most 10000000]

The work: claims over HTTPS, a bulk submission, lists and counts of jobs, and all that the optimizer does within one of its
longest rounds: it makes the new jobs ready, shares out, takes back what was claimed and never began.
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
import claims
import world
from peers.figures import Figures

from orchestrator.auth.model import USER_ROLES, Person, user_claims
from orchestrator.jobs import client as jobs
from orchestrator.jobs.optimizer import ROUND

PROGRAMS = ("central", "broker", "optimizer")
CLAIMED, NEW, LISTS, LISTED = 3_000, 1_000, 20, 1_000
LARGER = 1.1  # times as much memory at most
PATIENCE = 300.0  # seconds for the work
JDL = 'Executable = "/bin/simulate";\nTTL = 3600;\n'
_LEFT = "SELECT count(*) FROM grid.task WHERE state IN ('INSERTING', 'ASSIGNED')"


async def work(central: world.Central, url: str) -> None:
    """What every program has to do; RuntimeError when it is not done in time."""
    begin = time.monotonic()
    claims.over_https(central, 60.0, 1, most=CLAIMED)
    async with central.api("central", user_claims(Person("ada", USER_ROLES))) as api:
        await jobs.submit_many(api, JDL, [[]] * NEW)
        for _ in range(LISTS):
            assert len(await jobs.listing(api, limit=LISTED)) == LISTED
            await jobs.top(api)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        left = NEW
        while left or time.monotonic() < begin + ROUND:
            if time.monotonic() > begin + PATIENCE:
                raise RuntimeError(f"{left} tasks are not ready or taken back")
            await asyncio.sleep(0.5)
            (left,) = await (await connection.execute(_LEFT)).fetchone() or (NEW,)


async def measure(server: str, folder: Path, most: int) -> int:
    figure = Figures()
    found: list[dict[str, float]] = []
    for name, tasks in (("few", claims.FEW), ("many", most)):
        url = await world.database(server, name)
        await asyncio.to_thread(world.fill, url, tasks, claims.CLASSES)
        central = world.Central(folder / name, url)
        try:
            pids = {program: central.start(program) for program in PROGRAMS}
            await work(central, url)
            found.append({program: world.rss(pid) for program, pid in pids.items()})
        finally:
            central.stop()
    figure("memory_tasks_waiting", most, "tasks")
    for program in PROGRAMS:
        few, many = (each[program] for each in found)
        figure(f"memory_{program}_at_few", few, "MB")
        figure(f"memory_{program}_at_most", many, "MB")
        figure(f"memory_{program}_most_to_few", many / few, "ratio", LARGER)
    return figure.end()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=10_000_000, help="waiting tasks at the upper end")
    chosen = parser.parse_args()
    with world.server() as url, tempfile.TemporaryDirectory(prefix="queue.") as folder:
        return uvloop.run(measure(url, Path(folder), chosen.most))


if __name__ == "__main__":
    sys.exit(main())
