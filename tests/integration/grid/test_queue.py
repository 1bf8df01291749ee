"""The queue under many hands: concurrent claims, lost connections, random operations. Real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from orchestrator.classads import Ad
from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.jobs import model
from orchestrator.jobs.kind import JobKind
from orchestrator.jobs.optimizer import SWEEP, Optimizer
from orchestrator.runtime.sql import Database
from orchestrator.states import IllegalTransition
from orchestrator.tasks import store
from orchestrator.tasks.broker import Broker
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import Beat, Report
from orchestrator.tasks.store import SQL, New

from .conftest import DEFAULTS, Files, Grid, job_token, machine, recount

SPEC = {"jdl": {"TTL": 60, "Executable": "x"}, "own": ""}
KIND = JobKind(None)


@pytest.fixture
def manager(database: Database) -> Manager:
    return Manager(database, {"job": KIND})


def broker_on(database: Database) -> Broker:
    return Broker(database, {"job": KIND}, Hub(database, ["waiting"]), job_token, Patience(), lambda: 0.0)


@pytest.fixture
async def brokers(url: str) -> AsyncIterator[list[Broker]]:
    """Four brokers that share nothing but the database."""
    async with contextstack(url, 4) as databases:
        yield [broker_on(each) for each in databases]


class contextstack:
    """``count`` pools of their own."""

    def __init__(self, url: str, count: int) -> None:
        self.databases = [Database(url, size=4) for _ in range(count)]

    async def __aenter__(self) -> list[Database]:
        return [await each.__aenter__() for each in self.databases]

    async def __aexit__(self, *_: object) -> None:
        for each in self.databases:
            await each.__aexit__()


async def wait_jobs(database: Database, owner: str, count: int, **ad: object) -> list[int]:
    """``count`` waiting jobs of one class."""
    async with database.transaction() as connection:
        number = await store.class_id(connection, "job", owner, Ad({"Type": "job", "User": owner} | ad))
        return await store.submit(
            connection, "job", owner, "WAITING", [New(SPEC, number)] * count, actor="test", lasts=3600.0
        )


async def test_every_task_is_given_once_however_many_ask(database: Database, brokers: list[Broker]) -> None:
    made = []
    for owner in ("ada", "bob", "eve"):
        made += await wait_jobs(database, owner, 100)

    async def agent(number: int) -> list[int]:
        got: list[int] = []
        while True:
            broker = brokers[number % len(brokers)]
            found = await broker.claim(
                "CERN", machine(Name=f"a{number}"), 1 + number % 3, 0.0, f"{number}-{len(got)}"
            )
            if not found.tasks:
                return got
            got += [each.task for each in found.tasks]

    given = Counter(task for each in await asyncio.gather(*map(agent, range(24))) for task in each)
    left = [each["id"] for each in await database.rows("SELECT id FROM grid.task WHERE state = 'WAITING'")]
    assert set(given.values()) == {1}
    assert sorted([*given, *left]) == sorted(made)
    assert len(left) == 0
    await recount(database)


async def test_a_repeated_claim_gets_the_same_tasks(database: Database) -> None:
    await wait_jobs(database, "ada", 10)
    broker = broker_on(database)
    first, second = await asyncio.gather(
        *(broker.claim("CERN", machine(Cores=4), 2, 0.0, "claim-1") for _ in range(2))
    )
    assert [each.task for each in first.tasks] == [each.task for each in second.tasks]
    assert len(first.tasks) == 2
    other = await broker.claim("CERN", machine(Cores=4), 2, 0.0, "claim-2")
    assert not {each.task for each in first.tasks} & {each.task for each in other.tasks}


async def _claim_and_drop(broken: Database, other: Database) -> None:
    async with broken.transaction() as connection:
        values = {
            "guards": "{}",
            "sites": "{CERN}",
            "resources": "{r}",
            "claims": '{""}',
            "classes": "{1}",
            "places": "{1}",
        }
        found = await connection.execute(SQL["claim"], values | {"lasts": 15.0, "actor": "broker"})
        assert len(await found.fetchall()) == 1
        await other.rows("SELECT pg_terminate_backend(%(pid)s)", pid=connection.info.backend_pid)
        await connection.execute("SELECT 1")


async def test_a_claim_whose_connection_drops_takes_nothing(database: Database, url: str) -> None:
    (job,) = await wait_jobs(database, "ada", 1)
    async with Database(url, size=1) as broken:
        with pytest.raises(TemporaryError):
            await _claim_and_drop(broken, database)
    found = await broker_on(database).claim("CERN", machine(), 1, 0.0, "")
    assert [each.task for each in found.tasks] == [job]
    await recount(database)


async def test_a_task_locked_by_somebody_else_is_passed_over(database: Database, server: str) -> None:
    first, second = await wait_jobs(database, "ada", 2)
    async with database.transaction() as connection:
        await store.get(connection, first, lock=True)
        found = await asyncio.wait_for(broker_on(database).claim("CERN", machine(Cores=2), 2, 0.0, ""), 5)
        assert [each.task for each in found.tasks] == [second]


async def test_nobody_waits_for_a_class_that_somebody_else_holds(database: Database) -> None:
    first, second = await wait_jobs(database, "ada", 2)
    async with database.transaction() as connection:
        await connection.execute("SELECT * FROM grid.task_class FOR UPDATE")
        found = await asyncio.wait_for(broker_on(database).claim("CERN", machine(), 1, 0.0, ""), 5)
        assert [each.task for each in found.tasks] == [first]
        await asyncio.wait_for(database.rows(SQL["fold"]), 5)
    await recount(database)
    await database.rows(SQL["fold"])
    assert await database.rows("SELECT waiting FROM grid.task_class") == [{"waiting": 1}]
    assert await database.rows("SELECT * FROM grid.class_taken") == []
    found = await broker_on(database).claim("CERN", machine(), 1, 0.0, "")
    assert [each.task for each in found.tasks] == [second]


@pytest.mark.parametrize("text", ['"', "\\", '\\"', "{a,b}", "NULL", "é ☃", "a\0b", "\ud800"])
async def test_names_and_numbers_of_any_text_are_kept_apart(database: Database, text: str) -> None:
    first, second = await wait_jobs(database, "ada", 2)
    broker = broker_on(database)
    for number, task in ((text, first), (text + "x", second), (text, first)):
        found = await broker.claim(
            "CERN", machine(Name=f"host{text}".replace("\0", "").replace("\ud800", "")), 1, 0.0, number
        )
        assert [each.task for each in found.tasks] == [task]


async def test_classes_are_taken_in_order_and_only_when_both_sides_accept(database: Database) -> None:
    await wait_jobs(database, "ada", 1, Requirements='member("x", other.Packages)')
    (mine,) = await wait_jobs(database, "bob", 1)
    broker = broker_on(database)
    found = await broker.claim("CERN", machine(Requirements='other.User == "bob"', Cores=8), 8, 0.0, "")
    assert [each.task for each in found.tasks] == [mine]
    assert (await broker.claim("CERN", machine(), 1, 0.0, "")).tasks == ()
    assert len((await broker.claim("CERN", machine(Packages=["x"]), 1, 0.0, "")).tasks) == 1


async def test_a_pinned_class_is_seen_by_its_site_alone(database: Database) -> None:
    async with database.transaction() as connection:
        number = await store.class_id(connection, "job", "ada", Ad({"Type": "job"}), "CERN")
        await store.submit(connection, "job", "ada", "WAITING", [New(SPEC, number)], actor="test")
    broker = broker_on(database)
    assert (await broker.claim("Torino", machine(), 1, 0.0, "")).tasks == ()
    assert len((await broker.claim("CERN", machine(), 1, 0.0, "")).tasks) == 1


async def test_many_cores_take_many_tasks_and_no_more(database: Database) -> None:
    await wait_jobs(database, "ada", 10, CPUCores=2)
    found = await broker_on(database).claim("CERN", machine(Cores=7), 10, 0.0, "")
    assert len(found.tasks) == 3


async def test_no_match_answers_ask_for_ever_longer_waits(database: Database) -> None:
    broker = broker_on(database)
    waits = [(await broker.claim("CERN", machine(), 1, 0.0, "")).retry_in for _ in range(8)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


async def test_a_queue_without_deadlines_is_looked_at_once_a_sweep(
    database: Database, manager: Manager
) -> None:
    assert await manager.lapse(KIND) is None
    optimizer = Optimizer(database, manager, Files(), DEFAULTS)
    assert await optimizer.step() == SWEEP


async def test_compare_and_set_lets_one_of_two_movers_win(database: Database, manager: Manager) -> None:
    (job,) = await wait_jobs(database, "ada", 1)
    async with database.transaction() as connection:
        seen = await store.get(connection, job)
    async with database.transaction() as connection:
        await manager.move(connection, seen, "HELD", actor="one")
    with pytest.raises(store.Overtaken):
        async with database.transaction() as connection:
            await manager.move(connection, seen, "KILLED", actor="two")
    with pytest.raises(IllegalTransition):
        async with database.transaction() as connection:
            await manager.move(connection, seen, "DONE", actor="three")


async def test_text_that_postgresql_cannot_hold_is_kept_as_far_as_possible(
    database: Database, manager: Manager
) -> None:
    await wait_jobs(database, "ada", 1)
    ((given),) = (await broker_on(database).claim("CERN", machine(), 1, 0.0, "")).tasks
    report = Report(given.task, 1, "STARTED", "a\0b\ud800", {"x\0": float("nan"), "y": ["\0"]})
    assert (await manager.report("CERN", [report]))[0].accepted
    (kept,) = await database.rows("SELECT reason, result FROM grid.task")
    assert kept == {"reason": "a\ufffdb?", "result": {"x\ufffd": None, "y": ["\ufffd"]}}


@pytest.mark.parametrize("seed", range(3))
async def test_counts_equal_a_recount_and_events_have_no_gap_after_random_operations(
    database: Database, manager: Manager, seed: int
) -> None:
    dice = random.Random(seed)
    broker = broker_on(database)
    held: list[tuple[int, int]] = []

    async def submit() -> None:
        await wait_jobs(database, dice.choice("abc"), dice.randint(1, 4), CPUCores=dice.randint(1, 2))

    async def claim() -> None:
        found = await broker.claim("CERN", machine(Cores=dice.randint(1, 4)), dice.randint(1, 3), 0.0, "")
        held.extend((each.task, each.attempt) for each in found.tasks)

    async def report() -> None:
        if held:
            task, attempt = dice.choice(held)
            await manager.report("CERN", [Report(task, attempt, dice.choice(sorted(model.LIFE)))])

    async def beat() -> None:
        await manager.beat("CERN", [Beat(*each) for each in dice.sample(held, min(3, len(held)))])

    async def other() -> None:
        found = await database.rows("SELECT id FROM grid.task ORDER BY random() LIMIT 1")
        for each in found:
            async with database.transaction() as connection:
                task = await store.get(connection, each["id"], lock=True)
                new = dice.choice(sorted(model.LIFE[task.state]) or ["KILLED"])
                again = new == "WAITING" and task.state != "HELD"
                await manager.move(connection, task, new, actor="test", again=again)

    async def one() -> None:
        with contextlib.suppress(PermanentError):  # an illegal or overtaken move is refused, as it must be
            await dice.choice([submit, claim, claim, report, report, report, beat, other])()

    await submit()
    for _ in range(25):
        await asyncio.gather(*(one() for _ in range(6)))
    await recount(database)
    gaps = await database.rows(
        "SELECT task FROM grid.task_event GROUP BY task HAVING max(seq) <> count(*) OR min(seq) <> 1"
    )
    assert gaps == []
    wrong = await database.rows(
        """SELECT task.id FROM grid.task JOIN grid.task_event AS event ON event.task = task.id AND event.seq = task.seq
            WHERE event.new <> task.state OR event.attempt <> task.attempt"""
    )
    assert wrong == []


async def test_a_restart_of_the_database_is_survived(grid: Grid, server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
    asking = asyncio.ensure_future(grid.claim(wait=20))
    await wait_jobs(grid.database, "ada", 1)
    assert len(await asking) == 1


async def test_a_wake_up_is_passed_on_by_those_who_take_nothing(database: Database) -> None:
    """The first of those who sleep drains, the second has hung up: the third gets the job, soon."""
    hub = Hub(database, ["waiting"])
    broker, stop = Broker(database, {"job": KIND}, hub, job_token, Patience(), lambda: 0.0), asyncio.Event()
    listening = asyncio.create_task(hub.run(stop))

    async def gone() -> bool:
        return True

    try:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(broker.claim("CERN", machine(Name="a", Host="a"), 1, 10.0, "1"))
            await until(lambda: len(broker._sleepers) == 1)
            await database.rows("UPDATE grid.resource SET draining = true")
            second = group.create_task(broker.claim("CERN", machine(Name="b", Host="b"), 1, 10.0, "1", gone))
            await until(lambda: len(broker._sleepers) == 2)
            third = group.create_task(broker.claim("CERN", machine(Name="c", Host="c"), 1, 10.0, "1"))
            await until(lambda: len(broker._sleepers) == 3)
            (job,) = await wait_jobs(database, "ada", 1)
            async with asyncio.timeout(5):
                assert [each.task for each in (await third).tasks] == [job]
                assert (await second).tasks == ()
            first.cancel()
    finally:
        stop.set()
        await listening
    assert first.cancelled()
    await recount(database)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)
