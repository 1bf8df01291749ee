"""Transfers whose FTDs only account: many files over slow links in little time, everything else as it is."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter

import pytest

from orchestrator.catalogue import client as catalogue
from orchestrator.catalogue.model import Output, pfn_of
from orchestrator.errors import NotAllowed
from orchestrator.tasks.model import Claimed, Json
from orchestrator.transfers import client, model
from orchestrator.transfers.accounting import Accounting
from orchestrator.transfers.decide import Policy
from orchestrator.transfers.ftd import Ftd, ftd_ad
from orchestrator.transfers.model import Content
from tests.support.until import until

from .conftest import HOME, Line, World

MD5 = "0" * 32


@pytest.fixture
def policy() -> Policy:
    return Policy(first=0.2, throttled=0.2, most_out=4, most_in=4, most_link=4)


async def storage(world: World, site: str, *names: str) -> None:
    """Storage elements of which nothing exists but their names."""
    root = world.central.machine(world.folder / f"{site}-vobox", "127.0.0.1", site=site)
    async with world.central.host(root) as box:
        for name in names:
            told = {"name": name, "site": site, "url": f"sim:{name}", "free": 10**15}
            await box.post("/v1/catalogue/storage", told)


async def test_many_files_over_a_route(world: World) -> None:
    await storage(world, "here", "a")
    await storage(world, "middle", "c")
    await storage(world, "there", "b")
    await client.limit(world.root, source="a", target="b", most=0)
    paper = Accounting(speed=lambda _source, _target: 1e9)
    count, size, lfns = 60, 10**8, []
    for number in range(count):
        guid = str(uuid.uuid4())
        made = Output(f"{HOME}/f{number}", guid, size, MD5, "", "a", pfn_of(guid))
        await catalogue.register(world.ada, made)
        paper.copies[f"sim:a{pfn_of(guid)}"] = Content(size, MD5)
        lfns.append(made.lfn)
    busy: Counter[tuple[str, str]] = Counter()
    most: Counter[tuple[str, str]] = Counter()

    class Counted(Accounting):
        async def move(self, source, target, content, progress):  # type: ignore[no-untyped-def]
            link = (source.se, target.se)
            busy[link] += 1
            most[link] = max(most[link], busy[link])
            try:
                await super().move(source, target, content, progress)
            finally:
                busy[link] -= 1

    mover = Counted(paper.copies, paper.speed)
    stop, running = asyncio.Event(), []
    async with (
        world.central.host(world.folder / "middle-vobox") as middle,
        world.central.host(world.folder / "there-vobox") as there,
    ):
        for api, site, se in ((middle, "middle", "c"), (there, "there", "b")):
            ad = ftd_ad(site, [se], 0, ["sim"])
            ftd = Ftd(Line(api, site), {"sim": mover}, lambda ad=ad: ad, site, slots=8, wait=3.0)
            running.append(asyncio.create_task(ftd.run(stop)))
        began = time.monotonic()
        told = await client.submit(world.ada, lfns, "b")

        async def done() -> bool:
            return len(await client.listing(world.ada, state=model.DONE, limit=1000)) == count

        try:
            await until(done, 60)
        finally:
            stop.set()
            await asyncio.gather(*running)
    seconds = time.monotonic() - began
    print(f"{count} files over two links: {count * 3 / seconds:.0f} legs/s")
    assert len(told) == count
    assert Counter((source, target) for source, target, _ in mover.moved) == {
        ("a", "c"): count,
        ("c", "b"): count,
    }
    assert max(most.values()) <= 4
    left = Counter(url.partition("/")[0] for url in paper.copies)
    assert left == {"sim:a": count, "sim:b": count}  # nothing stays between
    found = await catalogue.lookup(world.ada, lfns)
    assert {placed.ses for placed in found.values()} == {("a", "b")}


async def test_an_ftd_whose_session_is_over_ends_so_that_it_may_begin_another(world: World) -> None:
    class Refused(Line):
        async def claim(self, ad: Json, *, wait: float, claim_id: str, count: int = 1) -> Claimed:
            raise NotAllowed("the token has expired")

    async with world.central.host(world.central.machine(world.folder / "box", "127.0.0.1")) as api:
        ftd = Ftd(Refused(api, "here"), {}, lambda: ftd_ad("box", [], 0, []), "x", wait=1.0)
        await asyncio.wait_for(ftd.run(asyncio.Event()), 10)


async def test_what_nobody_takes_is_given_up_in_the_end(world: World) -> None:
    await storage(world, "here", "a", "b")
    guid = str(uuid.uuid4())
    await catalogue.register(world.ada, Output(f"{HOME}/f", guid, 5, MD5, "", "a", pfn_of(guid)))
    waiting = await world.submit(f"{HOME}/f", "b")
    await until(lambda: _state(world, waiting, model.WAITING))
    await client.limit(world.root, se="a", most_out=0)
    guid = str(uuid.uuid4())
    await catalogue.register(world.ada, Output(f"{HOME}/g", guid, 5, MD5, "", "a", pfn_of(guid)))
    planned = await world.submit(f"{HOME}/g", "b")
    await until(lambda: _waits(world, planned))
    await world.central.rows("UPDATE grid.transfer SET expires = now()")
    for each, said in ((waiting, "24 hours"), (planned, "a gives 0 transfers at once")):
        found = await world.ends(each)
        assert (found["state"], said in found["reason"]) == (model.EXPIRED, True), found


async def _state(world: World, transfer: int, state: str) -> bool:
    return bool((await client.show(world.ada, transfer))["state"] == state)


async def _waits(world: World, transfer: int) -> bool:
    return "gives 0" in (await client.why(world.ada, transfer))["reasons"][0]
