"""The archive of tasks: who goes there, that a task is in one place, and that users find it there as it was."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Any

import psycopg
import pytest

from orchestrator.errors import NotFound, PermanentError, TemporaryError, UserError
from orchestrator.jobs import archived, model
from orchestrator.jobs import client as jobs
from orchestrator.jobs.kind import JobKind
from orchestrator.jobs.service import Jobs, Who
from orchestrator.runtime.http import Api
from orchestrator.runtime.sql import Database
from orchestrator.tasks import archive, client, store
from orchestrator.tasks.archive import ROUND, Archive, Ended
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.keeping import DAY, Keeping
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import Beat, Report
from orchestrator.tasks.store import ARCHIVE, New

from .conftest import DEFAULTS, Files, Grid, recount

JDL = {"Executable": "/bin/echo", "OutputDir": "/grid/x", "JobTag": "mc26", "TTL": 60, "MaxWaitingTime": 600}
FAIL = 'Executable = "/bin/false"; JobTag = "old"; MaxWaitingTime = 3600;'


class Later(Archive):
    """The archive of jobs, some days from now."""

    def __init__(self, database: Database, days: float = 8.0, **keeping: Any) -> None:
        self.days = days
        kinds = {"job": archived.ENDED}
        super().__init__(database, kinds, lambda: time.time() + self.days * DAY, Keeping(**keeping))

    async def all(self) -> None:
        """One look at all live tasks."""
        while await self.step() != ROUND:
            pass


async def made(
    database: Database,
    state: str,
    parent: int | None = None,
    lasts: float | None = None,
    kind: str = "job",
    **spec: Any,
) -> int:
    """A task that has come to ``state``, with a second event."""
    async with database.transaction() as connection:
        new = [New({"jdl": JDL | spec.pop("jdl", {}), "own": "", **spec}, None, 2.5)]
        (task,) = await store.submit(
            connection, kind, "ada", state, new, actor="test", parent=parent, lasts=lasts
        )
        await connection.execute(
            "INSERT INTO grid.task_event (task, seq, attempt, old, new, actor) VALUES (%s, 2, 1, %s, %s, 'test')",
            (task, state, state),
        )
        await connection.execute(
            "UPDATE grid.task SET seq = 2, reason = 'so', result = %s WHERE id = %s", ('{"usage": {}}', task)
        )
    return task


async def places(database: Database) -> tuple[list[int], list[int]]:
    """The live and the archived tasks; each with all of its events at the same place."""
    found = []
    for name in ("task", "task_archive"):
        events = name.replace("task", "task_event")
        wrong = f"""SELECT task.id, task.seq, count(event.task) AS events FROM grid.{name} AS task
                      LEFT JOIN grid.{events} AS event ON event.task = task.id
                     GROUP BY task.id HAVING count(event.task) <> task.seq OR max(event.seq) <> task.seq"""
        assert await database.rows(wrong) == []  # type: ignore[arg-type]
        lost = f"SELECT task FROM grid.{events} WHERE task NOT IN (SELECT id FROM grid.{name})"
        assert await database.rows(lost) == []  # type: ignore[arg-type]
        found.append([each["id"] for each in await database.rows(f"SELECT id FROM grid.{name} ORDER BY id")])  # type: ignore[arg-type]
    return found[0], found[1]


async def test_who_goes_and_who_stays(database: Database) -> None:
    goes = [await made(database, state) for state in sorted(model.FINAL)]
    stays = [await made(database, state) for state in sorted(set(model.LIFE) - model.FINAL)]
    master = await made(database, "DONE", jdl={"Split": "production:1-2", "ValidationCommand": "/bin/true"})
    part = await made(database, "VALIDATED", master, role="part")
    goes += [master, part, await made(database, "DONE", part, role="validate")]
    goes.append(await made(database, "KILLED", master, role="part"))
    for end, last in (("KILLED", "RUNNING"), ("DONE", "EXPIRED")):
        head = await made(database, end)
        again = (
            0.0 if last == "EXPIRED" else None
        )  # the manager is still to look whether it has attempts left
        stays += [head, await made(database, "DONE", head), await made(database, last, head, again)]
    head = await made(database, "DONE")
    between = await made(database, "DONE", head)
    stays += [head, between, await made(database, "WAITING", between)]
    stays.append(await made(database, "DONE", jdl={"ValidationCommand": "/bin/true"}))  # nobody has judged it
    stays.append(await made(database, "DONE", kind="transfer"))
    head = await made(database, "DONE")
    stays += [head, await made(database, "DONE", head, kind="transfer")]
    await Later(database, 6.9, period=DAY).all()
    assert await places(database) == (sorted(stays + goes), [])  # it is too early
    past = Later(database)
    await past.all()
    assert await places(database) == (sorted(stays), sorted(goes))
    await past.all()
    assert await places(database) == (sorted(stays), sorted(goes))


async def test_a_family_waits_for_its_youngest_and_for_the_part_of_the_archive(database: Database) -> None:
    head = await made(database, "ERROR_E")
    past = Later(database)
    await past.cut()
    child = await made(database, "DONE", head)
    await past.all()
    assert await places(database) == ([head, child], [])  # the number of the child belongs to no part yet
    past.days = 14.0
    await past.all()
    assert await places(database) == ([head, child], [])
    past.days = 16.0
    await past.all()
    assert await places(database) == ([], [head, child])
    names = "SELECT relname FROM pg_class WHERE relname ~ 'archive_[0-9]+$' AND relkind = 'r' ORDER BY 1"
    assert [each["relname"] for each in await database.rows(names)] == [
        f"task_{which}archive_{first}" for which in ("", "event_") for first in (head, child)
    ]


async def test_what_comes_back_is_what_went(database: Database) -> None:
    """Every column, also those that a later migration may add to one table and forget in the other."""
    columns = """SELECT column_name, ordinal_position, udt_name, is_nullable FROM information_schema.columns
                  WHERE table_schema = 'grid' AND table_name = '{}' ORDER BY ordinal_position"""
    for name in ("task", "task_event"):
        live, gone = [await database.rows(columns.format(each)) for each in (name, f"{name}_archive")]  # type: ignore[arg-type]
        assert live == gone
    head = await made(database, "ERROR_E", role="x")
    await made(database, "DONE", await made(database, "DONE", head))
    whole = """SELECT to_jsonb(task) AS task, (SELECT jsonb_agg(to_jsonb(event) ORDER BY seq) FROM grid.task_event{0} AS event
                 WHERE event.task = task.id) AS events FROM grid.task{0} AS task ORDER BY id"""
    before = await database.rows(whole.format(""))  # type: ignore[arg-type]
    await Later(database).all()
    assert await database.rows(whole.format("_archive")) == before  # type: ignore[arg-type]
    async with database.transaction() as connection:
        found = await store.get(connection, head)
        assert (found.archived, found.state) == (True, "ERROR_E")
        back = await archive.restore(connection, found)
        assert (back.archived, back.state) == (False, "ERROR_E")
        assert await archive.restore(connection, found) == back
    assert await database.rows(whole.format("")) == before  # type: ignore[arg-type]
    assert (await places(database))[1] == []


async def look(api: Api, job: int) -> dict[str, Any]:
    """All that a user sees of a job."""
    paths = [f"/v1/jobs/{job}{rest}" for rest in ("", "/trace", "/events", "/why")]
    return {path: await api.get(path) for path in paths}


async def test_users_find_an_archived_job_as_it_was(grid: Grid) -> None:
    job = int((await jobs.submit(grid.central, 'Executable = "/bin/echo"; OutputFile = {"out"};'))["task"])
    (given,) = await grid.claim()
    await grid.finish(given)
    split = 'Executable = "/bin/echo"; Split = "production:1-3"; JobTag = "old"; MaxFailFraction = 1.0;'
    master = int((await jobs.submit(grid.central, split))["task"])
    await grid.until(master, "SPLIT")
    for _ in range(2):
        (given,) = await grid.claim()
        await grid.finish(given)
    (given,) = await grid.claim()
    await grid.report(given, "STARTED", "RUNNING", "ERROR_E", reason="exited with 1")
    await grid.until(master, "DONE_WARN")
    everything = await jobs.listing(grid.central)
    numbers = [each["id"] for each in everything]
    parts = await jobs.listing(grid.central, master=master)
    assert len(parts) == 3
    before = {number: await look(grid.central, number) for number in numbers}
    await Later(grid.database).all()
    assert await places(grid.database) == ([], sorted(numbers))
    assert {number: await look(grid.central, number) for number in numbers} == before
    live = int((await jobs.submit(grid.central, FAIL))["task"])
    await grid.until(live, "WAITING")

    async def listed(**chosen: Any) -> list[int]:
        return [each["id"] for each in await jobs.listing(grid.central, **chosen)]

    assert await listed() == [live]
    assert await listed(since=3600.0) == [live, *numbers]
    assert (await jobs.listing(grid.central, since=3600.0))[1:] == everything
    assert await listed(archived=True) == [live, *numbers]
    assert await listed(archived=True, master=0) == [live, master, job]
    assert await listed(archived=True, limit=3) == [live, *numbers[:2]]
    assert await listed(archived=True, tag="old") == [each for each in [live, *numbers] if each != job]
    assert await listed(archived=True, owner="bob") == []
    assert await listed(since=3600.0, state="ERROR_E,WAITING") == [live, given.task]
    assert await listed(since=3600.0, state="WAITING") == [live]
    assert await jobs.listing(grid.central, master=master) == parts
    await grid.rows("UPDATE grid.archive_part SET cut = now() - interval '2 hours'")
    assert await listed(since=1800.0) == [live]  # no part reaches as far as that: none is looked at
    assert await jobs.kill(grid.central, job) == "DONE"
    assert await jobs.kill(grid.central, master) == "DONE_WARN"
    with pytest.raises(PermanentError, match=f"job {job} is DONE; only one that is WAITING can become HELD"):
        await jobs.hold(grid.central, job)
    with pytest.raises(PermanentError, match=f"job {given.task} is part of {master}, which is DONE_WARN"):
        await jobs.resubmit(grid.central, given.task)
    with pytest.raises(PermanentError, match=f"job {job} is DONE; only a failed"):
        await jobs.resubmit(grid.central, job)
    (late,) = await client.report(grid.vobox, [Report(given.task, given.attempt, "SAVING")])
    assert (late.accepted, late.state) == (False, "ERROR_E")
    assert await client.beat(grid.vobox, [Beat(given.task, given.attempt)]) == [(given.task, given.attempt)]
    assert await places(grid.database) == ([live], sorted(numbers))


async def test_a_resubmitted_job_comes_back_with_its_family_and_runs(grid: Grid) -> None:
    job = int((await jobs.submit(grid.central, FAIL))["task"])
    (given,) = await grid.claim()
    await grid.report(given, "STARTED", "RUNNING", "ERROR_E", reason="exited with 1")
    master = int((await jobs.submit(grid.central, FAIL + 'Split = "production:1-2";'))["task"])
    first, second = await grid.claim(), await grid.claim()
    await grid.finish(first[0])
    await grid.report(second[0], "STARTED", "RUNNING", "ERROR_E", reason="exited with 1")
    await grid.until(master, "ERROR_E")
    await Later(grid.database).all()
    assert (await places(grid.database))[0] == []
    states = await asyncio.gather(
        *(jobs.resubmit(grid.central, job) for _ in range(5)), return_exceptions=True
    )
    assert [each for each in states if isinstance(each, str)] == ["WAITING"]
    assert await jobs.resubmit(grid.central, master) == "SPLITTING"
    for expected in (job, second[0].task):  # what succeeded does not run again
        (given,) = await grid.claim()
        assert (given.task, given.attempt) == (expected, 2)
        await grid.finish(given)
    await grid.until(master, "DONE")
    shown = await jobs.show(grid.central, job)
    assert [each["new"] for each in shown["events"]][-6:] == [
        "WAITING", "ASSIGNED", "STARTED", "RUNNING", "SAVING", "DONE",
    ]  # fmt: skip
    live, gone = await places(grid.database)
    assert (live, gone) == ([job, master, first[0].task, second[0].task], [])
    await recount(grid.database)


async def test_a_filter_with_a_time_reaches_archived_jobs(grid: Grid) -> None:
    old = [int((await jobs.submit(grid.central, FAIL))["task"]) for _ in range(4)]
    for job in old:
        await jobs.kill(grid.central, job)
    await Later(grid.database).all()
    new = int((await jobs.submit(grid.central, FAIL))["task"])
    await jobs.kill(grid.central, new)

    async def resubmitted(**chosen: Any) -> list[int]:
        pages = [page async for page in jobs.each_chosen(grid.central, "resubmit", tag="old", **chosen)]
        return [each["job"] for page in pages for each in page if each["ok"]]

    assert await resubmitted() == [new]
    assert await resubmitted(since=3600.0) == old
    assert (await places(grid.database))[1] == []


async def test_a_request_that_was_repeated_since_is_told(grid: Grid) -> None:
    job = int((await jobs.submit(grid.central, FAIL, request="mine"))["task"])
    await jobs.kill(grid.central, job)
    assert (await jobs.submit(grid.central, FAIL, request="mine"))["task"] == job
    await Later(grid.database).all()
    other = (await jobs.submit(grid.central, FAIL, request="mine"))["task"]
    assert other != job
    with pytest.raises(PermanentError, match=f"job {job} was archived, and its submission was repeated"):
        await jobs.resubmit(grid.central, job)
    assert (await places(grid.database))[1] == [job]


async def test_who_is_locked_is_passed_over_and_one_archives_at_a_time(database: Database) -> None:
    tasks = [await made(database, "KILLED") for _ in range(3)]
    child = await made(database, "KILLED", tasks[2])
    past = Later(database)
    async with database.transaction() as connection:
        await store.get(connection, tasks[0], lock=True)
        await store.get(connection, child, lock=True)
        await asyncio.wait_for(past.all(), 10)
        assert await places(database) == ([tasks[0], tasks[2], child], [tasks[1]])
    async with database.transaction() as connection:
        await connection.execute(ARCHIVE["guard"])
        await past.all()
        assert await places(database) == ([tasks[0], tasks[2], child], [tasks[1]])
    await past.all()
    assert await places(database) == ([], [*tasks, child])


async def test_archiving_while_jobs_are_resubmitted_and_killed(database: Database, url: str) -> None:
    """Two optimizers archive at once what users bring back: each job is in one place at any time, no move is lost."""
    heads = [await made(database, "KILLED") for _ in range(30)]
    tasks = heads + [await made(database, "KILLED", head) for head in heads[::3]]
    manager = Manager(database, {"job": JobKind(Files())})
    service = Jobs(database, manager, Hub(database, []), Files(), DEFAULTS)
    chance, who, counted = random.Random(4), Who("ada"), itertools.count()
    end = time.monotonic() + 8.0

    async def user() -> None:
        while time.monotonic() < end:
            job = chance.choice(heads)
            try:
                if chance.random() < 0.5:
                    await service.resubmit(who, job)
                else:
                    assert await service.kill(who, job) == "KILLED"
            except PermanentError:  # it is in no state for that, or somebody was faster
                continue
            next(counted)

    async def optimizer(own: Database) -> int:
        past, away = Later(own), 0
        await past.cut()
        while time.monotonic() < end:
            away += await past.page()
            past.after = None
        return away

    async def look() -> None:
        both = """SELECT id FROM (SELECT id FROM grid.task UNION ALL SELECT id FROM grid.task_archive) AS task
                   GROUP BY id HAVING count(*) = 1"""
        while time.monotonic() < end:
            assert len(await database.rows(both)) == len(tasks)
            assert await database.rows("SELECT id FROM grid.task_archive WHERE state <> 'KILLED'") == []
            async with database.transaction() as connection:
                assert (await store.get(connection, chance.choice(tasks))).owner == "ada"
                assert await store.events(connection, chance.choice(tasks))

    async with Database(url, size=2) as one, Database(url, size=2) as other:
        found = await asyncio.gather(optimizer(one), optimizer(other), look(), *(user() for _ in range(4)))
    assert next(counted) > 100
    assert found[0] > 20
    assert found[1] > 20
    live, gone = await places(database)
    assert sorted(live + gone) == sorted(tasks)


async def test_one_number_is_looked_up_in_one_partition(database: Database) -> None:
    """And drops what is outdated, makes what a late comer needs, in the order of time."""
    past = Later(database, 0.0, most=5, keep=60 * DAY, after=0.0)
    await asyncio.gather(*(made(database, "KILLED") for _ in range(21)))
    await past.all()
    live, gone = await places(database)
    assert (live, gone) == ([21], list(range(1, 21)))
    parts = await database.rows("SELECT first, until FROM grid.archive_part ORDER BY first")
    assert [(each["first"], each["until"]) for each in parts] == [(1, 6), (6, 11), (11, 16), (16, 21)]
    text = ARCHIVE["anywhere"].replace("%(task)s", "8")
    plan = "\n".join(str(each) for each in await database.rows(f"EXPLAIN {text}"))  # type: ignore[arg-type]
    assert "task_archive_6" in plan
    assert plan.count("task_archive_") == plan.count("task_archive_6")


async def test_who_looks_while_parts_are_made_finds_every_task(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PAGE", 1)
    tasks = [await made(database, "KILLED") for _ in range(40)]
    past = Later(database, 0.0, most=1, after=0.0)  # each task in a part of its own
    await past.cut()
    over = asyncio.Event()

    async def look() -> None:
        while not over.is_set():
            async with database.transaction() as connection:
                for task in tasks[::7]:
                    assert (await store.get(connection, task)).id == task

    async def put_away() -> None:
        await past.page()
        while past.after is not None:
            await past.page()
        over.set()

    await asyncio.gather(put_away(), *(look() for _ in range(8)))
    assert await places(database) == ([], tasks)


async def test_old_parts_are_dropped_and_made_again_for_late_comers(database: Database) -> None:
    first = await made(database, "KILLED")
    past = Later(database, 8.0, keep=60 * DAY)
    await past.all()
    second = await made(database, "KILLED")
    past.days = 16.0
    await past.all()
    assert await places(database) == ([], [first, second])
    async with database.transaction() as connection:
        task = await archive.restore(connection, await store.get(connection, first))
    past.days = 8.0 + 60.1
    await past.drop()  # the part of the first; it is live
    async with database.transaction() as connection:
        assert (await store.get(connection, first)).archived is False
        assert (await store.get(connection, second)).archived is True
    past.days = 8.0 + 59.0
    await past.all()  # its time is not over for this clock: its part is there again
    assert await places(database) == ([], [first, second])
    assert task.id == first
    past.days = 8.0 + 60.1
    await past.all()
    assert await places(database) == ([], [second])
    async with database.transaction() as connection:
        with pytest.raises(NotFound):
            await store.get(connection, first)
    past.days = 16.0 + 60.1
    await past.all()
    assert await places(database) == ([], [])
    left = "SELECT relname FROM pg_class WHERE relname ~ 'archive_[0-9]'"
    assert await database.rows(left) == []
    third = await made(database, "KILLED")
    past.days += 8.0
    await past.all()
    assert await places(database) == ([], [third])


async def test_who_reads_an_old_part_for_long_is_not_waited_for(database: Database) -> None:
    await made(database, "KILLED")
    past = Later(database, 8.0, keep=60 * DAY)
    await past.all()
    past.days = 90.0
    async with database.transaction() as connection:
        await connection.execute("SELECT * FROM grid.task_archive")
        with pytest.raises(TemporaryError):
            await past.drop()
        assert len((await places(database))[1]) == 1
    await past.drop()
    assert await places(database) == ([], [])


async def test_a_big_family_and_many_small_ones_go_in_bounded_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PAGE", 7)
    monkeypatch.setattr(archive, "BATCH", 10)
    for number in range(40):
        head = await made(database, "DONE")
        for _ in range(number % 5):
            await made(database, "DONE", head)
    past, sizes = Later(database), []
    await past.cut()
    while True:
        sizes.append(await past.page())
        if past.after is None:
            break
    live, gone = await places(database)
    assert (live, len(gone)) == ([], 40 + 8 * 10)
    assert max(sizes) < 10 + 5
    assert len(sizes) > 10


async def test_another_kind_and_old_commands(database: Database) -> None:
    task = await made(database, "DONE", kind="transfer")
    past = Archive(database, {"transfer": Ended(frozenset({"DONE"}))}, lambda: time.time() + 8 * DAY)
    async with database.transaction() as connection:
        old = await store.command(connection, await store.get(connection, task), "kill")
        new = await store.command(connection, await store.get(connection, task), "kill")
        await connection.execute(
            "UPDATE grid.command SET made = now() - interval '2 days' WHERE id = %s", (old,)
        )
    while await past.step() != ROUND:
        pass
    assert await places(database) == ([], [task])
    assert [each["id"] for each in await database.rows("SELECT id FROM grid.command")] == [new]


async def test_a_job_that_nobody_has_is_still_unknown(grid: Grid) -> None:
    with pytest.raises(NotFound, match="there is no task 77"):
        await jobs.show(grid.central, 77)
    with pytest.raises(UserError):
        await jobs.listing(grid.central, state="NONSENSE")


async def test_the_tables_are_apart(url: str, database: Database) -> None:
    """Dropping a part takes no lock on the live tables: a claim goes on beside it."""
    await made(database, "KILLED")
    past = Later(database, 8.0, keep=60 * DAY)
    await past.all()
    past.days = 90.0
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE grid.task, grid.task_event IN ACCESS EXCLUSIVE MODE")
        await asyncio.wait_for(past.drop(), 10)
        assert other.execute("SELECT count(*) FROM grid.task_archive").fetchone() == (0,)
