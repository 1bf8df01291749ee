"""Every pair of states of the life table on a real database: legal moves happen, illegal ones change nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestrator.classads import Ad
from orchestrator.jobs import model
from orchestrator.jobs.kind import JobKind
from orchestrator.runtime.sql import Connection, Database
from orchestrator.states import IllegalTransition
from orchestrator.tasks import store
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import Report
from orchestrator.tasks.store import New

from .conftest import Files, recount

SPEC = {"jdl": {"TTL": 60, "Executable": "x"}, "own": "", "conditions": []}
STATES = sorted(model.LIFE)
AGAIN = {(old, new) for old in model.FINAL | model.ACTIVE for new in ("WAITING", "SPLITTING", "INSERTING")}
SITE = "CERN"


async def put(connection: Connection, state: str, number: int) -> Task:
    """A job in ``state``; one that is with a resource is at SITE, one that was silent has been RUNNING."""
    (job,) = await store.submit(connection, "job", "ada", state, [New(SPEC, number)], actor="test")
    await connection.execute("UPDATE grid.task SET site = %s, resource = 'a' WHERE id = %s", (SITE, job))
    if state == model.ZOMBIE:
        await connection.execute(
            "UPDATE grid.task_event SET old = 'RUNNING', new = 'ZOMBIE' WHERE task = %s", (job,)
        )
    return await store.get(connection, job)


async def picture(connection: Connection, job: int) -> tuple[object, ...]:
    """All that is kept of a job, and its class's count."""
    cursor = await connection.execute(
        "SELECT to_jsonb(task) AS task, (SELECT jsonb_agg(to_jsonb(event) ORDER BY seq) FROM grid.task_event event"
        " WHERE event.task = task.id) AS events, (SELECT waiting FROM grid.class_now WHERE id = task.class) AS waiting"
        " FROM grid.task task WHERE id = %s",
        (job,),
    )
    found: Mapping[str, object] = await cursor.fetchone() or {}
    return found["task"], found["events"], found["waiting"]


@pytest.fixture
def manager(database: Database) -> Manager:
    return Manager(database, {"job": JobKind(Files())})


async def a_class(connection: Connection) -> int:
    return await store.class_id(connection, "job", "ada", Ad({"Type": "job"}))


@pytest.mark.parametrize("old", STATES)
async def test_every_move_of_the_manager(database: Database, manager: Manager, old: str) -> None:
    for new in STATES:
        async with database.transaction() as connection:
            task = await put(connection, old, await a_class(connection))
            before = await picture(connection, task.id)
        again = (old, new) in AGAIN
        if new not in model.LIFE[old]:
            with pytest.raises(IllegalTransition) as refused:
                async with database.transaction() as connection:
                    await manager.move(connection, task, new, actor="test", again=again)
            assert refused.value.facts == {"old": old, "new": new}
            async with database.transaction() as connection:
                assert await picture(connection, task.id) == before
            continue
        async with database.transaction() as connection:
            moved = await manager.move(connection, task, new, actor="test", reason="why", again=again)
        async with database.transaction() as connection:
            now = await store.get(connection, task.id)
            events = await store.events(connection, task.id)
        assert (now.state, now.seq, now.reason, now.attempt) == (new, 2, "why", 1 + again)
        assert (events[-1]["old"], events[-1]["new"], events[-1]["seq"]) == (old, new, 2)
        assert moved == now
    await recount(database)


@pytest.mark.parametrize("old", STATES)
async def test_every_report_of_a_resource(database: Database, manager: Manager, old: str) -> None:
    """A resource reaches what the table holds from a state in which an attempt is its own, and no other state."""
    kind = JobKind(None)
    for new in STATES:
        async with database.transaction() as connection:
            task = await put(connection, old, await a_class(connection))
            before = await picture(connection, task.id)
        state = model.RUNNING if old == model.ZOMBIE else old
        mine = state in model.ACTIVE and new in kind.reportable and new in model.LIFE[state]
        reached = (
            new == old and new != "WAITING" and new != model.ZOMBIE
        )  # its event is there: a repeated report
        (verdict,) = await manager.report(SITE, [Report(task.id, 1, new)])
        async with database.transaction() as connection:
            after = await picture(connection, task.id)
            now = await store.get(connection, task.id)
        if mine and not reached:
            went = "WAITING" if new == model.ERROR_A else new  # attempts are left
            assert (verdict.accepted, now.state) == (True, went), f"{old} to {new}: {verdict.why}"
        else:
            assert verdict.accepted == (new == old and old != "WAITING"), f"{old} to {new}: {verdict.why}"
            assert after == before, f"{old} to {new} changed something"
        for site, attempt in (("elsewhere", now.attempt), (SITE, now.attempt + 1)):
            if new == now.state:
                continue  # told already
            (stale,) = await manager.report(site, [Report(task.id, attempt, new)])
            async with database.transaction() as connection:
                assert (stale.accepted, await picture(connection, task.id)) == (False, after)
    await recount(database)


async def test_a_move_from_a_state_that_is_no_longer_so_changes_nothing(
    database: Database, manager: Manager
) -> None:
    for old in STATES:
        for new in sorted(model.LIFE[old]):
            async with database.transaction() as connection:
                task = await put(connection, old, await a_class(connection))
                async with connection.transaction():
                    await manager.move(connection, task, new, actor="first", again=(old, new) in AGAIN)
                before = await picture(connection, task.id)
                with pytest.raises(store.Overtaken):
                    async with connection.transaction():
                        await manager.move(connection, task, new, actor="second")
                assert await picture(connection, task.id) == before
    await recount(database)
