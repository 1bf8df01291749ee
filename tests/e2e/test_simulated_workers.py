"""Real central services and a real VO box; fifty simulated workers whose agents ask them for work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.jobs import client as jobs
from orchestrator.jobs.model import FINAL
from orchestrator.runtime.http import Api
from orchestrator.site.load import load
from orchestrator.wiring.sites import providers
from tests.e2e.grid import Grid, figure, standing, wait_for

WORKERS, JOBS = 50, 200
SPEC = f"""
vo: alice
providers:
  cloud:
    kind: sim
    parallel: 16
    latency: {{typical: 10 ms, slowest: 50 ms}}
    boot: {{typical: 200 ms, slowest: 1 s}}
    configure: {{typical: 200 ms, slowest: 1 s}}
    job: {{typical: 300 ms, slowest: 2 s}}
    offerings: {{small: {{cores: 2, price: 0.1}}}}
groups:
  central: {{role: central}}
  vobox: {{role: vobox}}
  farm: {{role: worker, provider: cloud, count: {WORKERS}, offering: small}}
"""
SHORT = 3.0  # seconds: 99 % of the short jobs end within 2
JDL = 'Executable = "/bin/echo";\nArguments = "$1";\nTTL = 600;\n'


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Grid]:
    with standing(Grid.of(tmp_path_factory.mktemp("farm"), SPEC, cache)) as grid:
        yield grid


def submitted(grid: Grid, many: int, jdl: str = JDL) -> list[int]:
    async def submit(central: Api) -> list[int]:
        told = await asyncio.gather(*(jobs.submit(central, jdl, [str(n)]) for n in range(many)))
        return [int(each["task"]) for each in told]

    return grid.ask(submit)


def shown(grid: Grid, numbers: list[int]) -> list[dict[str, Any]]:
    async def show(central: Api) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(jobs.show(central, number) for number in numbers)))

    return grid.ask(show)


def test_two_hundred_jobs_are_done_exactly_once_by_simulated_workers(farm: Grid) -> None:
    begun = time.monotonic()
    numbers = submitted(farm, JOBS)

    def all_final() -> bool:
        rows = farm.ask(lambda central: jobs.listing(central, limit=2 * JOBS))
        return Counter(row["state"] in FINAL for row in rows) == {True: JOBS}

    wait_for("all jobs are final", 60.0, all_final)
    print(figure("simulated_jobs", time.monotonic() - begun, "s", 40.0))
    done = shown(farm, numbers)
    assert {each["state"] for each in done} == {"DONE"}
    for each in done:
        moves = Counter(event["new"] for event in each["events"])
        assert (moves["STARTED"], moves["RUNNING"], moves["SAVING"], moves["DONE"]) == (1, 1, 1, 1), each
    hosts = {each["result"]["host"] for each in done}
    assert all(each["result"]["simulated"] for each in done)
    assert len(hosts) > WORKERS // 2
    told = farm.json("status")
    works = [row for row in told["machines"] if row["group"] == "farm"]
    assert {row["health"] for row in works} == {"ok"}
    contexts = farm.directory / ".orchestrate/site/sim/cloud/contexts"
    assert all('"token": ""' in (contexts / row["name"]).read_text() for row in works)  # spent ones are gone


def test_a_machine_that_is_destroyed_takes_its_agent_along_and_its_job_is_tried_again(farm: Grid) -> None:
    farm.file.write_text(SPEC.replace("{typical: 300 ms, slowest: 2 s}", "{typical: 400 s, slowest: 500 s}"))
    farm.run("status")  # tells the cloud how long jobs take now
    number, first = wait_for("one runs for longer than the short ones", 45.0, lambda: long_one(farm))
    site = load(farm.file)
    cloud = providers(site, farm.directory / ".orchestrate/site")["cloud"]
    cloud.destroy(first.partition("/")[0])
    second = wait_for("another machine has it", 45.0, lambda: running(farm, number, 2))
    assert second.partition("/")[0] != first.partition("/")[0]
    farm.run("job", "kill", str(number))
    wait_for("its agent is free again", 20.0, lambda: not tasks_of(farm, second))


def long_one(grid: Grid) -> tuple[int, str] | None:
    """A new job that runs for longer than the short ones, and who has it; None when it was a short one: agents that have
    not looked at the cloud since it was told (they do twice a second) make one of it."""
    number = submitted(grid, 1)[0]

    def length() -> str:
        (job,) = shown(grid, [number])
        began = [event["at"] for event in job["events"] if event["new"] == "RUNNING"]
        if job["state"] in FINAL:
            return "short"
        return "long" if began and time.time() - began[0] > SHORT else ""

    told = wait_for("it has ended, or has run for long", 30.0, length)
    return (number, str(grid.job(number)["resource"])) if told == "long" else None


def running(grid: Grid, number: int, attempt: int) -> str:
    """The resource that runs that attempt, "" until one does."""
    job = grid.job(number)
    return str(job["resource"]) if (job["state"], job["attempt"]) == ("RUNNING", attempt) else ""


def tasks_of(grid: Grid, resource: str) -> list[int]:
    host = resource.partition("/")[0]
    told = grid.ask(lambda central: central.get("/v1/resources", host=host))
    return [task for each in told["resources"] for task in each["tasks"]]
