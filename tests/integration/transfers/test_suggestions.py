"""From a job that waits for its data to a copy near free resources: central, storage elements and FTDs are real."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.agent.model import machine_ad
from orchestrator.cli import job as job_verbs
from orchestrator.errors import NotAllowed, NotFound, PermanentError, UserError
from orchestrator.jobs import advice, compose
from orchestrator.jobs import client as jobs
from orchestrator.jobs.advice import Advice
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.optimizer import Optimizer
from orchestrator.jobs.suggest import Policy
from orchestrator.runtime.http import tls_context
from orchestrator.software import store as software
from orchestrator.software.model import Package
from orchestrator.tasks import client as tasks
from orchestrator.tasks.model import Assignment
from orchestrator.transfers import client as transfers
from orchestrator.wiring.files import CatalogueFiles
from orchestrator.wiring.surroundings import GridSurroundings
from tests.support.verbs import invoker

from ..catalogue.conftest import VO
from .conftest import HOME, PATIENCE, World

GIB = 1024**3


@dataclass
class Queue:
    """The job optimizer, whose rounds the test makes, and resources that ask."""

    world: World
    optimizer: Optimizer
    rounds: int = 0

    async def round(self) -> list[dict[str, Any]]:
        """All pages of one look; what ada reads then."""
        advisor = self.optimizer.advisor
        assert advisor is not None
        self.rounds += 1
        now = 1e9 * self.rounds
        await advisor.step(now)
        while advisor._after:
            now += 10.0
            await advisor.step(now)
        return await jobs.suggestions(self.world.ada)

    async def submit(self, more: str) -> int:
        made = await jobs.submit(self.world.ada, f'Executable = "/bin/true"; {more}')
        await self.optimizer.step()
        return int(made["task"])

    async def ask(self, site: str, **offer: Any) -> list[Assignment]:
        """A slot of ``site`` asks for work."""
        values: dict[str, Any] = {
            "site": site, "ce": "farm", "host": f"{site}-node", "cores": 1, "memory": 8 * GIB, "disk": 50 * GIB,
            "ttl": 86_400, "arch": "x86_64", "os": "linux", "methods": ("torrent",),
        }  # fmt: skip
        ad = machine_ad(**(values | offer)) | {"Name": f"{site}-node/1"}
        async with self.world.central.host(self.world.sites[site].root) as api:
            return list((await tasks.claim(api, ad, count=1, wait=0.0, claim_id="")).tasks)


def optimizer(world: World, replicate: int = 0) -> Optimizer:
    central = world.central
    tls = tls_context(central.authority.ca)
    files = CatalogueFiles(central.database, central.issuer.envelope, tls, VO, "root")
    around = GridSurroundings.over(central.database, world.kind)
    own = Advice(around, "root", replicate, Policy(patience=0.0))
    return compose.optimizer(central.database, files, Defaults(VO), PATIENCE, own)


@pytest.fixture
async def queue(world: World) -> Queue:
    """Two sites: ``here`` with SE a, ``there`` with SE b."""
    await world.site("here", "a")
    await world.site("there", "b")
    return Queue(world, optimizer(world))


def data(*names: str) -> str:
    return "InputData = {" + ", ".join(f'"LF:{HOME}/{name}"' for name in names) + "};"


async def test_a_copy_is_suggested_accepted_and_the_job_runs_there(queue: Queue, world: World) -> None:
    for name in ("run7/x", "run7/y"):
        await world.put(name, os.urandom(1000), "a")
    job = await queue.submit(data("run7/x", "run7/y"))
    assert await queue.round() == [], "nobody has asked for work"
    assert await queue.ask("there", close_se=["b"]) == [], "it waits near its data"
    (made,) = await queue.round()
    known = {
        key: made[key] for key in ("kind", "subject", "target", "site", "jobs", "bytes", "files", "owners")
    }
    assert known == {
        "kind": "copy", "subject": f"{HOME}/run7", "target": "b", "site": "there", "jobs": 1, "bytes": 2000,
        "files": 2, "owners": ["ada"],
    }  # fmt: skip
    why = await jobs.why(world.ada, job)
    assert [each["id"] for each in why["suggestions"]] == [made["id"]]
    assert why["suggestions"][0]["text"].endswith("at b would let 1 waiting job run at there")
    assert [each["id"] for each in await queue.round()] == [made["id"]], (
        "it is the same one in the next round"
    )
    asked = await jobs.accept(world.ada, made["id"])
    assert [(each["lfn"], each["new"], each["size"]) for each in asked] == [
        (f"{HOME}/run7/{name}", True, 1000) for name in "xy"
    ]
    again = await jobs.accept(world.root, made["id"])
    assert [(each["task"], each["new"]) for each in again] == [(each["task"], False) for each in asked]
    assert {each["owner"] for each in await transfers.listing(world.ada)} == {"ada"}
    async with world.ftd("there", "b"):
        for each in asked:
            assert (await world.ends(each["task"]))["state"] == "DONE"
    await queue.optimizer._follow(0.0)
    assert await queue.round() == [], "the job waits near both now"
    (given,) = await queue.ask("there", close_se=["b"])
    assert given.task == job


async def test_a_busy_site_is_told_from_an_absent_one_and_free_ones_get_the_job(
    queue: Queue, world: World
) -> None:
    await world.put("x", os.urandom(10), "a")
    first = await queue.submit("")
    (given,) = await queue.ask("here", close_se=["a"])
    assert given.task == first
    job = await queue.submit(data("x"))
    await queue.ask("there", close_se=["b"])
    (made,) = await queue.round()
    assert made["reason"] == "the resources near it are busy"
    await world.central.rows("UPDATE grid.resource SET seen = now() - interval '1 hour' WHERE site = 'here'")
    (made,) = await queue.round()
    assert made["reason"] == "no resource near it has asked lately"
    # A resource near the data has nothing to do: it will take the job, and no copy is wanted.
    await world.central.rows("UPDATE grid.resource SET seen = now() WHERE site = 'here'")
    assert await queue.round() == []
    assert (await jobs.why(world.ada, job))["suggestions"] == []


async def test_the_optimizer_copies_by_itself_within_its_limit(queue: Queue, world: World) -> None:
    queue.optimizer = optimizer(world, replicate=2500)
    names = [f"run7/{number}" for number in range(4)]
    for name in names:
        await world.put(name, os.urandom(1000), "a")
    numbers = [await queue.submit(data(name)) for name in names]
    await queue.ask("there", close_se=["b"])
    (made,) = await queue.round()
    assert (made["jobs"], made["bytes"], made["files"], made["accepted"]) == (2, 2000, 2, "root")
    under_way = await transfers.listing(world.ada, owner="root")
    assert sorted(each["lfn"] for each in under_way) == [f"{HOME}/{name}" for name in names[:2]]
    await world.central.rows(
        "UPDATE grid.suggestion SET accepted = ''"
    )  # nothing but the limit keeps it back
    await world.central.rows(
        "UPDATE grid.suggestion SET files = ARRAY[%(lfn)s], bytes = 1000", lfn=f"{HOME}/run7/3"
    )
    advisor = queue.optimizer.advisor
    assert advisor is not None
    await advisor._copy()
    assert len(await transfers.listing(world.ada, owner="root")) == 2, (
        "2000 bytes are under way, 1000 more are too many"
    )
    await world.central.rows("UPDATE grid.suggestion SET accepted = 'root'")
    async with world.ftd("there", "b"):
        for each in under_way:
            assert (await world.ends(each["id"]))["state"] == "DONE"
    await queue.optimizer._follow(0.0)
    (made,) = await queue.round()
    assert (made["jobs"], made["accepted"]) == (2, "root")
    assert len(await transfers.listing(world.ada, owner="root")) == 4
    assert {each["task"] for each in await world.central.rows("SELECT task FROM grid.suggested_copy")} == {
        each["id"] for each in await transfers.listing(world.ada, owner="root", state="INSERTING,WAITING")
    }
    taken = {given.task for _ in range(2) for given in await queue.ask("there", close_se=["b"])}
    assert taken == set(numbers[:2])


async def test_packages_that_nobody_has_published_can_install_or_has_yet(queue: Queue, world: World) -> None:
    asked = 'Executable = "x";\nPackages = {"Tool::1"};'
    warned = ["2:1: package Tool::1 is not published; without it the job fails"]
    assert (await jobs.submit_many(world.ada, asked, [[]]))["warnings"] == warned
    made = await jobs.submit(world.ada, asked)
    assert made["warnings"] == warned
    await jobs.kill(world.ada, made["task"] - 1)
    await jobs.kill(world.ada, made["task"])
    job = await queue.submit('Packages = {"Tool::1"};')
    (made,) = await queue.round()
    assert (made["kind"], made["subject"], made["jobs"]) == ("publish", "Tool::1", 1)
    assert "software publish REPOSITORY Tool 1" in made["advice"]
    with pytest.raises(PermanentError, match="only copies can be accepted"):
        await jobs.accept(world.ada, made["id"])
    async with world.central.database.transaction() as connection:
        await software.save(connection, Package("Tool", "1", "", "", 0, 10, "0" * 64, "0" * 40, b"d"), "rose")
    await queue.ask("there", methods=())
    (made,) = await queue.round()
    assert (made["kind"], made["target"]) == ("install", "there")
    assert (await jobs.why(world.ada, job))["suggestions"][0]["text"].startswith(
        "Tool::1 should be installed at there"
    )
    # Slots of ``here`` could get it, but only when they ask: it is brought to the site before that.
    await world.central.rows(
        "UPDATE grid.resource SET site = 'here', ad = replace(replace(ad, '\"InstallMethods\":[]',"
        ' \'"InstallMethods":["torrent"]\'), \'"there"\', \'"here"\')'
    )
    (made,) = await queue.round()
    assert (made["kind"], made["subject"], made["target"]) == ("fetch", "Tool::1", "here")
    for site, wanted in (("here", [{"package": "Tool::1", "jobs": 1}]), ("there", [])):
        async with world.central.host(world.sites[site].root) as api:
            assert (await api.get("/v1/jobs/packages"))["packages"] == wanted
    with pytest.raises(NotAllowed):
        await world.ada.get("/v1/jobs/packages")
    await jobs.kill(world.ada, job)
    assert await queue.round() == []


@pytest.mark.parametrize("bound", [{"PAGE": 1}, {"PAGE": 2}, {"MOST_FILES": 1}, {"LONGEST": 0.0}])
async def test_a_look_of_many_rounds_finds_the_same(
    queue: Queue, world: World, bound: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.ask("there", close_se=["b"])
    for number in range(4):
        await world.put(f"run{number}/x", b"x", "a")
        await world.put(f"run{number}/y", b"y", "a")
        await queue.submit(f'MemorySize = "{number + 1} GB"; {data(f"run{number}/x", f"run{number}/y")}')
    at_once = await queue.round()
    assert sorted(each["subject"] for each in at_once) == [f"{HOME}/run{number}" for number in range(4)]
    for name, value in bound.items():
        monkeypatch.setattr(advice, name, value)
    assert [each | {"age": 0} for each in await queue.round()] == [each | {"age": 0} for each in at_once]
    await jobs.kill(world.ada, (await jobs.listing(world.ada, state="WAITING"))[1]["id"])
    assert len(await queue.round()) == 3


async def test_filters_and_wrong_ones(queue: Queue, world: World) -> None:
    await world.put("x", b"x", "a")
    await queue.submit(data("x"))
    await queue.ask("there", close_se=["b"])
    await queue.submit('Packages = {"Tool::1"};')
    assert {each["kind"] for each in await queue.round()} == {"copy", "publish"}
    for asked, kinds in (
        ({"kind": "copy"}, ["copy"]), ({"target": "b"}, ["copy"]), ({"owner": "bob"}, []), ({"kind": "fetch"}, []),
    ):  # fmt: skip
        assert [each["kind"] for each in await jobs.suggestions(world.ada, **asked)] == kinds, asked
    with pytest.raises(UserError, match="teleport is no kind of suggestion"):
        await jobs.suggestions(world.ada, kind="teleport")
    with pytest.raises(NotFound, match="suggestion 999 is no longer made"):
        await jobs.accept(world.ada, 999)


async def test_on_the_command_line(queue: Queue, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = invoker("job", job_verbs.register, world.central.user, VO, monkeypatch)
    assert "no suggestions" in (await run("ada", "suggestions")).output
    for name in "xy":
        await world.put(f"run7/{name}", b"x" * 1024, "a")
    job = await queue.submit(data("run7/x", "run7/y"))
    await queue.ask("there", close_se=["b"])
    (made,) = await queue.round()
    why = (await run("ada", "why", job)).output
    assert (
        "a copy of the 2 files of it that they need (2 KiB) at b would let 1 waiting job run at there" in why
    )
    assert f"`orchestrate job suggestions --accept {made['id']}` asks for the transfers" in why
    listed = (await run("bob", "suggestions")).output.splitlines()
    assert listed[0].split() == ["ID", "KIND", "JOBS", "SIZE", "TO", "WHAT"]
    assert listed[1].split()[:7] == [str(made["id"]), "copy", "1", "2", "KiB", "b", f"{HOME}/run7"]
    assert json.loads((await run("bob", "suggestions", "--user", "bob", "--json")).output) == []
    asked = (await run("bob", "suggestions", "--accept", made["id"])).output.splitlines()
    assert [line.split()[-1] for line in asked] == [f"{HOME}/run7/x", f"{HOME}/run7/y"]
    assert (
        "bob has asked for it; see `orchestrate transfer ps --to b" in (await run("ada", "why", job)).output
    )
    assert "asked for by bob" in (await run("ada", "suggestions")).output
    assert (await run("ada", "suggestions", "--accept", 999)).exception is not None


async def test_several_optimizers_at_once_make_one_suggestion(queue: Queue, world: World) -> None:
    await world.put("x", b"x", "a")
    await queue.submit(data("x"))
    await queue.ask("there", close_se=["b"])
    advisors = [optimizer(world).advisor for _ in range(4)]

    await asyncio.gather(*(each.step(1e9) for each in advisors if each is not None))
    found = await world.central.rows("SELECT class, kind, target FROM grid.suggestion")
    assert len(found) == 1
