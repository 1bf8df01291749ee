"""Tags: who may set them, what comes with a move, and that a search finds what Python says it should."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalogue import client, store
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.runtime.sql import Database

from .conftest import VO, Central
from .test_bulk import fill
from .test_catalogue import HOME, output, storage

Tags = Mapping[str, Any]
Test = Callable[[Tags], bool | None]


async def test_tag_untag_and_who_may(central: Central, tmp_path: Path) -> None:
    await storage(central, tmp_path, "disk")
    async with central.user("ada") as ada, central.user("bob") as bob, central.user("root") as root:
        await client.register(ada, output(f"{HOME}/d/x"))
        assert await client.tag(ada, f"{HOME}/d/x", {"run": 7, "pass": "p1"}) == {"run": 7, "pass": "p1"}
        assert await client.tag(root, f"{HOME}/d/x", {"pass": "p2", "ok": True})
        await client.tag(ada, f"{HOME}/d", {"run": 7})
        kept = {"run": 7, "pass": "p2", "ok": True}
        assert (await client.stat(bob, f"{HOME}/d/x")).tags == kept
        assert [entry.tags for entry in await client.ls(bob, f"{HOME}/d")] == [kept]
        for refused in (
            client.tag(bob, f"{HOME}/d/x", {"run": 8}),
            client.untag(bob, f"{HOME}/d/x", ["run"]),
        ):
            with pytest.raises(NotAllowed, match=r"bob may not tag .* belongs to ada"):
                await refused
        await client.mv(ada, f"{HOME}/d", f"{HOME}/e")
        found = await client.find(bob, HOME, "*", "run == 7")
        assert [entry.path for entry in found] == [f"{HOME}/e", f"{HOME}/e/x"]
        assert [e.path for e in await client.find(bob, HOME, "x", "run == 7")] == [f"{HOME}/e/x"]
        assert await client.untag(ada, f"{HOME}/e/x", ["run", "none"]) == {"pass": "p2", "ok": True}
        assert await client.untag(ada, f"{HOME}/e", ["run"]) == {}
        assert (await client.stat(ada, f"{HOME}/e")).tags == {}
        assert await central.rows("SELECT path FROM grid.entry WHERE tags = '{}'") == []
        assert await client.find(ada, HOME, "*", "run == 7") == []


async def test_what_is_no_tag_is_refused_and_changes_nothing(central: Central) -> None:
    async with central.user("ada") as ada:
        await client.mkdir(ada, f"{HOME}/d")
        await client.tag(ada, f"{HOME}/d", {f"t{number}": number for number in range(50)})
        with pytest.raises(UserError, match="would have 51 tags; an entry may have 50"):
            await client.tag(ada, f"{HOME}/d", {"one": 1})
        assert len((await client.stat(ada, f"{HOME}/d")).tags) == 50
        for tags in ({}, {"a b": 1}, {"a": [1]}, {"a": None}, {"a": "x" * 300}):
            with pytest.raises(UserError):
                await client.tag(ada, f"{HOME}/d", tags)
        with pytest.raises(UserError, match="which tags"):
            await client.untag(ada, f"{HOME}/d", [])
        with pytest.raises(NotFound):
            await client.tag(ada, f"{HOME}/none", {"a": 1})
        with pytest.raises(NotAllowed):
            await client.tag(ada, "/proc/ada", {"a": 1})
        with pytest.raises(UserError, match="column 5"):
            await client.find(ada, HOME, "*", "run = 7")


_OPS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def condition(chance: random.Random, depth: int) -> tuple[str, Test]:
    """A condition and what it means: True, False, or None where values of two kinds are compared (SQL's logic)."""
    kind = chance.choice(["one", "one", "and", "or", "not"] if depth else ["one"])
    if kind == "one":
        return _comparison(chance)
    text, test = condition(chance, depth - 1)
    if kind == "not":
        return f"!({text})", lambda tags: None if (told := test(tags)) is None else not told
    other, second = condition(chance, depth - 1)
    if kind == "and":
        return f"({text}) && ({other})", lambda tags: _both(test(tags), second(tags))
    return f"({text}) || ({other})", lambda tags: _either(test(tags), second(tags))


def _comparison(chance: random.Random) -> tuple[str, Test]:
    name, op = chance.choice(["a", "b", "c"]), chance.choice(list(_OPS))
    value = chance.choice([1, 2, -3, 2.5, "p1", "p2", 'q"\\é'])
    if chance.random() < 0.15:
        value, op = chance.choice([True, False]), chance.choice(["==", "!="])

    def test(tags: Tags) -> bool | None:
        if name not in tags:
            return False
        kinds = {
            bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in (value, tags[name])
        }
        return _OPS[op](tags[name], value) if len(kinds) == 1 else None

    return f"{name} {op} {json.dumps(value)}", test


def _both(left: bool | None, right: bool | None) -> bool | None:
    return False if False in (left, right) else None if None in (left, right) else True


def _either(left: bool | None, right: bool | None) -> bool | None:
    return True if True in (left, right) else None if None in (left, right) else False


@pytest.mark.parametrize("seed", range(3))
async def test_a_search_finds_what_python_says(central: Central, database: Database, seed: int) -> None:
    chance = random.Random(seed)
    fill(database.url, 1, 60)
    tagged: dict[str, dict[str, Any]] = {}
    async with central.user("root") as root:
        for number in range(0, 60, 2):
            values = [1, 2, -3, 2.5, "p1", "p2", 'q"\\é', True, False]
            tags = {name: chance.choice(values) for name in chance.sample("abc", chance.randint(1, 3))}
            tagged[f"/big/0/{number}"] = await client.tag(root, f"/big/0/{number}", tags)
        for _ in range(40):
            text, test = condition(chance, 3)
            found = [entry.path for entry in await client.find(root, "/big", "*", text)]
            assert found == sorted(path for path, tags in tagged.items() if test(tags) is True), text


async def test_an_equality_uses_the_index_of_tags(database: Database) -> None:
    fill(database.url, 20, 1000)
    async with database.transaction() as connection:
        statement = "UPDATE grid.entry SET tags = jsonb_build_object('run', length(path), 'n', path) WHERE guid IS NOT NULL"
        await connection.execute(statement)
    async with database.transaction() as connection:
        await connection.execute("ANALYZE grid.entry")
        found = await store.find(connection, "/big", "*", 10, 'n == "/big/7/77"')
        assert [entry.path for entry in found] == ["/big/7/77"]
        values = {"path": "/big", "after": "", "pattern": "%", "limit": 10, "where": '$."n" == "/big/7/77"'}
        cursor = await connection.execute(f"EXPLAIN {store.QUERIES['find_tagged']}", values)  # type: ignore[arg-type]
        plan = "\n".join(row["QUERY PLAN"] for row in await cursor.fetchall())
        assert "entry_tags" in plan, plan


async def test_a_job_may_tag_what_its_user_has_and_take_nothing_away(central: Central) -> None:
    async with central.user("ada") as ada, central.plain() as job:
        await client.mkdir(ada, f"{HOME}/d")
        job.token = central.job_token(1, "ada")
        assert await client.tag(job, f"{HOME}/d", {"run": 1}) == {"run": 1}
        with pytest.raises(NotAllowed, match="role"):
            await client.untag(job, f"{HOME}/d", ["run"])
        with pytest.raises(NotAllowed):
            await client.tag(job, f"/{VO}", {"run": 1})
