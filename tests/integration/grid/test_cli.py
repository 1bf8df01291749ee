"""``orchestrate job …`` against a real central over HTTP; only the way to it (site.yaml, login) is replaced."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import Result

from orchestrator.cli import job as verbs
from orchestrator.errors import NotFound, UserError
from tests.support.verbs import Invoke, invoker

from .conftest import Grid, api


@pytest.fixture
def run(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a verb as ada."""
    invoke = invoker("job", verbs.register, lambda who: api(grid.base, who), "grid", monkeypatch, 140)

    async def run(*words: object) -> Result:
        return await invoke("ada", *words)

    return run


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    file = tmp_path / "hello.jdl"
    file.write_text('Executable = "/bin/echo";\nArguments = "hello $1";\n')
    return file


async def test_from_submit_to_show(grid: Grid, run: Invoke, hello: Path) -> None:
    watching = asyncio.ensure_future(run("submit", hello, "world", "--watch"))
    await grid.finish((await grid.claim())[0])
    done = await watching
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "job 1"
    assert done.stdout.splitlines()[-1].endswith("DONE")
    listed = (await run("ps")).stdout
    assert listed.split()[7:10] == ["1", "DONE", "ada"]
    assert listed.split()[-1] == "echo"
    shown = (await run("show", 1)).stdout
    assert "/grid/user/a/ada/jobs/1/stdout" in shown
    assert json.loads((await run("show", 1, "--json")).stdout)["jdl"]["Arguments"] == "hello world"


async def test_a_wrong_jdl_is_shown_with_file_line_and_column(run: Invoke, hello: Path) -> None:
    refused = await run("submit", hello)
    assert isinstance(refused.exception, UserError)
    assert (
        refused.exception.message == f"{hello}:2:1: Arguments uses $1, but 0 arguments were given to submit"
    )
    missing = await run("submit", hello.with_name("none.jdl"))
    assert "cannot be read" in str(missing.exception)


async def test_kill_tells_of_each(run: Invoke, hello: Path) -> None:
    await run("submit", hello, "x")
    killed = await run("kill", 1, 99)
    assert killed.exit_code == 2
    assert killed.stdout == "job 1: KILLED\n"
    assert "there is no task 99" in killed.stderr
    again = await run("resubmit", 1)
    assert again.exit_code == 0
    assert again.stdout.split()[-1] in ("WAITING", "INSERTING")


async def test_a_failed_job_is_exit_code_4(grid: Grid, run: Invoke, hello: Path) -> None:
    watching = asyncio.ensure_future(run("submit", hello, "x", "--watch", "--json"))
    (given,) = await grid.claim()
    await grid.report(given, "STARTED", "RUNNING", "ERROR_E", reason="EXIT_CODE 1")
    done = await watching
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (4, "ERROR_E")


async def test_why_and_output(grid: Grid, run: Invoke, hello: Path) -> None:
    await run("submit", hello, "x")
    await grid.until(1, "WAITING")
    assert "no resource has asked" in (await run("why", 1)).stdout
    missing = await run("output", 1)
    assert isinstance(missing.exception, NotFound)
    (given,) = await grid.claim()
    asking = asyncio.ensure_future(run("output", 1))
    (command,) = (await grid.vobox.get("/v1/tasks/commands", wait=10, timeout=20))["commands"]
    assert command["task"] == given.task
    await grid.vobox.post(f"/v1/tasks/commands/{command['id']}", {"answer": {"stdout": "so far\n"}})
    assert (await asking).stdout == "so far\n"
