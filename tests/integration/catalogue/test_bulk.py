"""Many LFNs at once, and what their storage elements are to a site."""

from __future__ import annotations

import uuid
from pathlib import Path

import psycopg
import pytest

from orchestrator.catalogue import bulk, client, facts, store
from orchestrator.catalogue.model import MOST, Placed
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.runtime.sql import Database

from .conftest import VO, Central
from .test_catalogue import HOME, MD5, output, storage

EMPTY = f"/{VO}/user/a/ada/none"


async def test_lookup_by_the_spelling_that_was_asked_for(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk", "tape")
    async with central.user("ada") as ada, central.plain() as nobody:
        two, one = output(f"{HOME}/d/two", "tape"), output(f"{HOME}/one")
        await client.register(ada, two, output(two.lfn, "disk", guid=two.guid))
        await client.register(ada, one)
        asked = [two.lfn, f"{HOME}//d/./two/", one.lfn, f"{HOME}/d", EMPTY, "/proc", "/"]
        found = await client.lookup(ada, asked)
        placed = Placed(two.lfn, two.guid, 5, MD5, ("disk", "tape"))
        assert found == {
            two.lfn: placed,
            asked[1]: placed,
            one.lfn: Placed(one.lfn, one.guid, 5, MD5, ("disk",)),
        }
        assert await client.lookup(ada, []) == {}
        with pytest.raises(UserError, match="not absolute"):
            await client.lookup(ada, ["relative"])
        for bad in ({}, {"lfns": "x"}, {"lfns": [1]}, {"lfns": ["/x"] * (MOST + 1)}):
            with pytest.raises(UserError):
                await ada.post("/v1/catalogue/lookup", bad)
        with pytest.raises(NotAllowed):
            await nobody.post("/v1/catalogue/lookup", {"lfns": []})
        many = [f"{HOME}/x{number}" for number in range(MOST)] + [one.lfn]
        assert list(await client.lookup(ada, many)) == [one.lfn]


async def test_a_file_without_a_copy_is_a_file(database: Database) -> None:
    async with database.transaction() as connection:
        await store.ensure_home(connection, VO, "ada", "root")
        await store.register(connection, [output(f"{HOME}/x")], "ada")
        await connection.execute("DELETE FROM grid.replica")
        assert (await bulk.lookup(connection, [f"{HOME}/x"]))[f"{HOME}/x"].ses == ()


def fill(url: str, directories: int, files: int) -> None:
    """So many directories /big/D with so many files each, by COPY."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY grid.entry (path, parent, owner, mode, guid, size) FROM STDIN") as copy:
            copy.write_row(("/big", "", "root", 493, None, 0))
            for number in range(directories):
                copy.write_row((f"/big/{number}", "/big", "root", 493, None, 0))
                for name in range(files):
                    row = (f"/big/{number}/{name}", f"/big/{number}", "root", 420, uuid.uuid4(), 1)
                    copy.write_row(row)
        cursor.execute(
            "INSERT INTO grid.replica SELECT guid, 'disk', '' FROM grid.entry WHERE guid IS NOT NULL"
        )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE grid.entry, grid.replica")


async def test_a_lookup_never_reads_a_whole_table(database: Database) -> None:
    fill(database.url, 20, 1000)
    lfns = [f"/big/{number % 20}/{number}" for number in range(2000)]
    async with database.transaction() as connection:
        found = await bulk.lookup(connection, lfns)
        assert len(found) == 1000
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor = await connection.execute(f"EXPLAIN {store.QUERIES['lookup']}", {"paths": lfns[:2]})  # type: ignore[arg-type]
        plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())
        assert "Seq Scan" not in plan, plan
        assert "entry_pkey" in plan
        assert "replica_pkey" in plan


async def test_all_pages_of_a_find(central: Central, database: Database) -> None:
    fill(database.url, 3, 10)
    async with central.user("ada") as ada:
        found = [entry.path for entry in await client.find(ada, "/big", "*", page=7)]
        assert found == sorted(f"/big/{number}/{name}" for number in range(3) for name in range(10))
        assert len(await client.find(ada, "/big", "1", page=3)) == 3
        assert len(await client.find(ada, "/big/2", "*", page=10)) == 10


async def test_a_search_that_takes_too_long_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database.url, 10, 3000)
    monkeypatch.setattr(store, "LONGEST_SEARCH", 0.001)
    with pytest.raises(UserError, match=r"below / took longer than 0\.001 s; name a directory"):
        async with database.transaction() as connection:
            await store.find(connection, "/", "*" + "?*" * 30 + "x", 10)


async def test_the_closest_living_storage_element_with_most_room(central: Central, tmp_path: Path) -> None:
    """here: a (most room) and b; there: far and near; near is silent at first."""
    for site, name, free in (
        ("here", "a", 900),
        ("here", "b", 100),
        ("there", "far", 5000),
        ("there", "near", 800),
    ):
        root = tmp_path / name
        central.machine(root, "127.0.0.1", site=site)
        async with central.host(root) as box:
            told = {"name": name, "site": site, "url": f"https://127.0.0.1:1/{name}", "free": free}
            await box.post("/v1/catalogue/storage", told)
    async with central.user("ada") as ada, central.user("root") as root_user:

        async def order(site: str) -> list[str]:
            asked = {"lfn": f"{HOME}/new", "size": 10, "md5": MD5, "copies": 4, "site": site}
            return [each["se"] for each in (await ada.post("/v1/catalogue/write", asked))["writes"]]

        async def close(site: str, within: float) -> list[str]:
            async with central.database.transaction() as connection:
                return await facts.close_ses(connection, site, within)

        assert await order("here") == ["a", "b", "far", "near"]
        assert await order("there") == ["far", "near", "a", "b"]
        assert await order("nowhere") == ["far", "a", "near", "b"]
        await client.set_distance(root_user, "here", "near", 0.5)
        await client.set_distance(root_user, "here", "a", 2)
        await client.set_distance(root_user, "here", "a", 3)
        assert await order("here") == ["b", "near", "far", "a"]
        assert await close("here", 0.0) == ["b"]
        assert await close("here", 0.5) == ["b", "near"]
        assert await close("there", 0.0) == ["far", "near"]
        assert await close("nowhere", 0.9) == []
        shown = await client.distances(ada, "here")
        assert [(each["se"], each["distance"]) for each in shown] == [
            ("b", 0),
            ("near", 0.5),
            ("far", 1),
            ("a", 3),
        ]

        file = output(f"{HOME}/x", "a")
        await client.register(
            ada, file, *(output(file.lfn, se, guid=file.guid) for se in ("near", "far", "b"))
        )

        async def reads(site: str) -> list[str]:
            told = await ada.post("/v1/catalogue/read", {"lfn": file.lfn, "site": site})
            return [each["se"] for each in told["reads"]]

        assert await reads("here") == ["b", "near", "far", "a"]
        await central.rows(
            "UPDATE grid.storage_element SET seen = now() - interval '1 hour' WHERE name = 'b'"
        )
        assert await reads("here") == ["near", "far", "a", "b"]
        assert [each["alive"] for each in await client.distances(ada, "here")] == [False, True, True, True]
        await client.set_distance(root_user, "here", "a", None)
        assert await reads("here") == ["a", "near", "far", "b"]
        with pytest.raises(NotFound, match="no storage element none"):
            await client.set_distance(root_user, "here", "none", 1)
        for bad in (-1, 1001, "x", True):
            with pytest.raises(UserError, match="a distance is a number"):
                await client.set_distance(root_user, "here", "a", bad)  # type: ignore[arg-type]
        with pytest.raises(NotAllowed):
            await client.set_distance(ada, "here", "a", 0)
