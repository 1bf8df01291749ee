"""What a claim reads depends on what it takes, not on how the tasks are shared out. Real PostgreSQL, its own statistics."""

from __future__ import annotations

import pytest

from orchestrator.runtime.sql import Connection, Database, array
from orchestrator.tasks.store import SQL

TASKS, ASSIGNED = 20_000, 4_000
_CLASSES = """
INSERT INTO grid.task_class (kind, owner, digest, ad, waiting)
SELECT 'job', 'ada', number, '', %(each)s FROM generate_series(1, %(classes)s) AS number
"""
_TASKS = """
INSERT INTO grid.task (kind, owner, state, class, deadline)
SELECT 'job', 'ada', 'WAITING', 1 + number %% %(classes)s, now() + interval '1 day'
  FROM generate_series(1, %(tasks)s) AS number
"""
_READ = (
    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'grid.task'::regclass"
)


async def claim(connection: Connection, number: str, classes: list[int]) -> list[int]:
    """The tasks that claim ``number`` gets of ``classes``, and nobody waits for it."""
    values = {
        "guards": array([number]), "sites": array(["CERN"]), "resources": array(["a"]), "claims": array([number]),
        "classes": array(classes), "places": array([1] * len(classes)), "lasts": 60.0, "actor": "broker",
    }  # fmt: skip
    return [row["id"] async for row in await connection.execute(SQL["claim"], values)]


async def read(connection: Connection) -> int:
    """Rows of grid.task that this connection has read, since it has last told the server's statistics."""
    (row,) = await (await connection.execute(_READ)).fetchall()
    return int(next(iter(row.values())))


@pytest.mark.parametrize("classes", [1, 10, 1000])
async def test_a_claim_reads_what_it_takes(database: Database, classes: int) -> None:
    await database.rows(_CLASSES, each=TASKS // classes, classes=classes)
    await database.rows(_TASKS, tasks=TASKS, classes=classes)
    some = [1 + number * classes // ASSIGNED for number in range(ASSIGNED)]
    async with database.connection() as connection:
        await connection.execute("ANALYZE grid.task")  # when nothing is assigned yet
        assert len(await claim(connection, "many", some)) == ASSIGNED
        async with connection.transaction():  # in which nothing is told to the statistics
            before = await read(connection)
            taken = await claim(connection, "one", [1, 1, classes])
            assert len(taken) == 3
            assert 3 <= await read(connection) - before <= 9
            before = await read(connection)
            assert await claim(connection, "many", [1]) == []  # it has got something before
            assert await read(connection) - before <= 1
            before = await read(connection)
            again = await (await connection.execute(SQL["claimed"], {"claims": ["one"]})).fetchall()
            assert {row["id"] for row in again} == set(taken)
            assert await read(connection) - before <= 3
