"""The optimizer as a real process, killed by SIGKILL while it archives, and PostgreSQL's crash: each task is in one place."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from orchestrator.runtime.sql import Database, migrate
from orchestrator.wiring.central import COMPONENTS

from .test_interleavings import World, until, world

__all__ = ["world"]  # a fixture
TASKS, EVERY, OPEN, KILLS = 40_000, 100, 100, 8

# Masters with a part each beside plain jobs, a hundred of which still wait, all of a month ago; each with two events.
FILL = """
WITH made AS (
    INSERT INTO grid.task (kind, owner, state, spec, seq, submitted, changed)
    SELECT 'job', 'ada', CASE WHEN number <= %(open)s THEN 'HELD' ELSE 'DONE' END, '{"jdl": {}}', 2,
           now() - interval '1 month', now() - interval '1 month'
      FROM generate_series(1, %(tasks)s) AS number
    RETURNING id, state
), parts AS (
    INSERT INTO grid.task (kind, owner, state, parent, seq, submitted, changed)
    SELECT 'job', 'ada', 'DONE', id, 2, now() - interval '1 month', now() - interval '1 month'
      FROM made WHERE id %% %(every)s = 0
    RETURNING id, state
)
INSERT INTO grid.task_event (task, seq, attempt, old, new, actor)
SELECT id, seq, 1, '', state, 'test'
  FROM (SELECT * FROM made UNION ALL SELECT * FROM parts) AS task, generate_series(1, 2) AS seq
"""


async def fill(url: str) -> None:
    async with Database(url, size=1) as database:
        await migrate(database, COMPONENTS)
        await database.rows(FILL, tasks=TASKS, every=EVERY, open=OPEN)


def one(url: str, query: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert found is not None
    return int(found[0])


@pytest.mark.timeout(240)
def test_whenever_it_is_killed_each_task_is_in_one_place(world: World) -> None:
    world.start("postgres")
    until(lambda: psycopg.connect(world.url).close() is None)
    asyncio.run(fill(world.url))
    both = (
        "SELECT count(*) FROM (SELECT id FROM grid.task UNION ALL SELECT id FROM grid.task_archive) AS task"
    )
    total = one(world.url, both)
    assert total == TASKS + TASKS // EVERY
    # The families of held masters stay.
    stay = one(world.url, "SELECT count(*) FROM grid.task AS t LEFT JOIN grid.task AS head ON head.id = t.parent"
                          " WHERE 'HELD' IN (t.state, head.state)")  # fmt: skip
    for name in ("optimizer-1", "optimizer-2"):
        world.start(name)
    left = "SELECT count(*) FROM grid.task"
    moving = """SELECT count(*) FROM pg_stat_activity
                 WHERE state <> 'idle' AND query ~ 'task_event_archive SELECT' AND pid <> pg_backend_pid()"""
    at_work = 0
    for number in range(KILLS):
        until(lambda: one(world.url, moving) or one(world.url, left) == stay)
        if number == KILLS // 2:
            world.kill("postgres")
        for name in ("optimizer-1", "optimizer-2"):  # one of them archives, the other looks again later
            world.kill(name)
        until(lambda: psycopg.connect(world.url).close() is None)
        at_work += one(world.url, left) > stay
        assert one(world.url, both) == total
    assert at_work >= 3
    until(lambda: one(world.url, left) == stay, within=120)
    assert one(world.url, both) == total
    assert one(world.url, both.replace("count(*)", "count(DISTINCT id)")) == total
    assert one(world.url, "SELECT count(*) FROM grid.task WHERE state <> 'HELD' AND parent IS NULL") == 0
    for name in ("", "_archive"):
        events = f"SELECT count(*) FROM grid.task_event{name} JOIN grid.task{name} AS task ON task.id = task"
        assert one(world.url, events) == 2 * one(world.url, f"SELECT count(*) FROM grid.task{name}")
        assert one(world.url, f"SELECT count(*) FROM grid.task_event{name}") == one(world.url, events)
