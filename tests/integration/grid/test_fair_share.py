"""One user's many jobs do not delay another's few: real PostgreSQL, broker and optimizer."""

from __future__ import annotations

from orchestrator.classads import Ad
from orchestrator.jobs.kind import JobKind
from orchestrator.jobs.optimizer import Optimizer
from orchestrator.runtime.sql import Database
from orchestrator.tasks import store
from orchestrator.tasks.broker import Broker
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.store import New

from .conftest import DEFAULTS, Files, job_token, machine

SPEC = {"jdl": {"TTL": 60, "Executable": "x"}, "own": ""}
KIND = JobKind(None)
FEW, MANY = 10, 5000


async def wait(database: Database, owner: str, count: int) -> None:
    async with database.transaction() as connection:
        number = await store.class_id(connection, "job", owner, Ad({"Type": "job", "User": owner}))
        new = [New(SPEC, number)] * count
        await store.submit(connection, "job", owner, "WAITING", new, actor="test", lasts=3600.0)


async def test_ten_jobs_are_the_next_ten_whatever_another_has_waiting(database: Database) -> None:
    hub = Hub(database, ["waiting"])
    broker = Broker(database, {"job": KIND}, hub, job_token, Patience(), lambda: 0.0)
    optimizer = Optimizer(database, Manager(database, {"job": KIND}), Files(), DEFAULTS)

    async def owners(claims: int) -> list[str]:
        hub.heard("waiting", "job")  # as the database tells it
        found = [await broker.claim("CERN", machine(Name=f"a{n}"), 1, 0.0, "") for n in range(claims)]
        return [task.user for each in found for task in each.tasks]

    await wait(database, "ada", MANY)
    assert await owners(40) == ["ada"] * 40
    await optimizer.step()  # it sees who runs how much
    await wait(database, "bob", FEW)
    assert await owners(FEW) == ["bob"] * FEW
    assert await owners(5) == ["ada"] * 5  # nobody else wants anything
    await wait(database, "eve", FEW)
    await optimizer.step()
    both = await owners(2 * FEW)
    assert both[:FEW] == ["eve"] * FEW  # who runs nothing goes before who runs something


async def test_nor_does_an_old_line_go_before_those_who_have_nothing(database: Database) -> None:
    hub = Hub(database, ["waiting"])
    broker = Broker(database, {"job": KIND}, hub, job_token, Patience(), lambda: 0.0)
    optimizer = Optimizer(database, Manager(database, {"job": KIND}), Files(), DEFAULTS)

    async def owners(claims: int) -> list[str]:
        hub.heard("waiting", "job")
        found = [await broker.claim("CERN", machine(Name=f"a{n}"), 1, 0.0, "") for n in range(claims)]
        return [task.user for each in found for task in each.tasks]

    await wait(database, "ada", MANY)
    async with database.transaction() as connection:  # she submitted them three days ago
        await connection.execute("UPDATE grid.task SET submitted = submitted - interval '3 days'")
        await connection.execute("UPDATE grid.task_class SET oldest = oldest - interval '3 days'")
    assert await owners(40) == ["ada"] * 40
    await optimizer.step()
    await wait(database, "bob", FEW)
    assert await owners(FEW) == ["bob"] * FEW
    assert await owners(5) == ["ada"] * 5
