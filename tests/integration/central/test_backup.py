"""A backup holds all of one moment; a restore is all or nothing, and refuses what does not belong there."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.errors import TemporaryError, UserError
from orchestrator.operations import backup, maintenance, restore, store
from orchestrator.operations.backup import Reader
from orchestrator.operations.model import first_attempt, next_number
from orchestrator.runtime.sql import Database, migrate, rows
from orchestrator.wiring.central import COMPONENTS
from tests.support.central import VO, Central
from tests.support.until import until

NASTY = ["\\.", "a\tb\nc\r\\N", "\\", "", "ü €  \x7f", "\\.\n\\.", '{"rows": {}}', "NULL"]
Content = dict[str, list[str]]


def _silent(_table: str, _rows: int) -> None:
    return None


async def fill(database: Database, tasks: int = 300) -> None:
    """Rows in every kind of column, all of them consistent."""
    async with database.transaction() as connection:
        for number, text in enumerate(NASTY):
            await connection.execute(
                "INSERT INTO grid.submission (owner, request, source, tasks) VALUES (%s, %s, %s, %s)",
                (f"u{number}", text, text, [1, 2]),
            )
            await connection.execute(
                "INSERT INTO grid.package VALUES ('P', %s, 'f', 'p', 1, 2, 's', 'h', %s, now(), 'me')",
                (f"v{number}", text.encode() + b"\0\xff\\"),
            )
        await connection.execute(
            "INSERT INTO grid.entry (path, parent, owner, mode) VALUES ('', NULL, 'a', 1)"
        )
        await connection.execute(
            "INSERT INTO grid.entry (path, parent, owner, mode) VALUES ('/d', '', 'a', 1)"
        )
        await connection.execute(
            """INSERT INTO grid.entry (path, parent, owner, mode, guid, size, tags)
               SELECT '/d/' || n, '/d', 'a', 1, gen_random_uuid(), n, jsonb_build_object('text', %s::text, 'n', n)
                 FROM generate_series(1, 500) AS n""",
            (NASTY[1],),
        )
        await connection.execute(
            "INSERT INTO grid.replica SELECT guid, 'SE', path FROM grid.entry WHERE guid IS NOT NULL"
        )
        await connection.execute("INSERT INTO grid.person VALUES ('ada', '{user,release}', now(), false)")
        await connection.execute("INSERT INTO grid.spent VALUES ('j', now() + interval '1 hour', '\\x00ff')")
    await work(database, tasks)


async def work(database: Database, tasks: int) -> None:
    """Tasks, each with its events, in a class that counts them: one transaction for each ten."""
    for _ in range(tasks // 10):
        async with database.transaction() as connection:
            await connection.execute(
                """INSERT INTO grid.task_class (kind, owner, digest, ad, waiting) VALUES ('job', 'ada', 'd', '[]', 10)
                   ON CONFLICT (digest, owner, kind, site) DO UPDATE SET waiting = task_class.waiting + 10"""
            )
            await connection.execute(
                """WITH made AS (
                       INSERT INTO grid.task (kind, owner, state, class, spec, seq)
                       SELECT 'job', 'ada', 'WAITING', (SELECT id FROM grid.task_class WHERE digest = 'd'), '{"a": 1}', 2
                         FROM generate_series(1, 10) RETURNING id)
                   INSERT INTO grid.task_event (task, seq, attempt, old, new, actor)
                   SELECT id, seq, 1, '', 'WAITING', 'x' FROM made, generate_series(1, 2) AS seq"""
            )


async def content(url: str) -> Content:
    """Every row of every table, as text."""
    async with Database(url, size=1) as database, database.transaction() as connection:
        names = [each["name"] for each in await rows(connection, store.SQL["tables"])]
        return {
            name: [
                str(each["row"])
                for each in await rows(connection, f"SELECT t::text AS row FROM grid.{name} AS t ORDER BY 1")  # type: ignore[arg-type]
            ]
            for name in names
        }


async def saved(database: Database, vo: str = VO) -> bytes:
    out = io.BytesIO()
    await backup.write(database, vo, "test", out.write, _silent)
    return out.getvalue()


async def put_back(
    database: Database, data: bytes, components: Any = COMPONENTS, vo: str = VO
) -> restore.Restored:
    """Whoever was connected begins anew after it: so does the test's pool."""
    done = await restore.restore(database, Reader(io.BytesIO(data)), vo, components, _silent)
    await database.pool.check()
    return done


async def test_everything_comes_back_as_it_was(database: Database) -> None:
    await fill(database)
    before, data = await content(database.url), await saved(database)
    header, counts = backup.verify(io.BytesIO(data))
    assert (header.vo, header.format) == (VO, "orchestrate central backup")
    assert counts == {name: len(found) for name, found in before.items()}
    await database.rows("DELETE FROM grid.replica")
    await database.rows("DELETE FROM grid.entry WHERE path LIKE '/d/_%%'")
    await work(database, 100)
    done = await put_back(database, data)
    after = await content(database.url)
    assert done.waiting == 300
    for name in before.keys() - {"task", "task_event", "restored", "migration"}:
        assert after[name] == before[name], name
    assert len(after["restored"]) == 1
    assert {each.split(",")[0] for each in after["migration"]} == {
        each.split(",")[0] for each in before["migration"]
    }
    (quota,) = await database.rows("SELECT files, bytes FROM grid.quota")
    assert quota == {"files": 500, "bytes": 500 * 501 // 2}, "triggers did not count again"
    assert not (await maintenance.look(database)).on
    await database.rows("DELETE FROM grid.entry WHERE path = '/d/7'")
    (quota,) = await database.rows("SELECT files FROM grid.quota")
    assert quota == {"files": 499}, "and they count now"
    found = await database.rows("SELECT DISTINCT attempt, max_attempts, seq FROM grid.task")
    assert found == [{"attempt": done.first_attempt, "max_attempts": done.first_attempt + 4, "seq": 3}]
    (event,) = await database.rows("SELECT * FROM grid.task_event WHERE seq = 3 ORDER BY task LIMIT 1")
    assert (event["old"], event["new"], event["actor"], event["attempt"]) == (
        "WAITING",
        "WAITING",
        "restore",
        done.first_attempt,
    )


async def test_it_is_of_one_moment_while_everybody_writes(database: Database) -> None:
    await fill(database, 50)
    writing = [asyncio.create_task(work(database, 400)) for _ in range(3)]
    await until(lambda: _tasks(database.url) > 100)
    data = await saved(database)
    assert not all(each.done() for each in writing), "the backup was too slow to be made meanwhile"
    await asyncio.gather(*writing)
    await put_back(database, data)
    (sums,) = await database.rows(
        """SELECT (SELECT sum(waiting) FROM grid.class_now) AS waiting, (SELECT count(*) FROM grid.task) AS tasks,
                  (SELECT count(*) FROM grid.task_event WHERE actor = 'x') AS events"""
    )
    assert sums["waiting"] == sums["tasks"] == sums["events"] / 2
    assert 100 < sums["tasks"] < 1250


def _tasks(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM grid.task").fetchone()
    assert found is not None
    return int(found[0])


async def test_new_numbers_are_above_all_that_were_given_out(database: Database) -> None:
    await fill(database, 50)
    data = await saved(database)
    await database.rows("SELECT setval('grid.task_id_seq', 70000000)")
    await put_back(database, data)
    for sequence in ("task", "task_class", "command", "submission"):
        (found,) = await database.rows(f"SELECT nextval('grid.{sequence}_id_seq') AS next")  # type: ignore[arg-type]
        assert found["next"] % 1_000_000 == 1
        assert found["next"] > (70_000_000 if sequence == "task" else 1_000_000)
    # Also where the database that gave them out is lost: so many can it not have been since.
    assert next_number(300, 3600.0) > 300 + 3600 * 100_000
    assert next_number(300, -5.0) > 300
    assert first_attempt(5, 86400.0) > 86_405
    assert first_attempt(first_attempt(5, 0.0), 0.0) > first_attempt(5, 0.0)


async def test_what_does_not_belong_there_is_refused_before_anything_is_touched(database: Database) -> None:
    await fill(database, 20)
    data = await saved(database)
    before = await content(database.url)
    lines = gzip.decompress(data).splitlines(keepends=True)

    def changed(**more: Any) -> bytes:
        return gzip.compress(json.dumps(json.loads(lines[0]) | more).encode() + b"\n" + b"".join(lines[1:]))

    header = json.loads(lines[0])
    cases = {
        "no backup of central": b"PK\x03\x04 something else",
        "no backup": gzip.compress(b"hello\n"),
        "backup of VO other": changed(vo="other"),
        "newer version": changed(migrations=[*header["migrations"], "tasks/9999_later.sql"]),
        "has format 2": changed(version=2),
        "first line is damaged": changed(tables=[{"name": "task"}]),
    }
    for told, wrong in cases.items():
        with pytest.raises(UserError, match=told):
            await put_back(database, wrong)
        assert not (await maintenance.look(database)).on
    with pytest.raises(UserError, match="of VO testvo, and this is the central of VO another"):
        await put_back(database, data, vo="another")
    # What is only seen at its end changes nothing either; the verb looks before it begins.
    middle = {
        "cut off": data[: len(data) // 2],
        "not have as many rows": gzip.compress(b"".join(lines[:-1]) + b'{"rows": {}}\n'),
        "something follows": gzip.compress(b"".join(lines) + b"x\n"),
        "table task_class cannot be put there": gzip.compress(
            b"".join(line.replace(b"\t[]\t", b"\tnot\tenough\t") for line in lines)
        ),
    }
    for told, wrong in middle.items():
        if "cannot" not in told:
            with pytest.raises(UserError, match=told):
                backup.verify(io.BytesIO(wrong))
        with pytest.raises(UserError, match=told):
            await put_back(database, wrong)
        assert (await maintenance.look(database)).by == "restore"
        await maintenance.end(database)
    assert await content(database.url) == before
    await put_back(database, data)


async def test_a_mode_that_an_admin_chose_outlives_the_restore(database: Database) -> None:
    await fill(database, 20)
    data = await saved(database)
    await maintenance.begin(database, "new disks", "root")
    data_of_maintenance = await saved(database)
    assert (await put_back(database, data)).read_only
    assert (await maintenance.look(database)).reason == "new disks"
    with pytest.raises(TemporaryError, match="new disks"):
        await work(database, 10)
    await maintenance.end(database)
    assert not (await put_back(database, data_of_maintenance)).read_only
    await work(database, 10)


async def test_a_backup_of_the_version_before_is_migrated(
    url: str, database: Database, tmp_path: Path
) -> None:
    """With its rows: what a migration makes of them is made."""
    for component in COMPONENTS:
        shutil.copytree(component / "migrations", tmp_path / component.name / "migrations")
    older = [tmp_path / component.name for component in COMPONENTS]
    (tmp_path / "catalogue/migrations/0005_quota.sql").unlink()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA grid CASCADE")
    await migrate(database, older)
    await fill(database, 20)
    data = await saved(database)
    done = await put_back(database, data)
    assert done.migrated == ["catalogue/0005_quota.sql"]
    (quota,) = await database.rows("SELECT files FROM grid.quota")
    assert quota["files"] == 500


async def test_partitions_come_back_with_their_rows(database: Database, tmp_path: Path) -> None:
    (tmp_path / "later/migrations").mkdir(parents=True)
    (tmp_path / "later/migrations/0001.sql").write_text(
        "CREATE TABLE grid.parted (id bigint, at date) PARTITION BY RANGE (id);"
        "CREATE TABLE grid.parted_rest PARTITION OF grid.parted DEFAULT;"
    )
    components = [*COMPONENTS, tmp_path / "later"]
    await migrate(database, components)
    await database.rows(
        "CREATE TABLE grid.parted_1 PARTITION OF grid.parted FOR VALUES FROM (0) TO (10) PARTITION BY LIST (at)"
    )
    await database.rows(
        "CREATE TABLE grid.parted_1_a PARTITION OF grid.parted_1 FOR VALUES IN ('2026-11-21')"
    )
    await database.rows("INSERT INTO grid.parted VALUES (1, '2026-11-21'), (99, '2026-11-21')")
    data = await saved(database)
    await database.rows("DROP TABLE grid.parted_1")
    await put_back(database, data, components)
    found = await database.rows(
        "SELECT relname AS part, id FROM grid.parted JOIN pg_class ON oid = parted.tableoid ORDER BY id"
    )
    assert found == [{"part": "parted_1_a", "id": 1}, {"part": "parted_rest", "id": 99}]


async def test_a_backup_and_a_restore_do_not_meet(database: Database) -> None:
    await fill(database, 20)
    data = await saved(database)
    async with database.transaction() as connection:
        await rows(connection, store.SQL["share_with_backups"])
        with pytest.raises(TemporaryError, match="under way"):
            await put_back(database, data)
    async with database.transaction() as connection:
        await rows(connection, store.SQL["exclude_others"])
        with pytest.raises(TemporaryError, match="put back"):
            await saved(database)
        with pytest.raises(TemporaryError, match="put back"):
            await maintenance.end(database)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
async def test_a_restore_that_is_killed_leaves_the_old_state(
    machine: Central, database: Database, share: float
) -> None:
    """SIGKILL at the program, with a part of the backup read; then the same again to its end."""
    await fill(database, 5000)
    data = await saved(database)
    await work(database, 200)
    before = await content(database.url)
    program = subprocess.Popen(machine.command("restore"), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert program.stdin is not None
    program.stdin.write(data[: int(len(data) * share)])
    program.stdin.flush()
    await until(
        lambda: machine.rows(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%%' AND datname = current_database()"
        )
    )
    assert len((await content(database.url))["task"]) == 5200, "everybody reads what was there"
    program.send_signal(signal.SIGKILL)
    program.wait(20)
    program.stdin.close()
    locked = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    await until(lambda: not machine.rows(locked))
    after = await content(database.url)
    assert after.pop("maintenance") != before.pop("maintenance")
    assert after == before
    with pytest.raises(TemporaryError, match="the database is put back from the backup of 20"):
        await work(database, 10)
    done = subprocess.run(machine.command("restore"), input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["done"]["rows"]["task"] == 5000
    assert _tasks(database.url) == 5000
    await database.pool.check()
    await work(database, 10)


async def test_the_programs_stream_and_say_what_is_wrong(
    machine: Central, database: Database, tmp_path: Path
) -> None:
    """What the verbs start: a backup of an empty machine, and errors with their codes."""
    from orchestrator.wiring import operations

    await fill(database, 100)
    file, seen = tmp_path / "central.backup", dict[str, int]()
    file.write_text("an older one")
    made = operations.save(machine.command("backup"), file, seen.__setitem__)
    assert made["rows"]["task"] == 100
    assert seen["task"] == 100
    assert file.stat().st_mode & 0o777 == 0o600
    taken: list[int] = []
    done = operations.put_back(machine.command("restore"), file, seen.__setitem__, taken.append)
    assert done["rows"] == made["rows"]
    assert sum(taken) == file.stat().st_size
    config = json.loads((machine.root / "etc/central.json").read_text())
    (machine.root / "etc/central.json").write_text(json.dumps(config | {"vo": "another"}))
    with pytest.raises(UserError, match="and this is the central of VO another"):
        operations.put_back(machine.command("restore"), file, seen.__setitem__, taken.append)
    before = file.read_bytes()
    (machine.root / "etc/central.json").write_text(
        json.dumps(config | {"database": "postgresql://nobody@127.0.0.1:1/x"})
    )
    with pytest.raises(TemporaryError, match="the database does not answer"):
        operations.save(machine.command("backup"), file, seen.__setitem__)
    assert file.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["central", "central.backup"]
