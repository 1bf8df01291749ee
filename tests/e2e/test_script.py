"""A physicist's script: the very example of ``orchestrator.client``, on the grid that `make up` makes."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import orchestrator.client
from orchestrator.client import Grid as Client
from orchestrator.errors import NotFound, UserError
from tests.e2e.grid import Grid

ROOT = Path(__file__).parents[2]


def example() -> str:
    """The code in the package's documentation: its indented part."""
    found = re.search(r"\n\n((?:    .*\n|\n)+)", orchestrator.client.__doc__ or "")
    assert found is not None
    return textwrap.dedent(found[1]).strip() + "\n"


def test_the_example_runs_as_it_stands(one_box: Grid) -> None:
    done = subprocess.run(
        [sys.executable, "-c", example()],
        cwd=one_box.directory, env=one_box.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["INSERTING", "WAITING"]
    assert [line.strip() for line in lines if line.startswith("DONE")]
    assert "event 42" in lines
    assert {"results/stdout", "results/stderr"} <= set(lines)
    assert (one_box.directory / "results/stdout").read_text() == "event 42\n"
    assert lines[-1].endswith("/notes/event-42.txt 9")


def test_the_readme_shows_the_same_example() -> None:
    text = (ROOT / "README.md").read_text()
    blocks = [
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "orchestrator.client" in block
    ]
    assert [ast.dump(ast.parse(block)) for block in blocks] == [ast.dump(ast.parse(example()))]


def test_what_else_a_script_does(one_box: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jdl = tmp_path / "echo.jdl"
    jdl.write_text('Executable = "/bin/echo"; Arguments = "part $1"; JobTag = "scripted"; TTL = 600;\n')

    async def session() -> None:
        grid = await Client.open(site=one_box.file)  # as in a notebook
        made = await grid.jobs.submit_many(jdl, [["a"], ["b"], ["c"]])
        assert [await job.wait(60) for job in made] == ["DONE"] * 3
        assert [await job.read() for job in made] == [b"part a\n", b"part b\n", b"part c\n"]
        assert {each["id"] for each in await grid.jobs.list(tag="scripted")} >= {job.number for job in made}
        assert (await grid.jobs[made[0].number].why())["state"] == "DONE"
        with pytest.raises(NotFound, match="has no output nothing; it has std"):
            await made[0].read("nothing")
        with pytest.raises(UserError) as wrong:
            await grid.submit("Executable = ;")
        assert wrong.value.facts["problems"][0]["line"] == 1
        held = await grid.submit('Executable = "/bin/true"; Requirements = other.Cores > 4000;')
        with pytest.raises(TimeoutError):
            await held.wait(0.2)
        assert await held.kill() == "KILLED"
        (tmp_path / "data").mkdir()
        (tmp_path / "data/x").write_bytes(b"0123456789")
        assert [each["new"] for each in await grid.files.put("data", "scripted/data")] == [True]
        assert [each["new"] for each in await grid.files.put("data/x", "scripted/data/x")] == [False]
        assert await grid.files.read("scripted/data/x") == b"0123456789"
        assert [each["size"] for each in await grid.files.get("scripted/data", "back")] == [10]
        assert Path("back/x").read_bytes() == b"0123456789"
        (there,) = await grid.transfers.mirror("scripted/data", to="disk", recursive=True)
        assert await there.wait(30) == "DONE"  # the only storage element has it
        assert (await grid.transfers.list(lfn="scripted/data/x"))[0]["id"] == there.number
        assert await grid.files.rm("scripted", recursive=True) == 3
        await grid.close()
        with pytest.raises(UserError, match="not open"):
            await grid.files.ls()

    asyncio.run(session())


def test_an_identity_file_opens_it(one_box: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = tmp_path / "scripter.json"
    one_box.run("user", "add", "scripter", "--out", file)

    async def session() -> str:
        async with Client.open(file) as grid:
            job = await grid.submit('Executable = "/bin/echo"; Arguments = "mine"; TTL = 600;')
            await job.wait(60)
            assert (await job.show())["owner"] == "scripter"
            return (await job.read()).decode()

    assert asyncio.run(session()) == "mine\n"
