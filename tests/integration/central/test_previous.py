"""The version before still talks to a migrated central: its VO box and agents, its central's processes, its statements.

``tests/data/previous.tar.xz`` is that version as it was: what central and a VO box run, of commit a3ee317, the last
one before the second half of the task queue (nine migrations are newer). At each release it is made anew:

    git archive TAG orchestrator templates/batch | xz -9e > tests/data/previous.tar.xz

What is shown: with this one's migrations, real processes of that version do their work, beside processes of this
version and without them. What is not: versions that are older still, and calls that only people's clients make.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import psycopg
import pytest

from orchestrator.catalogue import client as catalogue
from orchestrator.errors import TemporaryError
from orchestrator.jobs import client as jobs
from orchestrator.operations import maintenance
from orchestrator.runtime.sql import Database, Queries, migrate
from orchestrator.wiring.central import COMPONENTS
from tests.support.central import ECHO, WAITS, Central, VoBox, new_database
from tests.support.until import until

DATA = Path(__file__).parents[2] / "data/previous.tar.xz"
OLD = ("auth", "catalogue", "tasks", "jobs", "software")


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the code of the version before is."""
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(DATA) as packed:
        packed.extractall(folder, filter="data")
    return folder


def test_it_is_another_version(previous: Path) -> None:
    """The processes below run that code, not this."""
    show = [sys.executable, "-c", "import orchestrator.tasks.store as it; print(it.__file__)"]
    process = subprocess.run(
        show, env={"PYTHONPATH": str(previous)}, cwd="/", capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == str(previous / "orchestrator/tasks/store.py")
    known = {
        f"{part}/{file.name}"
        for part in OLD
        for file in (previous / "orchestrator" / part).glob("migrations/*")
    }
    now = {f"{part.name}/{file.name}" for part in COMPONENTS for file in part.glob("migrations/*.sql")}
    assert known < now
    assert len(now - known) >= 9


@pytest.mark.timeout(180)
async def test_a_vo_box_and_its_agents_go_on_through_an_upgrade_of_central(
    machine: Central, box: VoBox, previous: Path, tmp_path: Path
) -> None:
    machine.start("central-1", "broker-1", "optimizer-1", code=previous)
    await machine.ready()
    box.start("clustermonitor", "se", "ce", code=previous)

    async with machine.api("ada", patience=20) as ada:

        async def done(number: int, *states: str) -> None:
            try:
                await until(lambda: machine.state(number) in (states or ("DONE",)), 40)
            except AssertionError:
                told = machine.rows("SELECT state, reason FROM grid.task WHERE id = %s", number)
                raise AssertionError(f"job {number}: {told}\n{machine.log()}\n{box.log()}") from None

        go = tmp_path / "go"
        through = int((await jobs.submit(ada, WAITS.format(file=go)))["task"])
        await done(through, "RUNNING")
        await done(int((await jobs.submit(ada, ECHO))["task"]))

        # Beside each other, on one database and behind one address.
        machine.start("central-2", "broker-2", "optimizer-2")
        (newest,) = [
            f"{part.name}/{max(file.name for file in part.glob('migrations/*.sql'))}"
            for part in COMPONENTS
            if part.name == "transfers"
        ]
        await until(lambda: machine.rows("SELECT 1 FROM grid.migration WHERE name = %s", newest))
        for _ in range(4):
            await done(int((await jobs.submit(ada, ECHO))["task"]))

        machine.stop("central-1", "broker-1", "optimizer-1")
        await machine.ready()
        number = int((await jobs.submit(ada, ECHO))["task"])
        await done(number)
        output = (await jobs.show(ada, number))["outputs"][0]["lfn"]
        await catalogue.get(ada, output, tmp_path / "stdout")
        assert (tmp_path / "stdout").read_text() == "hello\n"
        killed = int((await jobs.submit(ada, WAITS.format(file=tmp_path / "never")))["task"])
        await done(killed, "RUNNING")
        await jobs.kill(ada, killed)
        go.touch()
        await done(through)
        attempts = machine.rows("SELECT DISTINCT attempt FROM grid.task")
        assert attempts == [(1,)], "nothing had to run twice"
        await done(int((await jobs.submit(ada, ECHO))["task"]))  # in the slot of the one that was killed


@pytest.mark.timeout(180)
async def test_processes_of_the_version_before_serve_a_migrated_database(
    machine: Central, database: Database, previous: Path
) -> None:
    """The life of jobs by them alone, as long as an upgrade has not come to them."""
    assert await database.rows("SELECT 1 FROM grid.migration WHERE name LIKE 'transfers/%%'")
    machine.start("central-1", "broker-1", "optimizer-1", code=previous)
    await machine.ready()
    async with machine.api("ada") as ada:

        async def waiting(text: str, *states: str) -> int:
            number = int((await jobs.submit(ada, text))["task"])
            await until(lambda: machine.state(number) in (states or ("WAITING",)))
            return number

        number = await waiting(ECHO)
        (job,) = await machine.claim()
        assert (job.task, job.attempt) == (number, 1)
        assert [
            each.accepted for each in await machine.report(job, "STARTED", "RUNNING", "SAVING", "DONE")
        ] == [True] * 4
        shown = await jobs.show(ada, number)
        assert (shown["state"], [each["new"] for each in shown["events"]][-1]) == ("DONE", "DONE")
        lfn = shown["outputs"][0]["lfn"]
        assert (await catalogue.stat(ada, lfn)).size == 3
        assert (await ada.get("/v1/catalogue/whereis", path=lfn)) is not None
        quota = await database.rows("SELECT files FROM grid.quota WHERE owner = 'ada'")
        assert quota == [{"files": 1}], "what this version counts, it counts for that one too"
        await catalogue.rm(ada, lfn)
        assert await database.rows("SELECT files FROM grid.quota WHERE owner = 'ada'") == [{"files": 0}]

        failing = await waiting(ECHO)
        (job,) = await machine.claim()
        await machine.report(job, "STARTED", "RUNNING", "ERROR_E")
        await jobs.resubmit(ada, failing)
        await until(lambda: machine.state(failing) == "WAITING")
        (job,) = await machine.claim()
        assert (job.task, job.attempt) == (failing, 2)
        assert [each.accepted for each in await machine.report(job, "WAITING")] == [True]
        await jobs.kill(ada, failing)
        assert (await jobs.why(ada, failing))["state"] == "KILLED"

        master = await waiting(ECHO + 'Split = "production:1-3";\n', "SPLIT")
        for _ in range(3):
            (job,) = await machine.claim()
            await machine.report(job, "STARTED", "RUNNING", "SAVING", "DONE")
        await until(lambda: machine.state(master) == "DONE")
        assert machine.rows("SELECT count(*) FROM grid.class_now WHERE waiting <> 0") == [(0,)]

    # A mode that did not exist then holds for them, too, and they know what to answer: 503, try again.
    await maintenance.begin(database, "an upgrade", "root")
    async with machine.api("ada", patience=0) as ada:
        with pytest.raises(TemporaryError, match="read-only for maintenance: an upgrade"):
            await jobs.submit(ada, ECHO)
        assert (await jobs.show(ada, number))["state"] == "DONE"


Meaning = dict[str, tuple[tuple[int, ...], dict[str, int]]]


def numbered(statement: str) -> str:
    """A statement of ours in PostgreSQL's own spelling: $1 for the first name of a value, $2 for the second."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement)))
    return re.sub(r"%\((\w+)\)s", lambda hit: f"${names.index(hit[1]) + 1}", statement).replace("%%", "%")


def meanings(url: str, folder: Path) -> Meaning:
    """Each statement of that version as the database understands it: types of its values, names and types of its columns."""
    found: Meaning = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for part in OLD:
            file = folder / "orchestrator" / part / "queries.sql"
            for name, statement in Queries(file)._statements.items():
                text = numbered(statement)
                key = f"{part}_{name}".encode()
                if connection.pgconn.prepare(key, text.encode()).status != psycopg.pq.ExecStatus.COMMAND_OK:
                    continue
                told = connection.pgconn.describe_prepared(key)
                columns = {told.fname(i).decode(): told.ftype(i) for i in range(told.nfields)}  # type: ignore[union-attr]
                found[f"{part}: {name}"] = tuple(told.param_type(i) for i in range(told.nparams)), columns
    return found


def changed(before: Meaning, now: Meaning) -> list[str]:
    """Statements that are none any more, or whose values or columns are others (more columns are none the worse)."""
    return sorted(
        name
        for name, (values, columns) in before.items()
        if name not in now or values != now[name][0] or not columns.items() <= now[name][1].items()
    )


async def test_every_statement_of_the_version_before_means_the_same(
    server: str, url: str, database: Database, previous: Path
) -> None:
    old = new_database(server, "previous_schema")
    async with Database(old, size=1) as empty:
        await migrate(empty, [previous / "orchestrator" / part for part in OLD])
    before = meanings(old, previous)
    statements = sum(
        len(Queries(previous / "orchestrator" / part / "queries.sql")._statements) for part in OLD
    )
    assert len(before) >= 0.9 * statements > 50, "the others need values to be understood"
    assert changed(before, meanings(url, previous)) == []

    # And it would be seen: each of these is a migration that must not be.
    for broken in (
        "ALTER TABLE grid.task RENAME COLUMN claim TO claimed_by",
        "ALTER TABLE grid.entry ALTER COLUMN size TYPE numeric",
        "ALTER TABLE grid.person DROP COLUMN disabled",
        "DROP TABLE grid.command",
    ):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA grid CASCADE")
        await database.pool.check()
        await migrate(database, COMPONENTS)
        await database.rows(broken)  # type: ignore[arg-type]
        assert changed(before, meanings(url, previous)), broken
