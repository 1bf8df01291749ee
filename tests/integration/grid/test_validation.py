"""ValidationCommand: a job of its own looks at the outputs; its end is the verdict."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from orchestrator.errors import PermanentError, UserError
from orchestrator.jobs import client as jobs
from orchestrator.jobs import compose, model, store
from orchestrator.jobs.jdl import read
from orchestrator.runtime.sql import Database
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.model import Assignment
from orchestrator.tasks.store import New

from .conftest import DEFAULTS, Files, Grid, recount

JDL = """
Executable = "/bin/echo"; Arguments = "hello"; OutputFile = {"stdout", "histos.root"}; TTL = 600;
ValidationCommand = "LF:/grid/bin/check.sh --strict 'a b'"; MemorySize = "1 GB"; JobTag = "mc26";
"""


async def ended(grid: Grid, jdl: str = JDL) -> int:
    """A job that is DONE, with its outputs booked."""
    grid.files.texts["/grid/bin/check.sh"] = "#!/bin/sh\n"
    job = int((await jobs.submit(grid.central, jdl))["task"])
    (given,) = await grid.claim()
    assert given.task == job
    await grid.finish(given)
    return job


async def test_what_the_validation_is_and_that_it_accepts(grid: Grid) -> None:
    job = await ended(grid)
    (check,) = await grid.claim()
    shown = await jobs.show(grid.central, job)
    assert (shown["state"], shown["parts"]) == ("DONE", {})
    assert shown["validation"] == {"job": check.task, "state": "ASSIGNED", "reason": ""}
    home = f"/grid/user/a/ada/jobs/{job}"
    assert check.jdl["Executable"] == "./check.sh"
    assert check.jdl["Arguments"] == "--strict 'a b'"
    assert check.jdl["InputData"] == [f"{home}/stdout", f"{home}/histos.root"]
    assert check.jdl["Inputs"] == [
        {"lfn": f"{home}/stdout", "name": "stdout"},
        {"lfn": f"{home}/histos.root", "name": "histos.root"},
        {"lfn": "/grid/bin/check.sh", "name": "check.sh", "executable": True},
    ]
    assert (check.jdl["OutputFile"], check.jdl["OutputDir"]) == (["stdout", "stderr"], f"{home}/validation/1")
    assert (check.jdl["TTL"], check.jdl["MemorySize"], check.jdl["JobTag"]) == (600, 10**9, "mc26")
    assert "ValidationCommand" not in check.jdl
    assert check.user == "ada"
    assert all(result.accepted for result in await grid.finish(check))
    shown = await jobs.show(grid.central, job)
    assert (shown["state"], shown["reason"]) == ("VALIDATED", f"accepted by job {check.task}")
    assert shown["validation"]["state"] == "DONE"
    assert len(shown["outputs"]) == 2
    assert await jobs.listing(grid.central, master=0) != []
    assert [each["id"] for each in await jobs.listing(grid.central, master=0)] == [job]
    assert await pending(grid.database) == []
    await recount(grid.database)


async def pending(database: Database) -> list[int]:
    async with database.transaction() as connection:
        return await store.to_validate(connection)


async def test_one_that_rejects_fails_the_job_and_a_resubmission_is_validated_anew(grid: Grid) -> None:
    job = await ended(grid)
    (check,) = await grid.claim()
    await grid.report(
        check, "STARTED", "RUNNING", "ERROR_E", reason="EXIT_CODE: exited with 3", facts={"code": "EXIT_CODE"}
    )
    shown = await jobs.show(grid.central, job)
    assert shown["state"] == "FAILED"
    assert shown["reason"] == f"rejected by job {check.task}: EXIT_CODE: exited with 3"
    with pytest.raises(PermanentError, match=f"resubmit {job}"):
        await jobs.resubmit(grid.central, check.task)
    assert await jobs.resubmit(grid.central, job) == "WAITING"
    (again,) = await grid.claim()
    assert (again.task, again.attempt) == (job, 2)
    assert (await jobs.show(grid.central, job))["validation"] is None
    await grid.finish(again)
    (second,) = await grid.claim()
    assert second.task != check.task
    assert second.jdl["OutputDir"].endswith("/validation/2")
    await grid.finish(second)
    assert await grid.state(job) == "VALIDATED"


@pytest.mark.parametrize(
    ("states", "facts", "says", "wanted"),
    [
        (("STARTED", "ERROR_IB"), {"code": "NO_INPUT"}, "ERROR_IB", "ERROR_VN"),
        (("STARTED", "RUNNING", "ERROR_E"), {"code": "SIGNAL"}, "ERROR_E", "ERROR_VN"),
        (("STARTED", "RUNNING", "ERROR_E"), {"code": "NOT_EXECUTABLE"}, "ERROR_E", "ERROR_VN"),
        (("STARTED", "RUNNING", "SAVING", "ERROR_SV"), {}, "could not be stored", "VALIDATED"),
    ],
)
async def test_the_verdict_of_other_ends(
    grid: Grid, states: tuple[str, ...], facts: dict[str, Any], says: str, wanted: str
) -> None:
    """One that could not run gives none; one whose command exited with 0 accepts."""
    job = await ended(grid)
    (check,) = await grid.claim()
    await grid.report(check, *states, facts=facts, reason="it went wrong")
    shown = await jobs.show(grid.central, job)
    assert (shown["state"], says in shown["reason"]) == (wanted, True)


async def test_one_that_is_killed_or_cannot_be_made(grid: Grid) -> None:
    job = await ended(grid)
    (check,) = await grid.claim()
    await jobs.kill(grid.central, check.task)
    assert await grid.state(job) == "ERROR_VN"
    missing = await ended(grid, JDL.replace("check.sh", "none.sh"))
    await grid.until(missing, "ERROR_VN")
    assert (
        "/grid/bin/none.sh is not a file of the catalogue"
        in (await jobs.show(grid.central, missing))["reason"]
    )
    same = await ended(grid, JDL.replace('"stdout", "histos.root"', '"check.sh"'))
    await grid.until(same, "ERROR_VN")
    assert "both be named check.sh" in (await jobs.show(grid.central, same))["reason"]
    for bad in ('ValidationCommand = "  ";', 'ValidationCommand = "a \'b";'):
        with pytest.raises(UserError, match="1:19: ValidationCommand"):
            await jobs.submit(grid.central, f'Executable = "x"; {bad}')


async def test_a_master_waits_for_the_verdicts_of_its_parts(grid: Grid) -> None:
    grid.files.texts["/grid/bin/check.sh"] = ""
    split = (
        'Split = "production:1-2"; OutputDir = "/grid/user/a/ada/p/#alien_counter#"; MaxFailFraction = 0.5;'
    )
    master = int((await jobs.submit(grid.central, JDL + split))["task"])
    for _ in range(2):
        (part,) = await grid.claim(Name="a")
        await grid.finish(part)
    checks = [(await grid.claim())[0] for _ in range(2)]
    assert await grid.state(master) == "SPLIT"
    await grid.finish(checks[0])
    await grid.optimizer.step()
    assert await grid.state(master) == "SPLIT"
    await grid.report(checks[1], "STARTED", "RUNNING", "ERROR_E", facts={"code": "EXIT_CODE"})
    await grid.until(master, "DONE_WARN")
    shown = await jobs.show(grid.central, master)
    assert (shown["parts"], shown["validation"]) == ({"FAILED": 1, "VALIDATED": 1}, None)
    assert "1 of 2 parts failed" in shown["reason"]
    assert await pending(grid.database) == []


class Killed(BaseException):
    """Stands for SIGKILL at a statement: the server rolls the open transaction back."""


async def test_an_optimizer_that_is_killed_at_any_statement_leaves_one_validation(database: Database) -> None:
    files = Files({"/grid/bin/check.sh": ""})
    optimizer = compose.optimizer(database, files, DEFAULTS)
    spec = {"jdl": read(JDL, [], DEFAULTS).attributes, "own": ""}
    outputs = {"outputs": [{"lfn": "/grid/out/stdout"}]}
    files.texts["/grid/out/stdout"] = ""
    killed = 0
    for steps in range(1, 40):
        async with database.transaction() as connection:
            (job,) = await tasks.submit(connection, "job", "ada", model.DONE, [New(spec)], actor="test")
        await database.rows("UPDATE grid.task SET result = %(r)s WHERE id = %(id)s", r=Jsonb(outputs), id=job)
        assert await pending(database) == [job]
        with pytest.MonkeyPatch.context() as patch:
            left, real = [steps], psycopg.AsyncConnection.execute

            async def execute(self: Any, *given: Any, **more: Any) -> Any:
                if left[0] == 0:  # noqa: B023
                    raise Killed
                left[0] -= 1  # noqa: B023
                return await real(self, *given, **more)  # noqa: B023

            patch.setattr(psycopg.AsyncConnection, "execute", execute)
            try:
                await optimizer._validate(job)
                died = False
            except Killed:
                died = True
        children = "SELECT id, spec ->> 'role' AS role FROM grid.task WHERE parent = %(id)s"
        assert len(await database.rows(children, id=job)) == (0 if died else 1)
        await asyncio.gather(*(optimizer._validate(job) for _ in range(3)))  # sweeps of several optimizers
        await optimizer.step()
        assert [each["role"] for each in await database.rows(children, id=job)] == ["validate"]
        assert await pending(database) == []
        if not died:
            break
        killed += 1
    assert killed >= 5


class TestLost:
    @pytest.fixture
    def patience(self) -> Patience:
        return Patience(acknowledge=0.3, silence=0.3, grace=0.3)

    async def test_a_validation_whose_agent_dies_goes_on_with_its_next_attempt(self, grid: Grid) -> None:
        job = await ended(grid)
        first: Assignment
        (first,) = await grid.claim()
        await grid.report(first, "STARTED", "RUNNING")
        (second,) = await grid.claim(wait=20, Name="agent-2")
        assert (second.task, second.attempt) == (first.task, 2)
        assert await grid.state(job) == "DONE"
        await grid.finish(second)
        assert await grid.state(job) == "VALIDATED"

    async def test_one_that_is_lost_for_good(self, grid: Grid) -> None:
        job = await ended(grid)
        await asyncio.gather(*(grid.claim(wait=20, Name=f"agent-{n}") for n in range(5)))
        assert await grid.until(job, "ERROR_VN") == "ERROR_VN"
        assert model.ERROR_A in (await jobs.show(grid.central, job))["reason"]
