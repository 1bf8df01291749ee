"""The programs of a VO box as they run there: storage element, ClusterMonitor and FTD, one of them killed."""

from __future__ import annotations

import os
import signal

from orchestrator.agent.model import AgentConfig
from orchestrator.agent.session import Session
from orchestrator.runtime.http import Api, tls_context
from orchestrator.transfers import client, model
from orchestrator.transfers.ftd import ftd_ad
from tests.support.same import same
from tests.support.until import until

from .conftest import World

ALL = ("clustermonitor", "se", "ftd")


async def test_a_killed_ftd_is_followed_by_another(world: World) -> None:
    here = await world.site("here", "a")
    there = await world.site("there", "b", programs=ALL)
    made = await world.put("big", os.urandom(64 << 20), "a")
    here.process.send_signal(signal.SIGSTOP)  # so the transfer stands still when its FTD dies
    transfer = await world.submit(made.lfn, "b")

    async def state() -> str:
        return str((await client.show(world.ada, transfer))["state"])

    async def transferring() -> bool:
        return await state() == model.TRANSFERRING

    await until(transferring)
    await there.stop("ftd", how=signal.SIGKILL)
    here.process.send_signal(signal.SIGCONT)

    async def lost() -> bool:
        return bool((await client.show(world.ada, transfer))["attempt"] > 1)

    await until(lost)
    there.start("ftd")
    found = await world.ends(transfer, 60)
    seen = [event["new"] for event in found["events"]]
    assert seen[3:8] == ["TRANSFERRING", "ZOMBIE", "LOST", "WAITING", "INSERTING"], seen
    assert (found["state"], found["attempt"] > 1) == (model.DONE, True)
    assert await world.where(made.lfn) == {"a", "b"}
    assert same(here.file("a", made.guid), there.file("b", made.guid))


async def test_a_killed_transfer_stops_at_the_ftd_and_sigterm_gives_back(world: World) -> None:
    here = await world.site("here", "a")
    there = await world.site("there", "b", programs=ALL)
    files = [await world.put(f"f{number}", os.urandom(20 << 20), "a") for number in range(2)]
    here.process.send_signal(signal.SIGSTOP)
    killed, back = [await world.submit(each.lfn, "b") for each in files]

    async def both() -> bool:
        return {(await client.show(world.ada, each))["state"] for each in (killed, back)} == {"TRANSFERRING"}

    await until(both)
    assert await client.kill(world.ada, killed) == model.KILLED

    async def obeyed() -> bool:
        found = await world.central.rows("SELECT done FROM grid.command")
        return bool(found) and all(each["done"] for each in found)

    await until(obeyed)
    await there.stop("ftd")
    found = await client.show(world.ada, back)
    assert "the FTD is leaving" in " ".join(event["reason"] for event in found["events"])
    here.process.send_signal(signal.SIGCONT)
    there.start("ftd")
    assert (await world.ends(back, 60))["state"] == model.DONE
    assert not there.file("b", files[0].guid).exists()


async def test_a_job_agent_that_calls_itself_an_ftd_gets_no_file(world: World) -> None:
    await world.site("here", "a")
    there = await world.site("there", "b", programs=("clustermonitor", "se"))
    made = await world.put("secret", b"x", "a")
    transfer = await world.submit(made.lfn, "b")

    async def waiting() -> bool:
        return bool((await client.show(world.ada, transfer))["state"] == model.WAITING)

    await until(waiting)
    monitor, tls = f"https://{there.address}:8445", tls_context(there.root / "etc/tls/ca.pem")
    ad = ftd_ad("node", ["b"], 0, ["https"]) | {"Requirements": 'other.Type == "transfer"'}
    got = {}
    for ce in ("farm", model.FTD):
        token = world.central.issuer.enrolment("there", ce, 600)["token"]
        config = AgentConfig(clustermonitor=monitor, ca="", workdir="", token=token)
        async with Api(monitor, tls) as api:
            claimed = await Session(api, config, "node").claim(ad, wait=0, claim_id="x")
            got[ce] = [each.task for each in claimed.tasks]
    assert got == {"farm": [], model.FTD: [transfer]}
