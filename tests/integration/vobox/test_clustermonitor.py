"""The ClusterMonitor against a central that comes and goes."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from orchestrator.errors import NotAllowed


async def _wait(true: Any, what: str) -> None:
    for _ in range(750):
        if true():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{what} did not come")


def _report(task: int, to: str) -> dict[str, Any]:
    return {"task": task, "attempt": 1, "to": to, "reason": "", "facts": {}, "outputs": []}


async def test_reports_survive_central_and_clustermonitor_and_arrive_once_in_order(
    machine: Any, central: Any
) -> None:
    process = machine.start("clustermonitor")
    await machine.ready()
    async with machine.api() as api:
        token = central.job_token(7)
        told = await api.post("/v1/reports", {"reports": [_report(7, "STARTED")]}, token=token)
        assert told["results"][0]["accepted"]
        await central.stop()
        for to in ("RUNNING", "SAVING"):
            told = await api.post("/v1/reports", {"reports": [_report(7, to)]}, token=token, timeout=20)
            assert told["results"][0]["accepted"], "kept on disk counts as taken"
        assert central.states(7) == ["STARTED"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(list((machine.root / "data/spool").glob("*.json"))) == 2
        machine.start("clustermonitor")
        await machine.ready()
        await central.start()
        await _wait(lambda: len(central.states(7)) == 3, "kept reports")
        await api.post("/v1/reports", {"reports": [_report(7, "DONE")]}, token=token)
    await _wait(lambda: not list((machine.root / "data/spool").glob("*.json")), "empty spool")
    assert central.states(7) == ["STARTED", "RUNNING", "SAVING", "DONE"]


async def test_a_job_token_speaks_for_its_own_attempt_only(machine: Any, central: Any) -> None:
    machine.start("clustermonitor")
    await machine.ready()
    async with machine.api() as api:
        with pytest.raises(NotAllowed, match="own attempt"):
            await api.post("/v1/reports", {"reports": [_report(8, "DONE")]}, token=central.job_token(7))
        with pytest.raises(NotAllowed):
            await api.post("/v1/claim", {"ad": {}}, token=central.job_token(7))
        with pytest.raises(NotAllowed):
            await api.post("/v1/enrolments", {"ce": "farm"}, token=central.job_token(7))
    assert central.reports == []


async def test_heartbeats_travel_in_batches_and_bring_kills_back(machine: Any, central: Any) -> None:
    machine.start("clustermonitor")
    await machine.ready()
    async with machine.api() as api:
        agent = (await api.post("/v1/redeem", {"host": "h"}, token=central.enrolment("one")))["token"]
        central.stale.add((2, 1))
        for number in range(1, 21):
            beat = {"task": number, "attempt": 1, "usage": {"wall": 1}}
            body = {"beats": [beat], "agent": agent}
            await api.post("/v1/beats", body, token=central.job_token(number))
        await _wait(lambda: len(central.beats) >= 20, "heartbeats")
        assert len(central.calls) <= 3, "twenty heartbeats, a call or two"
        told = await api.get("/v1/commands", wait=5, token=agent, timeout=10)
        assert [(c["task"], c["verb"]) for c in told["commands"]] == [(2, "kill")]


async def test_commands_reach_the_agent_that_runs_the_task_and_no_other(machine: Any, central: Any) -> None:
    machine.start("clustermonitor")
    await machine.ready()
    async with machine.api() as api:
        tokens = [
            (await api.post("/v1/redeem", {"host": "h"}, token=central.enrolment(str(n))))["token"]
            for n in (1, 2)
        ]
        central.job(5)
        claimed = await api.post("/v1/claim", {"ad": {"Host": "h"}, "wait": 1, "claim": "c"}, token=tokens[0])
        assert [task["task"] for task in claimed["tasks"]] == [5]
        assert central.claims[-1]["ad"]["Site"] == "testsite"
        assert central.claims[-1]["ad"]["CE"] == "farm"
        assert central.claims[-1]["ad"]["CloseSE"] == ["disk"]
        central.commands[1] = {"id": 1, "task": 5, "attempt": 1, "verb": "peek", "facts": {}}
        central.wake.set()
        told = await api.get("/v1/commands", wait=10, token=tokens[0], timeout=15)
        assert [c["id"] for c in told["commands"]] == [1]
        assert (await api.get("/v1/commands", wait=0, token=tokens[1]))["commands"] == []
        with pytest.raises(NotAllowed):
            await api.post("/v1/commands/1", {"answer": {"stdout": "forged"}}, token=tokens[1])
        await api.post("/v1/commands/1", {"answer": {"stdout": "so far"}}, token=tokens[0])
        assert central.answers == {1: {"stdout": "so far"}}
        with pytest.raises(NotAllowed, match="spent"):
            await api.post("/v1/redeem", {"host": "h"}, token=central.enrolment("1"))


async def test_an_agent_that_hung_up_gets_no_job(machine: Any, central: Any) -> None:
    machine.start("clustermonitor")
    await machine.ready()
    async with machine.api() as api:
        token = (await api.post("/v1/redeem", {"host": "h"}, token=central.enrolment("x")))["token"]
        asking = asyncio.create_task(api.post("/v1/claim", {"ad": {}, "wait": 20, "claim": "c"}, token=token))
        await _wait(lambda: central.claims, "claim")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    central.job(9)
    await _wait(lambda: central.states(9) == ["WAITING"], "the job given back")
