"""Transfers between real storage elements, from the user's request to the replica in the catalogue."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field

import pytest

from orchestrator.catalogue import client as catalogue
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.transfers import client, compose, model
from orchestrator.transfers.model import Content, Place
from orchestrator.transfers.mover import Progress, Streams
from tests.support.same import same
from tests.support.until import until

from .conftest import HOME, PATIENCE, World

LARGE = (17 << 20) + 3  # bytes: not one of a group


@dataclass
class Gated(Streams):
    """Moves wait for ``open``; who is between is counted."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    now: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    async def move(self, source: Place, target: Place, content: Content, progress: Progress) -> None:
        names = (f"from {source.se}", f"to {target.se}")
        for name in names:
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
        try:
            await self.open.wait()
            await super().move(source, target, content, progress)
        finally:
            for name in names:
                self.now[name] -= 1


def states(found: dict[str, object]) -> list[str]:
    return [event["new"] for event in found["events"]]  # type: ignore[index, attr-defined]


async def test_a_mirror_is_made_and_registered(world: World) -> None:
    here, there = await world.site("here", "a"), await world.site("there", "b")
    made = await world.put("run1.root", os.urandom(LARGE), "a")
    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("there", "b"):
        found = await world.ends(transfer)
    assert (found["state"], found["attempt"], found["result"]["bytes"]) == (model.DONE, 1, LARGE)
    assert states(found) == ["INSERTING", "WAITING", "ASSIGNED", "TRANSFERRING", "DONE"]
    assert await world.where(made.lfn) == {"a", "b"}
    assert same(here.file("a", made.guid), there.file("b", made.guid))
    assert await world.central.rows("SELECT * FROM grid.removal") == []
    assert await world.central.rows("SELECT * FROM grid.transfer_leg") == []


async def test_twenty_who_ask_at_once_get_one_transfer(world: World) -> None:
    await world.site("here", "a", "b")
    lfns = [(await world.put(f"f{number}", b"x", "a")).lfn for number in range(3)]
    asked = [client.submit(world.ada, lfns[number % 3 :] + lfns[: number % 3], "b") for number in range(20)]
    told = await asyncio.gather(*asked)
    ids = {(each["lfn"], each["task"]) for answer in told for each in answer}
    assert len(ids) == 3
    assert sum(each["new"] for answer in told for each in answer) == 3
    assert len(await world.central.rows("SELECT id FROM grid.task WHERE kind = 'transfer'")) == 3
    async with world.ftd("here", "b"):
        for _, task in ids:
            assert (await world.ends(task))["state"] == model.DONE
    again = await client.submit(world.ada, lfns[:1], "b")
    assert (again[0]["state"], again[0]["new"]) == (model.DONE, True)  # it is there: nothing to do


async def test_limits_are_respected_and_all_is_done(world: World) -> None:
    await world.site("here", "a", "c")
    await world.site("there", "b", "d")
    await client.limit(world.root, se="a", most_out=2)
    await client.limit(world.root, se="d", most_in=1)
    with pytest.raises(NotAllowed):
        await client.limit(world.ada, se="a", most_out=9)
    with pytest.raises(UserError, match="no storage element x"):
        await client.limit(world.root, source="x", target="b", most=1)
    data = os.urandom(LARGE)
    from_a = [await world.put(f"a{number}", data, "a") for number in range(4)]
    from_c = [await world.put(f"c{number}", data, "c") for number in range(3)]
    jobs = [await world.submit(each.lfn, "b") for each in from_a]
    jobs += [await world.submit(each.lfn, "d") for each in from_c]
    mover = Gated(world.mover().ends, pause=0.05)
    async with world.ftd("there", "b", "d", mover=mover, slots=8):

        async def throttled() -> bool:
            rows = await world.central.rows("SELECT 1 AS x FROM grid.transfer WHERE waits <> '' AND open")
            return len(rows) >= 2 and sum(mover.now.values()) == 6  # what waits for a full d is not looked at

        await until(throttled)
        why = [await client.why(world.ada, job) for job in jobs]
        said = " ".join(reason for each in why for reason in each["reasons"])
        assert "a gives 2 transfers at once" in said
        mover.open.set()
        ended = [await world.ends(job) for job in jobs]
    assert {each["state"] for each in ended} == {model.DONE}
    assert (mover.most["from a"], mover.most["to d"]) == (2, 1)


async def test_kinds(world: World) -> None:
    await world.site("here", "a")
    there = await world.site("there", "b", "c", "d")
    made = await world.put("kinds", b"x" * 100, "a")
    cache = await world.submit(made.lfn, "b", model.CACHE)
    master = await world.submit(made.lfn, "c", model.MASTER_COPY)
    first = await world.submit(made.lfn, "d", model.CACHE)
    assert await world.submit(made.lfn, "d", model.MIRROR) == first  # and now it is a mirror
    async with world.central.user("bob") as bob:
        with pytest.raises(NotAllowed, match="belongs to somebody else"):
            await client.submit(bob, [made.lfn], "b", model.MASTER_COPY)
        with pytest.raises(NotAllowed, match="belongs to ada"):
            await client.kill(bob, cache)
    async with world.ftd("there", "b", "c", "d"):
        for transfer in (cache, master, first):
            assert (await world.ends(transfer))["state"] == model.DONE
    assert await world.where(made.lfn) == {"a", "c", "d"}
    assert there.file("b", made.guid).exists()
    assert await world.central.rows("SELECT guid::text, se FROM grid.master_copy") == [
        {"guid": made.guid, "se": "c"}
    ]
    # The cached copy is removed some day, the others stay.
    assert [each["se"] for each in await world.central.rows("SELECT se FROM grid.removal")] == ["b"]


async def test_a_copy_that_is_there_already_is_success_without_a_byte(world: World) -> None:
    await world.site("here", "a")
    await world.site("there", "b")
    made = await world.put("there", b"x" * 100, "a")
    async with world.ftd("there", "b"):
        await world.ends(await world.submit(made.lfn, "b", model.CACHE))
        found = await world.ends(await world.submit(made.lfn, "b", model.MIRROR))
    assert (found["state"], found["result"]["there"], found["result"]["bytes"]) == (model.DONE, True, 0)
    assert await world.where(made.lfn) == {"a", "b"}


async def test_what_cannot_be_asked_for(world: World) -> None:
    await world.site("here", "a", "b")
    made = await world.put("good", b"x", "a")
    for lfns, to, kind, said in (
        ([made.lfn], "none", "mirror", "no storage element none"),
        ([made.lfn, f"{HOME}/bad"], "b", "mirror", "bad is no file"),
        ([HOME], "b", "mirror", "is no file"),
        ([], "b", "mirror", "1 to 1000"),
        ([made.lfn], "b", "miror", "no kind of transfer"),
        (["x"], "b", "mirror", "not absolute"),
    ):
        with pytest.raises(UserError, match=said):
            await world.root.post("/v1/transfers", {"lfns": lfns, "destination": to, "kind": kind})
    with pytest.raises(NotFound, match="no transfer 77"):
        await client.show(world.ada, 77)
    assert await client.listing(world.ada) == []


async def test_why_it_waits_and_kill(world: World) -> None:
    await world.site("here", "a", "b")
    made = await world.put("killed", os.urandom(LARGE), "a")
    transfer = await world.submit(made.lfn, "b")

    async def waiting() -> bool:
        return (await client.show(world.ada, transfer))["state"] == model.WAITING

    await until(waiting)
    assert "none has asked" in (await client.why(world.ada, transfer))["reasons"][0]
    mover = Gated(world.mover().ends)
    async with world.ftd("here", "b", mover=mover):
        await until(lambda: mover.now["to b"])
        assert await client.kill(world.ada, transfer) == model.KILLED
        await until(lambda: not mover.now["to b"])
        again = await world.submit(made.lfn, "b")
        assert again != transfer
        mover.open.set()
        assert (await world.ends(again))["state"] == model.DONE
    rows = await client.listing(world.ada, lfn=made.lfn)
    assert [(each["id"], each["state"]) for each in rows] == [(again, "DONE"), (transfer, "KILLED")]


async def test_a_file_removed_meanwhile_gets_no_replica(world: World) -> None:
    await world.site("here", "a", "b")
    made = await world.put("gone", os.urandom(LARGE), "a")
    transfer = await world.submit(made.lfn, "b")
    mover = Gated(world.mover().ends)
    async with world.ftd("here", "b", mover=mover):
        await until(lambda: mover.now["to b"])
        await catalogue.rm(world.ada, made.lfn)
        mover.open.set()
        found = await world.ends(transfer)
    assert (found["state"], "removed from the catalogue" in found["reason"]) == (model.FAILED, True)
    assert await world.central.rows("SELECT * FROM grid.replica") == []


async def test_a_leaving_ftd_gives_back_what_it_has(world: World) -> None:
    await world.site("here", "a", "b")
    made = await world.put("back", os.urandom(LARGE), "a")
    transfer = await world.submit(made.lfn, "b")
    mover = Gated(world.mover().ends)
    async with world.ftd("here", "b", mover=mover):
        await until(lambda: mover.now["to b"])
    found = await client.show(world.ada, transfer)
    assert "the FTD is leaving" in " ".join(event["reason"] for event in found["events"])
    async with world.ftd("here", "b"):
        found = await world.ends(transfer)
    assert (found["state"], found["attempt"]) == (model.DONE, 2)


async def test_small_files_travel_in_groups_and_count_as_few(world: World) -> None:
    await world.site("here", "a", "b")
    await client.limit(world.root, se="a", most_out=1)
    lfns = [(await world.put(f"small{number}", b"%d" % number, "a")).lfn for number in range(40)]
    told = await client.submit(world.ada, lfns, "b")
    claims: list[int] = []
    async with world.ftd("here", "b", slots=1) as ftd:
        ask = ftd.line.claim

        async def counted(ad, *, wait, claim_id, count=1):  # type: ignore[no-untyped-def]
            claimed = await ask(ad, wait=wait, claim_id=claim_id, count=count)
            claims.extend([len(claimed.tasks)] if claimed.tasks else [])
            return claimed

        ftd.line.claim = counted  # type: ignore[method-assign]
        for each in told:
            assert (await world.ends(each["task"]))["state"] == model.DONE
    assert max(claims) > 1, claims
    assert len(claims) < 20, claims


async def test_two_optimizers_of_which_one_dies_again_and_again(world: World) -> None:
    await world.site("here", "a", "b")
    await client.limit(world.root, se="a", most_out=2)
    data = os.urandom(LARGE)
    lfns = [(await world.put(f"f{number}", data, "a")).lfn for number in range(8)]
    told = await client.submit(world.ada, lfns, "b")
    mover = Gated(world.mover().ends)
    mover.open.set()

    async def dying() -> None:
        while True:
            other = compose.optimizer(world.central.database, world.kind, PATIENCE)
            task = asyncio.create_task(other.step())
            await asyncio.wait({task}, timeout=0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    killer = asyncio.create_task(dying())
    try:
        async with world.ftd("here", "b", mover=mover, slots=8):
            for each in told:
                found = await world.ends(each["task"])
                assert (found["state"], found["attempt"]) == (model.DONE, 1)
    finally:
        killer.cancel()
        await asyncio.gather(killer, return_exceptions=True)
    assert mover.most["from a"] <= 2
