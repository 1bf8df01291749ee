"""Submitted jobs become ready many at once: the same as one by one, by any number of optimizers."""

from __future__ import annotations

import asyncio

from orchestrator.classads import Ad
from orchestrator.jobs import compose, store, together
from orchestrator.jobs.jdl import read
from orchestrator.runtime.sql import Database
from orchestrator.tasks import store as tasks
from orchestrator.tasks.store import New

from .conftest import DEFAULTS, Files, recount

GOOD = 'Executable = "/bin/echo"; Arguments = "x"; MaxWaitingTime = 3600; MemorySize = "{} GB";'
MISSING = 'Executable = "x"; InputData = {"/grid/nowhere"};'
MASTER = 'Executable = "x"; Split = "production:1-3";'


async def put(database: Database, *texts: str, owner: str = "ada") -> list[int]:
    specs = [read(text, [], DEFAULTS) for text in texts]
    new = [New({"jdl": each.attributes, "own": each.requirements}) for each in specs]
    async with database.transaction() as connection:
        return await tasks.submit(connection, "job", owner, "INSERTING", new, actor=owner)


async def states(database: Database) -> dict[int, str]:
    return {each["id"]: each["state"] for each in await database.rows("SELECT id, state FROM grid.task")}


async def test_many_are_as_one_by_one(database: Database) -> None:
    alone = compose.optimizer(database, Files(), DEFAULTS)
    texts = [GOOD.format(1), GOOD.format(2), MISSING]
    one = await put(database, *texts)
    for job in one:
        await alone._prepare(job)
    many = await put(database, *texts, MASTER, *texts)
    left = await together.ready(database, alone.manager, alone.catalogue, DEFAULTS, many)
    assert left == [many[3]]
    found = await states(database)
    assert [found[job] for job in many] == [
        "WAITING", "WAITING", "ERROR_I", "INSERTING", "WAITING", "WAITING", "ERROR_I",
    ]  # fmt: skip
    kept = "spec - 'jdl' AS spec, class, attempt, seq, reason, state, deadline - changed > interval '59 min' AS later"
    for first, second in zip(one, many[:3], strict=True):
        (a,) = await database.rows(f"SELECT {kept} FROM grid.task WHERE id = %(id)s", id=first)
        (b,) = await database.rows(f"SELECT {kept} FROM grid.task WHERE id = %(id)s", id=second)
        assert a == b
        async with database.transaction() as connection:
            told = [await tasks.events(connection, job) for job in (first, second)]
        gone = [[{**each, "at": 0} for each in events] for events in told]
        assert gone[0] == gone[1]
    await recount(database)
    assert (
        await together.ready(database, alone.manager, alone.catalogue, DEFAULTS, many) == many
    )  # nothing is new


async def test_several_optimizers_at_once(database: Database) -> None:
    optimizers = [compose.optimizer(database, Files(), DEFAULTS) for _ in range(4)]
    texts = [GOOD.format(1 + number % 7) for number in range(300)]
    jobs = await put(database, *texts) + await put(database, *texts, owner="bob")
    for _ in range(50):
        await asyncio.gather(*(each.step() for each in optimizers))
        if set((await states(database)).values()) == {"WAITING"}:
            break
    assert await states(database) == dict.fromkeys(jobs, "WAITING")
    events = "SELECT count(*) AS n FROM grid.task_event WHERE new = 'WAITING'"
    assert (await database.rows(events))[0]["n"] == len(jobs)
    classes = await database.rows("SELECT waiting FROM grid.class_now WHERE waiting > 0")
    assert (len(classes), sum(each["waiting"] for each in classes)) == (14, 600)
    await recount(database)


async def test_one_that_has_moved_meanwhile_is_left_alone(database: Database) -> None:
    optimizer = compose.optimizer(database, Files(), DEFAULTS)
    jobs = await put(database, GOOD.format(1), GOOD.format(1))
    async with database.transaction() as connection:
        number = await tasks.class_id(connection, "job", "ada", Ad({"Type": "job"}))
        killed = await tasks.get(connection, jobs[0], lock=True)
        await optimizer.manager.move(connection, killed, "KILLED", actor="ada")
        spec = [{"jdl": {}}] * 2
        await store.begin_to_wait(connection, jobs, [number] * 2, spec, [60.0] * 2)
    assert await states(database) == {jobs[0]: "KILLED", jobs[1]: "WAITING"}
    await recount(database)
