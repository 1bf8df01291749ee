"""Quotas: exact whatever happens at once, refused with what to do, counted by the migration and by older code."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from orchestrator.catalogue import client, facts, store
from orchestrator.catalogue.model import Output, Quota
from orchestrator.errors import GridError, NotAllowed, TemporaryError, UserError
from orchestrator.runtime.sql import Database, migrate

from .conftest import PACKAGE, VO, Central
from .test_catalogue import HOME, MD5, output, storage

COUNTED = """
SELECT coalesce(q.owner, e.owner) AS owner FROM grid.quota q FULL JOIN (
    SELECT owner, count(*) AS files, sum(size) AS bytes FROM grid.entry WHERE guid IS NOT NULL GROUP BY owner) e
  ON e.owner = q.owner
WHERE (q.files, q.bytes) IS DISTINCT FROM (coalesce(e.files, 0), coalesce(e.bytes, 0))
"""


async def test_files_are_counted_and_too_many_refused(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk", "tape")
    async with central.user("ada") as ada, central.user("bob") as bob, central.user("root") as root:
        assert await client.quota(ada) == Quota("ada", 0, 0, None, None)
        one, two = output(f"{HOME}/one", size=100), output(f"{HOME}/d/two", size=50)
        await client.register(ada, one, output(one.lfn, "tape", guid=one.guid, size=100))
        await client.register(ada, two)
        await client.register(ada, two)
        assert await client.quota(ada) == Quota("ada", 2, 150, None, None)
        limited = Quota("ada", 2, 150, 3, 200)
        assert await client.set_quota(root, "ada", 3, 200) == limited
        assert await client.quota(root, "ada") == limited
        asked = {"lfn": f"{HOME}/big", "size": 51, "md5": MD5}
        said = r"quota of ada is used up: .* 201 B where 200 B are allowed; remove files, or ask an admin for `orch"
        with pytest.raises(UserError, match=said) as told:
            await ada.post("/v1/catalogue/write", asked)
        assert told.value.facts["most_files"] == 3
        with pytest.raises(UserError, match=said):
            await client.register(ada, output(f"{HOME}/big", size=51))
        assert await client.find(ada, HOME, "big") == []
        await client.register(ada, output(f"{HOME}/three", size=50))
        with pytest.raises(UserError, match="4 files where 3 are allowed"):
            await client.register(ada, output(f"{HOME}/four", size=0))
        await client.set_quota(root, "ada", 1, None)
        await client.register(ada, two)  # what is there stays, and is harmless to register again
        await ada.post("/v1/catalogue/write", {"lfn": two.lfn, "size": 50, "md5": MD5, "guid": two.guid})
        await client.mv(ada, f"{HOME}/d", f"{HOME}/e")
        assert await client.rm(ada, f"{HOME}/e", recursive=True) == 2
        assert await client.quota(ada) == Quota("ada", 2, 150, 1, None)
        await client.register(bob, output(f"/{VO}/user/b/bob/x"))
        assert await central.rows(COUNTED) == []
        with pytest.raises(NotAllowed, match="their own quota"):
            await client.quota(bob, "ada")
        with pytest.raises(NotAllowed):
            await client.set_quota(bob, "bob", None, None)
        for bad in (-1, "x", 1.5, True, 2**63):
            with pytest.raises(UserError, match="whole number"):
                await client.set_quota(root, "ada", bad, None)  # type: ignore[arg-type]


async def test_nobody_passes_a_limit_beside_another(database: Database) -> None:
    async with database.transaction() as connection:
        await store.ensure_home(connection, VO, "ada", "root")
        await facts.limit(connection, "ada", 20, None)
    refused = 0

    async def write(number: int) -> None:
        nonlocal refused
        for turn in range(5):
            while True:
                try:
                    async with database.transaction() as connection:
                        await store.register(connection, [output(f"{HOME}/{number}-{turn}")], "ada")
                    break
                except UserError:
                    refused += 1
                    break
                except TemporaryError:
                    continue

    await asyncio.gather(*(write(number) for number in range(8)))
    assert refused == 20
    assert (await database.rows("SELECT files FROM grid.quota"))[0]["files"] == 20
    assert await database.rows(COUNTED) == []


@pytest.mark.parametrize("seed", range(3))
async def test_the_count_is_right_whatever_happens_at_once(database: Database, seed: int) -> None:
    users = ("ada", "bob")
    async with database.transaction() as connection:
        for user in users:
            await store.ensure_home(connection, VO, user, "root")
            await facts.limit(connection, user, 25, 150)

    def some(chance: random.Random, user: str) -> str:
        return f"/{VO}/user/{user[0]}/{user}/{chance.randrange(3)}/{chance.randrange(5)}"

    done: Counter[str] = Counter()

    async def live(number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        for _ in range(40):
            try:
                async with database.transaction() as connection:
                    verb, user = (
                        chance.choice(["add", "add", "add", "rm", "rm -r", "mv"]),
                        chance.choice(users),
                    )
                    lfn = some(chance, user)
                    if verb == "add":
                        many = [output(some(chance, user), size=chance.randrange(9)) for _ in range(3)]
                        await store.register(connection, many, user)
                    elif verb == "mv":
                        await store.move(
                            connection, lfn, some(chance, chance.choice(users)), "root", admin=True
                        )
                    else:
                        where = lfn.rpartition("/")[0] if verb == "rm -r" else lfn
                        await store.remove(connection, where, "root", True, verb == "rm -r")
                done[verb] += 1
            except GridError:
                await asyncio.sleep(0)

    await asyncio.gather(*(live(number) for number in range(6)))
    assert min(done[verb] for verb in ("add", "rm", "rm -r", "mv")) > 0, done
    assert await database.rows(COUNTED) == []
    for one in await database.rows("SELECT files, bytes FROM grid.quota"):
        assert (0 <= one["files"] <= 25, 0 <= one["bytes"] <= 150) == (True, True)


VERBS = ["add"] * 5 + ["rm"] * 4 + ["mv"] * 3 + ["rm -r"]
OLD_ADD = """
INSERT INTO grid.entry (path, parent, owner, mode, guid, size, md5, adler32)
VALUES (%(path)s, %(parent)s, %(owner)s, %(mode)s, %(guid)s, %(size)s, %(md5)s, %(adler32)s)
ON CONFLICT (path) DO UPDATE SET path = EXCLUDED.path WHERE grid.entry.guid = EXCLUDED.guid RETURNING path
"""


async def test_the_migration_counts_what_is_there_and_older_code_counts_on(
    server: str, tmp_path: Path
) -> None:
    """A database of the version before, with files; migrated; then written to by statements of that version."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE before")
    component = tmp_path / "catalogue"
    (component / "migrations").mkdir(parents=True)
    for file in (PACKAGE / "catalogue/migrations").glob("000[12]_*.sql"):
        shutil.copy(file, component / "migrations")

    def added(each: Output, owner: str) -> dict[str, object]:
        values = {"path": each.lfn, "parent": "/home", "owner": owner, "mode": 420, "guid": each.guid}
        return values | {"size": each.size, "md5": MD5, "adler32": ""}

    async with Database(server.replace("/grid?", "/before?")) as database:
        await migrate(database, [component])
        directory = "INSERT INTO grid.entry (path, parent, owner, mode) VALUES ('', NULL, 'root', 493), ('/home', '', 'root', 493)"
        await database.rows(directory)
        for number in range(5):
            await database.rows(
                OLD_ADD, **added(output(f"/home/{number}", size=10), "ada" if number else "bob")
            )
        done = await migrate(database, [PACKAGE / "catalogue"])
        assert "catalogue/0005_quota.sql" in done
        told = "SELECT owner, files, bytes FROM grid.quota ORDER BY owner"
        assert [tuple(one.values()) for one in await database.rows(told)] == [("ada", 4, 40), ("bob", 1, 10)]
        more = added(output("/home/more", size=7), "ada")
        assert await database.rows(OLD_ADD, **more)
        assert await database.rows(OLD_ADD, **more)
        await database.rows("DELETE FROM grid.entry WHERE path = '/home/1'")
        assert [tuple(one.values()) for one in await database.rows(told)] == [("ada", 4, 37), ("bob", 1, 10)]
        assert await database.rows(COUNTED) == []
