"""After a restore, with everybody at work all the time: what ran goes on or runs again, and nothing is mixed up."""

from __future__ import annotations

import subprocess

import pytest

from orchestrator.auth import model as auth
from orchestrator.errors import NotAllowed
from orchestrator.jobs import client as jobs
from orchestrator.tasks import client
from orchestrator.tasks.model import Assignment, Beat
from tests.support.central import ECHO, Central
from tests.support.until import until


def _backup(machine: Central) -> bytes:
    return subprocess.run(
        machine.command("backup"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    ).stdout


def _restore(machine: Central, data: bytes) -> None:
    done = subprocess.run(machine.command("restore"), input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_attempts_since_the_backup_are_fenced_and_those_before_go_on(machine: Central) -> None:
    machine.start("central-1", "broker-1", "optimizer-1")
    await machine.ready()
    async with machine.api("ada") as ada, machine.api("vobox") as vobox:

        async def submitted() -> int:
            number = int((await jobs.submit(ada, ECHO))["task"])
            await until(lambda: machine.state(number) == "WAITING")
            return number

        async def running(number: int) -> Assignment:
            (job,) = await machine.claim()
            assert job.task == number
            assert all(each.accepted for each in await machine.report(job, "STARTED", "RUNNING"))
            return job

        goes_on, gone, failed = [await running(await submitted()) for _ in range(3)]
        await machine.report(failed, "ERROR_E")
        waits, held = await submitted(), await submitted()
        await jobs.hold(ada, held)
        data = _backup(machine)

        # What nobody will know of.
        since = [await running(waits)]
        await jobs.release(ada, held)
        since.append(await running(held))
        await jobs.resubmit(ada, failed.task)
        since.append(await running(failed.task))
        assert since[-1].attempt == 2
        since.append(await running(await submitted()))
        assert [each.accepted for each in await machine.report(gone, "SAVING", "DONE")] == [True, True]
        enrolment = machine.sign(auth.enrolment_claims("before", "cern", "farm"), ago=2)

        _restore(machine, data)

        for job in since:
            (told,) = await machine.report(job, "SAVING")
            assert not told.accepted, (job, told)
        beats = [Beat(job.task, job.attempt) for job in (*since, goes_on)]
        stale = await client.beat(vobox, beats)
        assert stale == [(job.task, job.attempt) for job in since]
        assert [each.accepted for each in await machine.report(goes_on, "SAVING", "DONE")] == [True, True]
        assert machine.state(goes_on.task) == "DONE"

        (again,) = await machine.claim()
        assert (again.task, again.attempt) == (waits, 2000)
        assert [
            each.accepted for each in await machine.report(again, "STARTED", "RUNNING", "SAVING", "DONE")
        ] == [True] * 4
        assert machine.state(held) == "HELD"
        await jobs.release(ada, held)
        (again,) = await machine.claim()
        assert (again.task, again.attempt) == (held, 2000)
        await jobs.resubmit(ada, failed.task)
        (again,) = await machine.claim()
        assert (again.task, again.attempt) == (failed.task, 2000)
        for _ in ("silent", "lost"):  # the one whose end nobody knows of
            machine.rows("UPDATE grid.task SET deadline = now() WHERE id = %s", gone.task)
            was = machine.state(gone.task)
            await until(lambda was=was: machine.state(gone.task) != was)
        (again,) = await machine.claim()
        assert (again.task, again.attempt) == (gone.task, 2000)
        left = machine.rows(
            "SELECT DISTINCT max_attempts - attempt FROM grid.task WHERE id IN (%s, %s)", waits, held
        )
        assert left == [(4,)], "as many attempts as before"
        assert machine.rows("SELECT max_attempts - attempt FROM grid.task WHERE id = %s", gone.task) == [(3,)]

        assert (await submitted()) > max(job.task for job in since)
        assert machine.rows("SELECT count(*) FROM grid.class_now WHERE waiting <> 1") == [(0,)]
        told = [event["reason"] for event in (await jobs.show(ada, waits))["events"]]
        assert any(text.startswith("central was put back to 20") for text in told), told
        with pytest.raises(NotAllowed, match="ask for a new one"):
            await ada.post("/v1/auth/redeem", {"host": "h"}, token=enrolment)
        fresh = machine.sign(auth.enrolment_claims("after", "cern", "farm"), ago=-2)
        assert (await ada.post("/v1/auth/redeem", {"host": "h"}, token=fresh))["agent"]


async def test_a_lost_database_is_put_back_into_an_empty_one(machine: Central) -> None:
    machine.start("central-1", "broker-1", "optimizer-1")
    await machine.ready()
    async with machine.api("ada", patience=20) as ada:
        number = int((await jobs.submit(ada, ECHO))["task"])
        data = _backup(machine)
        machine.rows("DROP SCHEMA grid CASCADE")
        machine.stop("central-1")
        machine.start("central-1")  # makes the schema anew
        await machine.ready("central")
        assert await jobs.listing(ada) == []
        _restore(machine, data)
        assert [each["id"] for each in await jobs.listing(ada)] == [number]
        (job,) = await machine.claim()
        assert job.task == number
        assert (await jobs.submit(ada, ECHO))["task"] > 1_000_000
