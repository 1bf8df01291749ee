"""Central read-only: nobody writes, everybody reads, nothing is lost and everything goes on after."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from orchestrator.errors import TemporaryError
from orchestrator.jobs import client as jobs
from orchestrator.operations import client, maintenance
from orchestrator.runtime.http import tls_context
from orchestrator.runtime.sql import Database, ReadOnly, migrate
from orchestrator.tasks import client as tasks
from orchestrator.tasks.model import Beat, Report
from orchestrator.wiring.central import COMPONENTS
from tests.support.central import AD, ECHO, WAITS, Central, VoBox
from tests.support.until import until


async def test_every_process_refuses_writes_and_answers_reads(machine: Central) -> None:
    machine.start("central-1", "central-2", "broker-1", "broker-2", "optimizer-1")
    await machine.ready()
    async with (
        machine.api("root", patience=30) as root, machine.api("ada", patience=0) as ada,
        machine.api("vobox", patience=0) as vobox, machine.api("vobox", "broker", patience=0) as broker,
    ):  # fmt: skip
        running = (await jobs.submit(ada, ECHO))["task"]
        (mine,) = await machine.claim()
        assert mine.task == running
        assert all(each.accepted for each in await machine.report(mine, "STARTED", "RUNNING"))
        waiting = (await jobs.submit(ada, ECHO))["task"]
        await until(lambda: machine.state(waiting) == "WAITING")

        mode = await client.change(root, True, "new disks")
        assert (mode.on, mode.reason, mode.by) == (True, "new disks", "root")
        for _ in range(8):  # of two processes behind one address
            with pytest.raises(TemporaryError, match=r"read-only for maintenance: new disks \(since 20"):
                await jobs.submit(ada, ECHO)
            assert {each["id"] for each in await jobs.listing(ada)} == {running, waiting}
            assert (await jobs.show(ada, running))["state"] == "RUNNING"
            assert (await tasks.claim(broker, AD, wait=0)).tasks == ()
        assert (await tasks.claim(broker, AD, wait=0)).retry_in == 5.0
        assert (await jobs.why(ada, waiting))["state"] == "WAITING"
        assert await ada.get("/v1/catalogue/ls", path="/testvo")
        with pytest.raises(TemporaryError, match="new disks"):
            await tasks.report(vobox, [Report(mine.task, mine.attempt, "SAVING")])
        with pytest.raises(TemporaryError, match="new disks"):
            await tasks.beat(vobox, [Beat(mine.task, mine.attempt)])
        assert _status(machine) == (503, "5")
        await _who_logs_in_may(machine)

        machine.rows(
            "UPDATE grid.task SET deadline = now() - interval '1 hour' WHERE id = %s",
            running,
            maintainer=True,
        )
        machine.rows("UPDATE grid.task SET state = 'INSERTING' WHERE id = %s", waiting, maintainer=True)
        machine.rows("DELETE FROM grid.class_taken", maintainer=True)
        machine.rows("UPDATE grid.task_class SET waiting = 0", maintainer=True)
        machine.rows("SELECT pg_notify('optimize', '')")
        machine.start("central-3")  # one that starts meanwhile
        machine.stop("central-1", "central-2")
        await machine.ready("central")
        assert (await client.look(ada)).on
        assert machine.state(waiting) == "INSERTING"
        assert machine.state(running) == "RUNNING"

        assert not (await client.change(root, False)).on
        assert all(each.accepted for each in await machine.report(mine, "SAVING", "DONE"))
        await until(lambda: machine.state(waiting) == "WAITING")
        (next_one,) = await machine.claim()
        assert next_one.task == waiting
        assert (await jobs.submit(ada, ECHO))["task"] > waiting


def _status(machine: Central) -> tuple[int, str]:
    """Of a submission, without any client of ours."""
    request = urllib.request.Request(
        f"https://127.0.0.1:{machine.ports['central']}/v1/jobs",
        data=b'{"jdl": "Executable = \\"x\\";", "arguments": [], "request": "r"}',
        headers={"Authorization": f"Bearer {machine.user('ada')}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, context=tls_context(machine.authority.ca))
    return refused.value.code, refused.value.headers["Retry-After"]


async def _who_logs_in_may(machine: Central) -> None:
    """Tokens are given out, so that reading goes on for longer than the ones from before hold."""
    from orchestrator.auth.client import certificate_tokens
    from orchestrator.runtime.clock import SystemClock

    pair = machine.authority.user("root", SystemClock().now())
    async with machine.api("root") as plain:
        plain.token = None
        assert await certificate_tokens(plain, pair, "testvo")()


@pytest.mark.timeout(120)
async def test_agents_go_on_and_their_reports_are_kept_until_it_is_over(
    machine: Central, box: VoBox, tmp_path: Path
) -> None:
    """A job that ends meanwhile, in a maintenance of an hour, is done in its first attempt."""
    machine.start("central-1", "broker-1", "optimizer-1")
    await machine.ready()
    box.start("clustermonitor", "se", "ce")
    spool = box.root / "data/spool"
    go = tmp_path / "go"
    async with machine.api("root", patience=20) as root:
        job = int((await jobs.submit(root, WAITS.format(file=go)))["task"])
        await until(lambda: machine.state(job) == "RUNNING", 40)
        await client.change(root, True, "new disks")
        overdue = "UPDATE grid.task SET deadline = now() - interval '1 hour' WHERE id = %s"
        machine.rows(overdue, job, maintainer=True)
        go.touch()
        await until(lambda: list(spool.glob("*.json")), 30)
        assert machine.state(job) == "RUNNING"
        await client.change(root, False)
        await until(lambda: machine.state(job) == "DONE", 40)
        assert not list(spool.glob("*.json"))
        events = (await jobs.show(root, job))["events"]
        assert [each["new"] for each in events][-3:] == ["RUNNING", "SAVING", "DONE"]
        assert {each["attempt"] for each in events} == {1}


async def test_what_was_being_written_is_finished_and_nothing_is_written_after(database: Database) -> None:
    """Ten writers at full speed: when ``begin`` has returned nothing changes any more."""
    await database.rows("CREATE TABLE grid.counter (id int PRIMARY KEY, value bigint NOT NULL)")
    await database.rows("INSERT INTO grid.counter SELECT number, 0 FROM generate_series(0, 9) AS number")
    refused = [0] * 10
    counted = [0] * 10
    stop = asyncio.Event()

    async def writer(number: int) -> None:
        while not stop.is_set():
            try:
                async with database.transaction() as connection:
                    for _ in range(2):  # two statements: one before, one after is no transaction
                        await connection.execute(
                            "UPDATE grid.counter SET value = value + 1 WHERE id = %s", (number,)
                        )
                counted[number] += 2
            except ReadOnly:
                refused[number] += 1
                await asyncio.sleep(0.01)

    async with Database(database.url, size=2) as admin:
        writers = [asyncio.create_task(writer(number)) for number in range(10)]
        await until(lambda: min(counted) > 4)
        await maintenance.begin(admin, "a test", "root")
        (before,) = await admin.rows("SELECT sum(value) AS sum FROM grid.counter")
        await until(lambda: min(refused) > 3)
        (after,) = await admin.rows("SELECT sum(value) AS sum FROM grid.counter")
        assert before == after
        assert before["sum"] == sum(counted)
        await maintenance.end(admin)
        seen = list(counted)
        await until(lambda: all(new > old for new, old in zip(counted, seen, strict=True)))
        stop.set()
        await asyncio.gather(*writers)


async def test_a_writer_that_does_not_end_is_waited_for_and_then_left_alone(database: Database) -> None:
    with psycopg.connect(database.url) as slow:
        slow.execute("INSERT INTO grid.distance VALUES ('cern', 'SE', 1)")
        with pytest.raises(TemporaryError, match="somebody writes"):
            await maintenance.begin(database, "a test", "root", patience=0.1)
        assert not (await maintenance.look(database)).on
        slow.commit()
    assert (await maintenance.begin(database, "a test", "root")).on


async def test_it_costs_nothing_when_it_is_off(database: Database) -> None:
    enabled = "SELECT count(*) AS count FROM pg_trigger WHERE tgname = 'read_only' AND tgenabled <> 'D'"
    assert (await database.rows(enabled))[0]["count"] == 0  # type: ignore[arg-type]
    await maintenance.begin(database, "a test", "root")
    assert (await database.rows(enabled))[0]["count"] > 15  # type: ignore[arg-type]
    await maintenance.end(database)
    assert (await database.rows(enabled))[0]["count"] == 0  # type: ignore[arg-type]


async def test_an_upgrade_migrates_meanwhile_and_its_tables_are_guarded_too(
    database: Database, tmp_path: Path
) -> None:
    component = tmp_path / "later"
    (component / "migrations").mkdir(parents=True)
    (component / "migrations/0001_later.sql").write_text(
        "CREATE TABLE grid.later (id int); INSERT INTO grid.later VALUES (1); UPDATE grid.person SET roles = '{user}';"
    )
    await maintenance.begin(database, "an upgrade", "root")
    assert await migrate(database, [*COMPONENTS, component]) == ["later/0001_later.sql"]
    await maintenance.renew(database)
    with pytest.raises(ReadOnly, match="an upgrade"):
        await database.rows("INSERT INTO grid.later VALUES (2)")
    await maintenance.end(database)
    await database.rows("INSERT INTO grid.later VALUES (2)")


async def test_a_changed_table_costs_a_prepared_statement_one_more_try(database: Database) -> None:
    """The column that a migration adds makes ``SELECT *`` another statement: processes that run meanwhile ask again."""
    async with Database(database.url, size=1) as old:
        for _ in range(8):  # psycopg prepares what comes often
            await old.rows("SELECT * FROM grid.task")
        await database.rows("ALTER TABLE grid.task ADD COLUMN extra integer")
        with pytest.raises(TemporaryError, match="has just been changed"):
            await old.rows("SELECT * FROM grid.task")
        assert await old.rows("SELECT * FROM grid.task") == []
