"""Held jobs wait until they are released: one, a master's parts, many."""

from __future__ import annotations

import pytest

from orchestrator.errors import NotAllowed, PermanentError
from orchestrator.jobs import client as jobs

from .conftest import Grid, api, recount

SIMPLE = 'Executable = "/bin/echo"; MaxWaitingTime = 3600;'


async def waiting(grid: Grid, jdl: str = SIMPLE) -> int:
    job = int((await jobs.submit(grid.central, jdl))["task"])
    await grid.until(job, "WAITING", "SPLIT")
    return job


async def test_a_held_job_is_given_to_nobody_until_it_is_released(grid: Grid) -> None:
    job = await waiting(grid)
    assert await jobs.hold(grid.central, job) == "HELD"
    assert await jobs.hold(grid.central, job) == "HELD"  # again is harmless
    await recount(grid.database)
    assert await grid.claim(wait=0) == []
    told = await jobs.why(grid.central, job)
    assert told["reasons"] == [f"it is held by ada; `orchestrate job release {job}` lets it wait again"]
    (left,) = await grid.rows("SELECT deadline FROM grid.task WHERE id = %(id)s", id=job)
    assert left["deadline"] is None  # nobody is impatient with it
    assert await jobs.release(grid.central, job) == "WAITING"
    (left,) = await grid.rows(
        "SELECT extract(epoch FROM deadline - now())::float8 AS s FROM grid.task WHERE id = %(id)s", id=job
    )
    assert 3500 < float(str(left["s"])) <= 3600
    (given,) = await grid.claim()
    assert (given.task, given.attempt) == (job, 1)
    events = (await jobs.show(grid.central, job))["events"]
    assert [(each["new"], each["actor"], each["reason"]) for each in events[2:4]] == [
        ("HELD", "ada", "held by ada"), ("WAITING", "ada", "released by ada"),
    ]  # fmt: skip
    with pytest.raises(PermanentError, match="ASSIGNED; only one that is WAITING"):
        await jobs.hold(grid.central, job)
    await recount(grid.database)


async def test_only_the_owner_or_an_admin(grid: Grid) -> None:
    job = await waiting(grid)
    async with api(grid.base, "bob") as bob, api(grid.base, "root") as root:
        with pytest.raises(NotAllowed):
            await jobs.hold(bob, job)
        assert await jobs.hold(root, job) == "HELD"
        assert "held by root" in (await jobs.why(bob, job))["reasons"][0]
        with pytest.raises(NotAllowed):
            await jobs.release(bob, job)
    assert await jobs.kill(grid.central, job) == "KILLED"
    with pytest.raises(PermanentError, match="KILLED"):
        await jobs.release(grid.central, job)


async def test_a_masters_waiting_parts_are_held_the_others_run_on(grid: Grid) -> None:
    master = await waiting(grid, 'Executable = "x"; Split = "production:1-1203";')
    (running,) = await grid.claim()
    await grid.report(running, "STARTED", "RUNNING")
    assert await jobs.hold(grid.central, master) == "SPLIT"
    assert (await jobs.show(grid.central, master))["parts"] == {"HELD": 1202, "RUNNING": 1}
    assert "1202 of its parts are held" in (await jobs.why(grid.central, master))["reasons"][-1]
    assert await grid.claim(wait=0) == []
    await recount(grid.database)
    assert await jobs.release(grid.central, master) == "SPLIT"
    assert (await jobs.show(grid.central, master))["parts"] == {"RUNNING": 1, "WAITING": 1202}
    await recount(grid.database)
