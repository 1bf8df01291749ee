"""The tree over HTTP: homes, directories, permissions, files with copies, and races of two writers."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalogue import client, store
from orchestrator.catalogue.model import Output
from orchestrator.errors import NotAllowed, NotFound, TemporaryError, UserError
from orchestrator.runtime.http import Api
from orchestrator.runtime.sql import Database, migrate

from .conftest import PACKAGE, VO, Central

HOME = f"/{VO}/user/a/ada"
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def output(lfn: str, se: str = "disk", **more: Any) -> Output:
    facts = {"guid": str(uuid.uuid4()), "size": 5, "md5": MD5, "adler32": "00000001", "pfn": "/x"} | more
    return Output(lfn=lfn, se=se, **facts)


async def storage(central: Central, tmp_path: Path, *names: str, free: int = 1 << 40) -> None:
    root = central.machine(tmp_path / "box", "127.0.0.1")
    async with central.host(root) as box:
        for name in names:
            told = {"name": name, "site": "here", "url": f"https://127.0.0.1:1/{name}", "free": free}
            await box.post("/v1/catalogue/storage", told)


async def names(api: Api, path: str) -> list[str]:
    return [entry.path for entry in await client.ls(api, path)]


async def test_the_top_and_a_home_that_is_made_when_first_used(central: Central) -> None:
    async with central.user("ada") as ada:
        assert await names(ada, "/") == ["/proc", f"/{VO}"]
        assert await names(ada, f"/{VO}/") == [f"/{VO}/user"]
        assert await names(ada, HOME) == []
        assert (await client.stat(ada, HOME)).owner == "ada"
        assert (await client.stat(ada, "/")).is_directory
        with pytest.raises(NotFound):
            await names(ada, f"/{VO}/user/b/bob")
        with pytest.raises(NotFound):
            await client.find(ada, f"{HOME}/none", "*")


async def test_directories_belong_to_who_made_them(central: Central) -> None:
    async with central.user("ada") as ada, central.user("bob") as bob, central.user("root") as root:
        await client.mkdir(ada, f"{HOME}/a/b//c/")
        await client.mkdir(ada, f"{HOME}/a/b/c")
        assert await names(ada, f"{HOME}/a") == [f"{HOME}/a/b"]
        for path in (f"{HOME}/a/mine", f"/{VO}/new", "/new", f"/{VO}/user/b/mine"):
            with pytest.raises(NotAllowed):
                await client.mkdir(bob, path)
        for path in (HOME, f"/{VO}/user", f"/{VO}", "/"):
            with pytest.raises(NotAllowed):
                await client.rm(ada, path, recursive=True)
        with pytest.raises(NotAllowed):
            await client.rm(bob, f"{HOME}/a", recursive=True)
        with pytest.raises(NotAllowed):
            await client.mv(bob, f"{HOME}/a", f"/{VO}/user/b/bob/a")
        await client.mkdir(root, f"/{VO}/shared")
        await client.mkdir(root, "/top")
        assert await client.rm(root, f"{HOME}/a", recursive=True) == 3


async def test_bad_names_are_told(central: Central) -> None:
    async with central.user("ada") as ada:
        for path in ("relative", f"{HOME}/../x", f"{HOME}/\n", "/" + "x" * 2000):
            with pytest.raises(UserError, match="LFN"):
                await client.mkdir(ada, path)


async def test_register_again_is_harmless_and_other_content_is_refused(
    central: Central, tmp_path: Path
) -> None:
    await storage(central, tmp_path, "disk")
    async with central.user("ada") as ada, central.user("bob") as bob:
        first = output(f"{HOME}/results/out")
        await client.register(ada, first)
        await client.register(ada, first)
        await client.register(ada, first, output(first.lfn, "tape", guid=first.guid))
        assert await client.find(ada, "/", "o?t") == [await client.stat(ada, first.lfn)]
        with pytest.raises(UserError, match="other content"):
            await client.register(ada, output(first.lfn))
        with pytest.raises(UserError, match="other content"):
            await client.register(bob, output(f"/{VO}/user/b/bob/x", guid=first.guid, size=6))
        with pytest.raises(UserError, match="is a file"):
            await client.mkdir(ada, f"{first.lfn}/below")
        with pytest.raises(NotAllowed):
            await client.register(bob, output(f"{HOME}/results/more"))
        assert [copy["se"] for copy in await client.whereis(ada, first.lfn)] == ["disk"]


async def test_nobody_can_name_the_copy_of_another_file(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk")
    async with central.user("ada") as ada, central.user("bob") as bob:
        victim = output(f"{HOME}/precious")
        await client.register(ada, victim)
        mine = output(f"/{VO}/user/b/bob/x", pfn=f"/{victim.guid[:2]}/{victim.guid}")
        await client.register(bob, mine)
        await client.rm(bob, mine.lfn)
        doomed = await central.rows("SELECT pfn FROM grid.removal")
        assert [row["pfn"] for row in doomed] == [f"/{mine.guid[:2]}/{mine.guid}"]


async def test_remove_and_the_list_of_copies_to_delete(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk")
    root = tmp_path / "box"
    async with central.user("ada") as ada, central.host(root) as box:
        one, two = output(f"{HOME}/d/one"), output(f"{HOME}/d/e/two")
        alias = output(f"{HOME}/alias", guid=one.guid)
        for each in (one, two, alias):
            await client.register(ada, each)
        with pytest.raises(UserError, match="not empty"):
            await client.rm(ada, f"{HOME}/d")
        assert await client.rm(ada, f"{HOME}/d", recursive=True) == 4
        due = (await box.get("/v1/catalogue/removals", se="disk"))["pfns"]
        assert due == [f"/{two.guid[:2]}/{two.guid}"]  # the other file has another name still
        with pytest.raises(UserError, match="being deleted"):
            await client.register(ada, two)
        await box.post("/v1/catalogue/removed", {"se": "disk", "pfns": due})
        assert (await box.get("/v1/catalogue/removals", se="disk"))["pfns"] == []
        with pytest.raises(NotAllowed):
            await ada.get("/v1/catalogue/removals", se="disk")


async def test_move(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk")
    async with central.user("ada") as ada:
        await client.register(ada, output(f"{HOME}/d/e/f"))
        await client.mkdir(ada, f"{HOME}/d2")
        await client.mv(ada, f"{HOME}/d", f"{HOME}/new/place")
        assert await names(ada, HOME) == [f"{HOME}/d2", f"{HOME}/new"]
        assert await names(ada, f"{HOME}/new/place/e") == [f"{HOME}/new/place/e/f"]
        with pytest.raises(UserError, match="inside"):
            await client.mv(ada, f"{HOME}/new", f"{HOME}/new/place/x")
        with pytest.raises(UserError, match="exists"):
            await client.mv(ada, f"{HOME}/new", f"{HOME}/d2")
        with pytest.raises(NotFound):
            await client.mv(ada, f"{HOME}/none", f"{HOME}/some")


async def test_write_names_one_or_more_storage_elements(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "a", "b")
    await storage(central, tmp_path, "small", free=10)
    with pytest.raises(TemporaryError, match="room"):
        async with central.user("ada") as ada:
            await ada.post("/v1/catalogue/write", {"lfn": f"{HOME}/big", "size": 1 << 50, "md5": MD5})
    async with central.user("ada") as ada:

        async def write(**more: Any) -> tuple[str, list[str]]:
            asked = {"lfn": f"{HOME}/new", "size": 100, "md5": MD5} | more
            told = await ada.post("/v1/catalogue/write", asked)
            return told["guid"], [each["se"] for each in told["writes"]]

        assert (await write())[1] == ["a"]
        assert (await write(se="b"))[1] == ["b"]
        assert (await write(se=["b", "a"]))[1] == ["b", "a"]
        assert (await write(copies=5, se="b"))[1] == ["b", "a"]
        with pytest.raises(UserError, match="room"):
            await write(se="small")
        with pytest.raises(UserError, match="room"):
            await write(se="none")
        for bad in (
            {"size": -1},
            {"size": "x"},
            {"md5": "no"},
            {"guid": "no"},
            {"lfn": "x"},
            {"copies": 1.5},
        ):
            with pytest.raises(UserError):
                await write(**bad)
        first = output(f"{HOME}/new", "a", size=100)
        await client.register(ada, first)
        with pytest.raises(UserError, match="exists"):
            await write()
        assert await write(guid=first.guid, copies=2) == (first.guid, ["b"])
        with pytest.raises(UserError, match="other content"):
            await write(guid=first.guid, size=99)


async def test_an_upload_that_is_never_registered_is_to_be_deleted(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk")
    async with central.user("ada") as ada, central.host(tmp_path / "box") as box:
        asked = {"lfn": f"{HOME}/new", "size": 5, "md5": MD5}
        kept, lost = [await ada.post("/v1/catalogue/write", asked) for _ in range(2)]
        await client.register(ada, output(f"{HOME}/new", guid=kept["guid"]))
        assert (await box.get("/v1/catalogue/removals", se="disk"))["pfns"] == []
        await central.rows("UPDATE grid.removal SET at = at - interval '7 days'")
        assert (await box.get("/v1/catalogue/removals", se="disk"))["pfns"] == [lost["writes"][0]["pfn"]]


async def test_a_storage_element_of_another_site_keeps_its_name(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk")
    async with central.host(tmp_path / "box") as box:
        told = {"name": "disk", "site": "there", "url": "https://127.0.0.1:2/disk", "free": 1}
        with pytest.raises(NotAllowed, match="of site here, not of there"):
            await box.post("/v1/catalogue/storage", told)
    other = central.machine(tmp_path / "box2", "127.0.0.1", site="there")
    async with central.host(other) as box:
        with pytest.raises(UserError, match="another site"):
            await box.post("/v1/catalogue/storage", told)
    async with central.user("ada") as ada:
        with pytest.raises(NotAllowed):
            await ada.post("/v1/catalogue/storage", {**told, "site": "here"})


async def test_two_who_register_and_remove_at_once_leave_no_orphan(
    central: Central, database: Database
) -> None:
    async with database.transaction() as connection:
        await store.ensure_home(connection, VO, "ada", "root")

    async def write(number: int) -> None:
        for turn in range(10):
            async with database.transaction() as connection:
                await store.register(connection, [output(f"{HOME}/d/{number}-{turn}")], "ada")

    async def clear() -> None:
        for _ in range(20):
            try:
                async with database.transaction() as connection:
                    await store.remove(connection, f"{HOME}/d", "ada", recursive=True)
            except (NotFound, TemporaryError):
                await asyncio.sleep(0)

    async def patient(number: int) -> None:
        while True:
            try:
                return await write(number)
            except (NotFound, TemporaryError, UserError):
                await asyncio.sleep(0)

    await asyncio.gather(patient(1), patient(2), clear())
    orphans = await central.rows(
        """SELECT path FROM grid.entry e WHERE path <> ''
             AND NOT EXISTS (SELECT 1 FROM grid.entry d WHERE d.path = e.parent AND d.guid IS NULL)"""
    )
    assert orphans == []


async def test_migrations_apply_once(database: Database) -> None:
    assert await migrate(database, [PACKAGE / "auth", PACKAGE / "catalogue"]) == []
