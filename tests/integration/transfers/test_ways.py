"""Ways that are not plain: routes, mass storage, bad copies, storage elements that are away."""

from __future__ import annotations

import os
from dataclasses import dataclass

from orchestrator.errors import UserError
from orchestrator.transfers import client, model
from orchestrator.transfers.model import Content, Place
from orchestrator.transfers.mover import Progress, Streams
from tests.support.until import until

from .conftest import World
from .test_transfers import LARGE, states


async def test_a_route_over_another_site(world: World) -> None:
    await world.site("here", "a")
    middle, _ = await world.site("middle", "c"), await world.site("there", "b")
    await client.limit(world.root, source="a", target="b", most=0)
    made = await world.put("far", os.urandom(LARGE), "a")
    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("middle", "c"), world.ftd("there", "b"):
        found = await world.ends(transfer)
    assert (found["state"], found["attempt"]) == (model.DONE, 1), found
    assert [(step["role"], step["source"], step["target"], step["site"]) for step in found["steps"]] == [
        ("fetch", "a", "c", "middle"),
        ("fetch", "c", "b", "there"),
        ("clean", "c", "c", "middle"),
    ]
    assert states(found) == ["INSERTING", "TRANSFERRING", "CLEANING", "DONE"]
    assert await world.where(made.lfn) == {"a", "b"}
    assert not middle.file("c", made.guid).exists()
    assert await world.central.rows("SELECT * FROM grid.removal") == []


async def test_a_failed_hop_fails_the_route_at_once_and_the_next_attempt_goes_another_way(
    world: World,
) -> None:
    await world.site("here", "a")
    await world.site("middle", "c", "e")
    await world.site("there", "b")
    for source, target in (("a", "b"), ("a", "e")):
        await client.limit(world.root, source=source, target=target, most=0)
    made = await world.put("far", b"x" * 1000, "a")

    @dataclass
    class Broken(Streams):
        async def move(self, source: Place, target: Place, content: Content, progress: Progress) -> None:
            if target.se == "c":
                raise UserError("c is out of order")
            await super().move(source, target, content, progress)

    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("middle", "c", "e", mover=Broken(world.mover().ends)), world.ftd("there", "b"):

        async def failed_once() -> bool:
            return (await client.show(world.ada, transfer))["attempt"] == 2

        await until(failed_once)
        await client.limit(world.root, source="a", target="e", most=5)
        await client.limit(world.root, source="a", target="c", most=0)
        found = await world.ends(transfer)
    assert found["state"] == model.DONE, found
    first = [step for step in found["steps"] if step["attempt"] == 1]
    assert [step["state"] for step in first] == [model.FAILED]
    assert "out of order" in first[0]["reason"]
    last = [step["target"] for step in found["steps"] if step["state"] == model.DONE]
    assert last == ["e", "b", "e"]


async def test_a_file_on_mass_storage_is_staged_fetched_and_cleaned(world: World) -> None:
    here, _ = await world.site("here", "tape", "buffer"), await world.site("there", "b")
    await client.limit(world.root, se="tape", buffer="buffer", most_out=1)
    made = await world.put("old", os.urandom(1000), "tape")
    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("here", "tape", "buffer"), world.ftd("there", "b"):
        found = await world.ends(transfer)
    assert states(found) == ["INSERTING", "STAGING", "TRANSFERRING", "CLEANING", "DONE"]
    assert [(step["role"], step["site"], step["state"]) for step in found["steps"]] == [
        ("stage", "here", "DONE"),
        ("fetch", "there", "DONE"),
        ("clean", "here", "DONE"),
    ]
    assert await world.where(made.lfn) == {"tape", "b"}
    assert not here.file("buffer", made.guid).exists()


async def test_a_corrupt_source_is_noticed_and_another_replica_is_used(world: World) -> None:
    here, _ = await world.site("here", "a", "c"), await world.site("there", "b")
    data = os.urandom(LARGE)
    made = await world.put("twice", data, "a")
    async with world.ftd("here", "c"):
        assert (await world.ends(await world.submit(made.lfn, "c")))["state"] == model.DONE
    here.file("a", made.guid).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("there", "b"):
        found = await world.ends(transfer)
    assert (found["state"], found["attempt"], found["tried"]) == (model.DONE, 2, ["a"])
    assert found["result"]["source"] == "c"
    assert any("a has other content" in event["reason"] for event in found["events"])
    assert await world.where(made.lfn) == {"a", "b", "c"}


async def test_it_is_given_up_after_five_attempts(world: World) -> None:
    here, there = await world.site("here", "a"), await world.site("there", "b")
    made = await world.put("lost", b"x" * 100, "a")
    here.file("a", made.guid).unlink()
    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("there", "b"):
        found = await world.ends(transfer)
    assert (found["state"], found["attempt"]) == (model.FAILED, 5)
    assert "a answered 404" in found["reason"]
    waits = [
        after["at"] - before["at"]
        for before, after in zip(found["events"], found["events"][1:], strict=False)
        if before["new"] == model.INSERTING
    ]
    # A delay counts from the beginning of the transaction, the event is a little younger.
    assert all(wait > least for wait, least in zip(waits[1:], (0.15, 0.35, 0.75, 0.95), strict=True)), waits
    assert not there.file("b", made.guid).exists()


async def test_a_silent_destination_does_not_cost_the_source_its_name(world: World) -> None:
    _, there = await world.site("here", "a"), await world.site("there", "b")
    made = await world.put("wait", b"x" * 100, "a")
    await there.stop("se")
    transfer = await world.submit(made.lfn, "b")
    async with world.ftd("there", "b"):

        async def failed_once() -> bool:
            return (await client.show(world.ada, transfer))["attempt"] > 1

        await until(failed_once)
        there.start()
        found = await world.ends(transfer)
    assert (found["state"], found["tried"]) == (model.DONE, []), found


async def test_a_copy_that_is_just_being_removed_is_waited_for(world: World) -> None:
    await world.site("here", "a")
    there = await world.site("there", "b")
    made = await world.put("again", b"x" * 100, "a")
    async with world.ftd("there", "b"):
        await world.ends(await world.submit(made.lfn, "b", model.CACHE))
        await world.central.rows("UPDATE grid.removal SET at = now()")  # the cached copy's time is over
        transfer = await world.submit(made.lfn, "b")

        async def put_off() -> bool:
            return "just being removed" in (await client.why(world.ada, transfer))["reasons"][0]

        await until(put_off)
        assert there.file("b", made.guid).exists()
        await there.stop("se")
        there.start()  # its first round is at once, the next a minute later
        found = await world.ends(transfer)
    assert (found["state"], found["attempt"]) == (model.DONE, 1)
    assert await world.where(made.lfn) == {"a", "b"}
    assert there.file("b", made.guid).exists()
    assert await world.central.rows("SELECT * FROM grid.removal") == []
