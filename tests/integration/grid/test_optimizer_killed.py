"""The optimizer as a real process, killed by SIGKILL at work: each job becomes ready once, each is validated once."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from orchestrator.jobs.jdl import read
from orchestrator.runtime.sql import Database, migrate
from orchestrator.tasks import store
from orchestrator.tasks.store import New
from orchestrator.wiring.central import COMPONENTS

from .conftest import DEFAULTS, recount
from .test_interleavings import World, until, world

__all__ = ["world"]  # a fixture
NEW, DONE, KILLS = 1500, 200, 6
MASTER = 'Executable = "x"; Split = "production:1-300";'
JDL = 'Executable = "/bin/echo"; MemorySize = "{} GB";'


async def fill(url: str) -> None:
    """New jobs, masters that are to be split, and jobs that ended well and are to be validated."""
    async with Database(url, size=1) as database:
        await migrate(database, COMPONENTS)
        texts = [JDL.format(1 + number % 9) for number in range(NEW)] + [MASTER] * 4
        judged = [JDL.format(1) + 'ValidationCommand = "/bin/true";'] * DONE
        for state, given in (("INSERTING", texts), ("DONE", judged)):
            specs = [read(text, [], DEFAULTS) for text in given]
            new = [New({"jdl": each.attributes, "own": ""}) for each in specs]
            async with database.transaction() as connection:
                await store.submit(connection, "job", "ada", state, new, actor="test")


def counts(url: str) -> dict[str, int]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT coalesce(spec ->> 'role', state), count(*) FROM grid.task WHERE state <> 'WAITING'"
            " OR spec ? 'role' GROUP BY 1"
        ).fetchall()
    return {str(name): int(count) for name, count in found}


@pytest.mark.timeout(240)
def test_whenever_it_is_killed_nothing_is_made_twice_or_forgotten(world: World) -> None:
    world.start("postgres")
    until(lambda: psycopg.connect(world.url).close() is None)
    asyncio.run(fill(world.url))
    for name in ("optimizer-1", "optimizer-2"):
        world.start(name)

    def progress() -> int:
        known = counts(world.url)
        return NEW - known.get("INSERTING", 0) + known.get("part", 0) + known.get("validate", 0)

    def ready() -> bool:
        known = counts(world.url)
        return (known.get("INSERTING", 0), known.get("SPLITTING", 0), known.get("validate", 0)) == (
            0,
            0,
            DONE,
        )

    at_work = 0
    for number in range(KILLS):
        before = progress()
        until(lambda before=before: progress() != before or ready())  # type: ignore[misc]
        at_work += not ready()
        world.kill(f"optimizer-{1 + number % 2}")
    assert at_work >= 2
    until(ready, within=120)
    assert counts(world.url) == {"DONE": DONE, "SPLIT": 4, "part": 1200, "validate": DONE}
    asyncio.run(check(world.url))


async def check(url: str) -> None:
    async with Database(url, size=1) as database:
        several = """SELECT task, new FROM grid.task_event WHERE new IN ('WAITING', 'SPLIT')
                      GROUP BY task, new HAVING count(*) > 1"""
        assert await database.rows(several) == []
        gaps = "SELECT task FROM grid.task_event GROUP BY task HAVING max(seq) <> count(*)"
        assert await database.rows(gaps) == []
        parents = await database.rows(
            "SELECT DISTINCT parent FROM grid.task WHERE spec ->> 'role' = 'validate' AND state = 'WAITING'"
        )
        assert len(parents) == DONE
        told = "SELECT count(*) AS n FROM grid.task WHERE state = 'DONE' AND spec ? 'validation'"
        assert (await database.rows(told))[0]["n"] == DONE
        await recount(database)
