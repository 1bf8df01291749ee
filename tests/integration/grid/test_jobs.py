"""Jobs from submission to their end, over HTTP, on a real database."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from orchestrator.errors import NotAllowed, PermanentError, UserError
from orchestrator.jobs import client as jobs
from orchestrator.tasks import client as tasks
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.model import Beat, Report
from orchestrator.wiring.workload import agents_of, judged

from .conftest import Grid, api, guid, machine, recount

ECHO = 'Executable = "/bin/echo"; Arguments = "hello $1";'
PRODUCTION = """
Executable = "/grid/jdl/generate.sh";
Arguments = "--seed #alien_counter#";
Split = "production:1-3";
OutputDir = "/grid/user/a/ada/prod/#alien_counter_03i#";
OutputFile = {"histograms.json"};
Merge = {"histograms.json:/grid/jdl/merge.jdl:merged.json"};
"""


async def submit(grid: Grid, jdl: str, *arguments: str) -> int:
    return int((await jobs.submit(grid.central, jdl, arguments))["task"])


async def test_echo_is_done_and_its_output_booked(grid: Grid) -> None:
    job = await submit(grid, ECHO, "world")
    (given,) = await grid.claim()
    assert (given.task, given.attempt, given.kind, given.user, given.site) == (job, 1, "job", "ada", "CERN")
    assert given.jdl["Arguments"] == "hello world"
    assert given.token == f"job:{job}:1:ada:CERN:25200"
    assert all(result.accepted for result in await grid.finish(given))
    shown = await jobs.show(grid.central, job)
    assert shown["state"] == "DONE"
    assert [event["new"] for event in shown["events"]] == [
        "INSERTING", "WAITING", "ASSIGNED", "STARTED", "RUNNING", "SAVING", "DONE",
    ]  # fmt: skip
    assert [event["seq"] for event in shown["events"]] == [1, 2, 3, 4, 5, 6, 7]
    booked = await grid.rows("SELECT path FROM grid.entry WHERE guid IS NOT NULL ORDER BY path")
    assert [each["path"] for each in booked] == [
        f"/grid/user/a/ada/jobs/{job}/{n}" for n in ("stderr", "stdout")
    ]
    assert set(shown["times"]) == {"INSERTING", "WAITING", "ASSIGNED", "STARTED", "RUNNING", "SAVING"}
    await recount(grid.database)


async def test_a_waiting_agent_is_woken_at_once(grid: Grid) -> None:
    spent = []
    for number in range(5):
        asking = asyncio.ensure_future(grid.claim(wait=20, Name=f"agent-{number}"))
        await grid.rows("SELECT 1")
        job = await submit(grid, ECHO, "x")
        (given,) = await asking
        shown = await jobs.show(grid.central, job)
        at = {event["new"]: event["at"] for event in shown["events"]}
        spent.append(at["ASSIGNED"] - at["INSERTING"])
        await grid.finish(given)
    assert sorted(spent)[2] < 0.25


async def test_a_drained_host_gets_no_job_until_the_drain_is_undone(grid: Grid) -> None:
    await grid.until(await submit(grid, ECHO, "x"), "WAITING")
    async with api(grid.base, "root") as root:
        (given,) = await grid.claim(Name="node-1/1")  # it never had to wait, and is known all the same
        await grid.finish(given)
        job = await submit(grid, ECHO, "y")
        await grid.until(job, "WAITING")
        await root.post("/v1/resources/drain", {"host": "node-1"})
        assert await grid.claim(wait=0, Name="node-1/1") == []
        await root.post("/v1/resources/undrain", {"host": "node-1"})
        assert [given.task for given in await grid.claim(Name="node-1/1")] == [job]
    with pytest.raises(NotAllowed):
        await grid.central.post("/v1/resources/undrain", {"host": "node-1"})


async def test_the_agents_of_a_host_and_of_a_site_are_told_with_their_tasks(grid: Grid) -> None:
    await grid.until(await submit(grid, ECHO, "x"), "WAITING")
    (given,) = await grid.claim(Name="node-1/1", Host="node-1", Isolation="root: no other account")
    for name in ("node-1/2", "node-2/1", "node-20/1"):
        assert await grid.claim(wait=0, Name=name) == []
    one = (await grid.central.get("/v1/resources", host="node-1"))["resources"]
    all_of_them = (await grid.central.get("/v1/resources", site="CERN"))["resources"]
    assert {each["name"] for each in one} == {"node-1/1", "node-1/2"}
    assert {each["name"]: each["tasks"] for each in all_of_them} == {
        "node-1/1": [given.task], "node-1/2": [], "node-2/1": [], "node-20/1": [],
    }  # fmt: skip
    found = {each["name"]: each for each in all_of_them}
    assert found["node-1/1"]["isolation"] == "root: no other account"
    assert all(found[each["name"]] | {"age": each["age"]} == each for each in one)
    assert (await grid.central.get("/v1/resources", site="elsewhere"))["resources"] == []
    for bad in ({}, {"host": "node-1", "site": "CERN"}):
        with pytest.raises(UserError):
            await grid.central.get("/v1/resources", **bad)


async def test_how_thousands_of_workers_are_is_one_question(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grid.until(await submit(grid, ECHO, "x"), "WAITING")
    (given,) = await grid.claim(Name="w-1/1", Host="w-1")
    await grid.rows(
        "INSERT INTO grid.resource (name, site, ad, seen) SELECT 'w-' || n || '/1', site, ad,"
        " now() - interval '1 hour' * (n %% 2) FROM grid.resource, generate_series(2, 5000) n"
    )
    await grid.rows("UPDATE grid.resource SET seen = now() - interval '1 hour' WHERE name = 'w-1/1'")
    asked: list[tuple[str, object]] = []
    call = grid.central.call

    async def noted(method: str, path: str, **more: Any) -> Any:
        asked.append((path, more["params"]))
        return await call(method, path, **more)

    monkeypatch.setattr(grid.central, "call", noted)
    found = await agents_of(grid.central, "CERN", [f"w-{n}" for n in range(1, 5002)])
    assert asked == [("/v1/resources", {"host": None, "site": "CERN"})]
    told = {name: judged(agents) for name, agents in found.items()}
    assert told["w-1"].ok  # it asked an hour ago, and has a task since
    assert found["w-1"][0]["tasks"] == [given.task]
    assert [told[name].ok for name in ("w-2", "w-3", "w-4", "w-5001")] == [True, False, True, False]
    assert sum(health.ok for health in told.values()) == 2501


async def test_a_submission_delivered_twice_is_one_job(grid: Grid) -> None:
    first = await jobs.submit(grid.central, ECHO, ["a"], "the-same")
    assert await jobs.submit(grid.central, ECHO, ["a"], "the-same") == first
    assert len(await jobs.listing(grid.central)) == 1


async def test_bad_jdl_touches_nothing_and_names_every_problem(grid: Grid) -> None:
    with pytest.raises(UserError) as caught:
        await submit(grid, 'TTL = "soon";\nOutputDir = "here";\nSplit = "nothing:1";')
    found = [(p["line"], p["column"]) for p in caught.value.facts["problems"]]
    assert found == [(1, 1), (1, 1), (2, 1), (3, 1)]
    assert await jobs.listing(grid.central) == []


async def test_production_is_split_merged_and_done(grid: Grid) -> None:
    grid.files.texts = {
        "/grid/jdl/generate.sh": "#!/bin/sh\n",
        "/grid/jdl/merge.jdl": 'Executable = "/bin/cat"; Arguments = "*/histograms.json";',
    }
    master = await submit(grid, PRODUCTION)
    await grid.until(master, "SPLIT")
    parts = [(await grid.claim())[0] for _ in range(3)]
    assert [part.jdl["Arguments"] for part in parts] == [f"--seed {n}" for n in (1, 2, 3)]
    assert parts[0].jdl["Executable"] == "./generate.sh"
    assert parts[0].jdl["Inputs"] == [
        {"lfn": "/grid/jdl/generate.sh", "name": "generate.sh", "executable": True}
    ]
    for part in parts:
        await grid.finish(part)
    (merge,) = await grid.claim()
    assert await grid.state(master) == "MERGING"
    assert merge.jdl["Inputs"] == [
        {"lfn": f"/grid/user/a/ada/prod/{n:03d}/histograms.json", "name": f"{n:03d}/histograms.json"}
        for n in (1, 2, 3)
    ]
    assert (merge.jdl["OutputDir"], merge.jdl["OutputFile"]) == ("/grid/user/a/ada/prod", ["merged.json"])
    await grid.finish(merge)
    assert await grid.until(master, "DONE") == "DONE"
    assert (await jobs.show(grid.central, master))["parts"] == {"DONE": 4}
    await recount(grid.database)


async def test_a_failed_part_fails_the_master_and_resubmission_runs_that_part_alone(grid: Grid) -> None:
    master = await submit(grid, 'Executable = "x"; Split = "production:1-2";')
    first, second = (await grid.claim())[0], (await grid.claim())[0]
    await grid.finish(first)
    await grid.report(second, "STARTED", "RUNNING", "ERROR_E", reason="EXIT_CODE 3")
    await grid.until(master, "ERROR_E")
    with pytest.raises(PermanentError, match=f"resubmit {master}"):
        await jobs.resubmit(grid.central, second.task)
    assert await jobs.resubmit(grid.central, master) == "SPLITTING"
    (repeated,) = await grid.claim()
    assert (repeated.task, repeated.attempt) == (second.task, 2)
    await grid.finish(repeated)
    await grid.until(master, "DONE")


async def test_merge_that_cannot_be_made_is_error_m(grid: Grid) -> None:
    grid.files.texts = {"/grid/jdl/generate.sh": ""}
    master = await submit(grid, PRODUCTION)
    for _ in range(3):
        await grid.finish((await grid.claim())[0])
    await grid.until(master, "ERROR_M")
    assert "/grid/jdl/merge.jdl" in (await jobs.show(grid.central, master))["reason"]
    grid.files.texts["/grid/jdl/merge.jdl"] = 'Executable = "cat";'
    await jobs.resubmit(grid.central, master)
    await grid.finish((await grid.claim())[0])
    await grid.until(master, "DONE")


async def test_missing_input_is_error_i(grid: Grid) -> None:
    job = await submit(grid, 'Executable = "cat"; InputFile = {"LF:/grid/nowhere"};')
    await grid.until(job, "ERROR_I")
    assert "/grid/nowhere" in (await jobs.show(grid.central, job))["reason"]


async def test_kill_reaches_parts_and_their_agents(grid: Grid) -> None:
    master = await submit(grid, 'Executable = "x"; Split = "production:1-3";')
    (running,) = await grid.claim()
    await grid.report(running, "STARTED", "RUNNING")
    assert await jobs.kill(grid.central, master) == "KILLED"
    assert {job["state"] for job in await jobs.listing(grid.central, master=master)} == {"KILLED"}
    (command,) = await tasks.commands(grid.vobox, wait=5)
    assert (command.task, command.attempt, command.verb) == (running.task, 1, "kill")
    await tasks.answer(grid.vobox, command.id, {})
    assert await tasks.beat(grid.vobox, [Beat(running.task, 1)]) == [(running.task, 1)]
    (late,) = await grid.report(running, "SAVING")
    assert (late.accepted, late.state) == (False, "KILLED")
    assert await grid.claim(wait=0) == []
    await recount(grid.database)


async def test_only_the_owner_or_an_admin_may_kill(grid: Grid) -> None:
    job = await submit(grid, ECHO, "x")
    async with api(grid.base, "bob") as bob, api(grid.base, "root") as root:
        with pytest.raises(NotAllowed, match="belongs to ada"):
            await jobs.kill(bob, job)
        assert await jobs.kill(root, job) == "KILLED"


async def test_peek_asks_the_agent(grid: Grid) -> None:
    job = await submit(grid, ECHO, "x")
    (given,) = await grid.claim()
    asking = asyncio.ensure_future(jobs.peek(grid.central, job))
    (command,) = await tasks.commands(grid.vobox, wait=5)
    assert (command.verb, command.task) == ("peek", given.task)
    await tasks.answer(grid.vobox, command.id, {"stdout": "so far", "stderr": ""})
    assert await asking == {"stdout": "so far", "stderr": ""}


async def test_why_names_the_requirement_that_excludes_every_resource(grid: Grid) -> None:
    job = await submit(grid, 'Executable = "x"; Packages = {"Pythia::8"}; MemorySize = "64 GB";')
    await grid.until(job, "WAITING")
    assert "no resource has asked" in (await jobs.why(grid.central, job))["reasons"][0]
    assert await grid.claim(wait=0) == []
    told: dict[str, Any] = await jobs.why(grid.central, job)
    assert len(told["reasons"]) == 1
    assert "MemorySize" in told["reasons"][0]
    satisfied = {each["text"]: each["satisfied"] for each in told["requirements"]}
    assert satisfied["package Pythia::8 is installed or can be"] == 1


async def test_outputs_that_cannot_be_booked_make_error_sv_and_book_nothing(grid: Grid) -> None:
    jdl = 'Executable = "x"; OutputDir = "/grid/user/a/ada/same"; OutputFile = {"a"};'
    first, second = await submit(grid, jdl), await submit(grid, jdl)
    one, two = (await grid.claim())[0], (await grid.claim())[0]
    assert (await grid.finish(one))[-1].accepted
    refused = (await grid.finish(two))[-1]
    assert (refused.accepted, refused.state) == (False, "ERROR_SV")
    assert [await grid.state(first), await grid.state(second)] == ["DONE", "ERROR_SV"]
    guids = await grid.rows("SELECT guid FROM grid.entry WHERE guid IS NOT NULL")
    assert [str(each["guid"]) for each in guids] == [guid(one, "a")]


async def test_a_repeated_report_is_accepted_once(grid: Grid) -> None:
    await submit(grid, ECHO, "x")
    (given,) = await grid.claim()
    await grid.finish(given)
    (again,) = await grid.report(given, "DONE")
    assert again.accepted
    (events,) = await grid.rows("SELECT count(*) AS n FROM grid.task_event WHERE new = 'DONE'")
    assert events["n"] == 1


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["SAVING"], False),
        (["STARTED", "DONE"], False),
        (["STARTED", "KILLED"], False),
        (["STARTED", "RUNNING"], True),
    ],
)
async def test_illegal_reports_are_refused(grid: Grid, states: list[str], wanted: bool) -> None:
    await submit(grid, ECHO, "x")
    (given,) = await grid.claim()
    assert (await grid.report(given, *states))[-1].accepted is wanted


async def test_another_site_cannot_report(grid: Grid) -> None:
    await submit(grid, ECHO, "x")
    (given,) = await grid.claim()
    async with api(grid.base, "vobox@Elsewhere") as other:
        (verdict,) = await tasks.report(other, [Report(given.task, 1, "STARTED")])
        assert not verdict.accepted
        assert await tasks.beat(other, [Beat(given.task, 1)]) == [(given.task, 1)]


async def test_preempted_waits_again_and_it_costs_no_attempt(grid: Grid) -> None:
    job = await submit(grid, ECHO, "x")
    for attempt in range(1, 8):
        (given,) = await grid.claim(Name=f"agent-{attempt}")
        assert given.attempt == attempt
        (verdict,) = (await grid.report(given, "STARTED", "RUNNING"))[-1:]
        assert verdict.accepted
        (verdict,) = await grid.report(given, "WAITING", reason="preempted by the batch system")
        assert (verdict.accepted, verdict.state) == (True, "WAITING")
    (stale,) = await grid.report(given, "SAVING")
    assert not stale.accepted
    assert await grid.state(job) == "WAITING"
    await recount(grid.database)


class TestSilence:
    @pytest.fixture
    def patience(self) -> Patience:
        return Patience(acknowledge=0.3, silence=0.3, grace=0.3)

    async def test_an_agent_that_never_spoke(self, grid: Grid) -> None:
        job = await submit(grid, ECHO, "x")
        for attempt in range(1, 6):
            (given,) = await grid.claim(wait=20, Name=f"agent-{attempt}")
            assert given.attempt == attempt
        assert await grid.until(job, "ERROR_A") == "ERROR_A"
        await recount(grid.database)

    async def test_a_killed_agent(self, grid: Grid) -> None:
        job = await submit(grid, ECHO, "x")
        (first,) = await grid.claim()
        await grid.report(first, "STARTED", "RUNNING")
        (second,) = await grid.claim(wait=20, Name="agent-2")
        assert (second.task, second.attempt) == (job, 2)
        (stale,) = await grid.report(first, "SAVING")
        assert not stale.accepted
        shown = await jobs.show(grid.central, job)
        assert [event["new"] for event in shown["events"]][4:9] == [
            "RUNNING", "ZOMBIE", "EXPIRED", "WAITING", "ASSIGNED",
        ]  # fmt: skip

    async def test_one_that_beats_keeps_its_job_and_one_that_speaks_again_gets_it_back(
        self, grid: Grid
    ) -> None:
        job = await submit(grid, ECHO, "x")
        (given,) = await grid.claim()
        await grid.report(given, "STARTED", "RUNNING")
        give_up = time.monotonic() + 1.0
        while time.monotonic() < give_up:
            assert await tasks.beat(grid.vobox, [Beat(given.task, 1, {"cpu": 1.5})]) == []
        assert await grid.state(job) == "RUNNING"
        await grid.until(job, "ZOMBIE")
        assert await tasks.beat(grid.vobox, [Beat(given.task, 1)]) == []
        assert await grid.state(job) == "RUNNING"
        await grid.until(job, "ZOMBIE")
        assert (await grid.report(given, "SAVING"))[0].accepted
        assert (await grid.report(given, "DONE"))[0].accepted
        assert (await jobs.show(grid.central, job))["attempt"] == 1


async def test_over_waiting(grid: Grid) -> None:
    job = await submit(grid, 'Executable = "x"; MaxWaitingTime = 1; MemorySize = "900 GB";')
    await grid.until(job, "WAITING")
    await grid.until(job, "ERROR_EW")
    await recount(grid.database)


async def test_demand_counts_what_a_resource_could_do(grid: Grid) -> None:
    master = await submit(grid, 'Executable = "x"; Split = "production:1-7";')
    other = await submit(grid, 'Executable = "x"; MemorySize = "900 GB";')
    await grid.until(master, "SPLIT")
    await grid.until(other, "WAITING")
    assert await tasks.demand(grid.broker, machine()) == 7
    assert await tasks.demand(grid.broker, machine(Cores=0)) == 0
