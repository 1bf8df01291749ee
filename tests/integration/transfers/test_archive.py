"""Transfers that ended long ago: they leave the live tables with their steps, and are found by their number."""

from __future__ import annotations

import time

import pytest

from orchestrator.errors import NotFound
from orchestrator.jobs import archived as archived_jobs
from orchestrator.tasks.archive import ROUND, Archive
from orchestrator.tasks.keeping import DAY
from orchestrator.transfers import archived, client, model

from .conftest import World


async def test_ended_transfers_go_with_their_steps_and_are_found(world: World) -> None:
    await world.site("here", "a")
    await world.site("middle", "c")
    await world.site("there", "b")
    await client.limit(world.root, source="a", target="b", most=0)
    route = await world.submit((await world.put("far", b"x" * 1000, "a")).lfn, "b")
    direct = await world.submit((await world.put("near", b"x" * 1000, "a")).lfn, "c", model.MASTER_COPY)
    async with world.ftd("middle", "c"), world.ftd("there", "b"):
        for transfer in (route, direct):
            assert (await world.ends(transfer))["state"] == model.DONE
    lfn = (await world.put("never", b"x", "a")).lfn
    killed, waiting = await world.submit(lfn, "b"), await world.submit(lfn, "c")
    assert await client.kill(world.ada, killed) == "KILLED"

    async def look(transfer: int) -> dict[str, object]:
        shown = await client.show(world.ada, transfer)
        shown.pop("age")
        shown.pop("source")  # of one that is under way
        return {
            "shown": shown,
            "events": await world.ada.get(f"/v1/transfers/{transfer}/events"),
            "why": await client.why(world.ada, transfer),
        }

    before = {each: await look(each) for each in (route, direct, killed, waiting)}
    assert len(before[route]["shown"]["steps"]) == 3  # type: ignore[index, call-overload]
    kinds = {"job": archived_jobs.ENDED, "transfer": archived.ENDED}
    past = Archive(world.central.database, kinds, lambda: time.time() + 8 * DAY)
    while await past.step() != ROUND:
        pass
    left = await world.central.rows("SELECT id FROM grid.task")
    assert [each["id"] for each in left] == [waiting]
    assert [each["task"] for each in await world.central.rows("SELECT task FROM grid.transfer")] == [waiting]
    assert {each: await look(each) for each in before} == before
    assert [each["id"] for each in await client.listing(world.ada)] == [waiting]
    assert await client.kill(world.ada, killed) == "KILLED"
    assert await client.kill(world.ada, route) == "DONE"
    again = await world.submit(lfn, "b")
    assert again != killed
    with pytest.raises(NotFound, match="there is no transfer 999"):
        await client.show(world.ada, 999)
