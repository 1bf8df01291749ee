"""``orchestrate file tag|untag|find --where|quota|distance|cat /proc`` against real services."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import file as verbs
from orchestrator.errors import NotAllowed, UserError
from tests.support.verbs import Invoke, invoker

from .conftest import VO, Central
from .test_catalogue import HOME, storage
from .test_proc import job


@pytest.fixture
def run(central: Central, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a verb as the person named first."""
    return invoker("file", verbs.register, central.user, VO, monkeypatch)


async def test_tags(run: Invoke) -> None:
    assert (await run("ada", "mkdir", "run7", "run8")).exit_code == 0
    told = await run("ada", "tag", "run7", "run=7", "pass=p2", "ok=true", 'period="2026"', "x=-1.5", "eq=a=b")
    shown = ['eq="a=b"', "ok=true", 'pass="p2"', 'period="2026"', "run=7", "x=-1.5"]
    assert (told.exit_code, told.output.splitlines()) == (0, shown)
    assert (await run("bob", "tag", f"{HOME}/run7")).output.splitlines() == shown
    assert (await run("ada", "tag", "run8", "run=8")).exit_code == 0
    found = await run("ada", "find", "~", "--where", 'run > 1 && pass == "p2"')
    assert found.output == f"{HOME}/run7/\n"
    assert "period=" in (await run("ada", "stat", "run7")).output
    left = json.loads((await run("ada", "untag", "run7", "eq", "ok", "x", "period", "--json")).output)
    assert left == {"run": 7, "pass": "p2"}
    assert isinstance((await run("ada", "tag", "run7", "run")).exception, UserError)
    assert "column 5" in str((await run("ada", "find", "~", "-w", "run = 7")).exception)


async def test_quota(run: Invoke) -> None:
    assert (await run("ada", "quota")).output.splitlines() == [
        "ada has 0 files (as many as they like)",
        "with 0 B (as much as they like)",
    ]
    told = await run("root", "quota", "ada", "--files", 10, "--size", "2GiB")
    assert told.output.splitlines() == ["ada has 0 files (of 10)", "with 0 B (of 2 GiB)"]
    told = await run("root", "quota", "ada", "--files", "none", "--json")
    assert json.loads(told.output) | {"files": 0} == {
        "user": "ada", "files": 0, "bytes": 0, "most_files": None, "most_bytes": 2 << 30,
    }  # fmt: skip
    assert isinstance((await run("ada", "quota", "ada", "--files", "none")).exception, NotAllowed)
    assert isinstance((await run("bob", "quota", "ada")).exception, NotAllowed)
    assert "no number of files" in str((await run("root", "quota", "ada", "--files", "many")).exception)


async def test_distance(run: Invoke, central: Central, tmp_path: Path) -> None:
    assert "no storage element" in (await run("ada", "distance", "here")).output
    await storage(central, tmp_path, "disk", "tape")
    told = json.loads((await run("root", "distance", "there", "tape", 0.5, "--json")).output)
    assert [(each["se"], each["distance"]) for each in told] == [("tape", 0.5), ("disk", 1)]
    lines = (await run("ada", "distance", "there")).output.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["tape", "here", "0.5"], ["disk", "here", "1"]]
    told = json.loads((await run("root", "distance", "there", "tape", "default", "--json")).output)
    assert [each["distance"] for each in told] == [1, 1]
    assert isinstance((await run("ada", "distance", "there", "tape", 0)).exception, NotAllowed)
    for words in (("tape",), ("tape", "near")):
        assert isinstance((await run("root", "distance", "there", *words)).exception, UserError)


async def test_a_job_below_proc(run: Invoke, central: Central, tmp_path: Path) -> None:
    number = await job(central, "ada")
    assert (await run("bob", "ls", "/proc/ada")).output == f"{number}/\n"
    assert (await run("bob", "cat", f"/proc/ada/{number}/state")).output == "INSERTING\n"
    assert "INSERTING" in (await run("bob", "cat", f"/proc/ada/{number}/trace")).output
    got = await run("bob", "get", f"/proc/ada/{number}/jdl", tmp_path / "jdl")
    assert (got.exit_code, "Executable" in (tmp_path / "jdl").read_text()) == (0, True)
