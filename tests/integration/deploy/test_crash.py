"""SIGKILL at every ledger write in turn, before and after it; the next run finishes the work."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from crash_child import main
from directory_world import DirectoryWorld, a_site

from orchestrator.deploy import commands
from orchestrator.deploy.model import Stage

WANTED = {
    "up": ["lab-central-1", "lab-vobox-1", "lab-workers-1", "lab-workers-2", "lab-workers-3"],
    "roll": ["lab-central-1", "lab-vobox-1", "lab-workers-1", "lab-workers-2", "lab-workers-3"],
    "scale": ["lab-central-1", "lab-vobox-1", "lab-workers-1"],
    "down": [],
}


def run(directory: Path, verb: str, fatal: int = 0, moment: str = "before") -> int:
    """The exit code of one command in a process of its own; negative when it was killed."""
    process = multiprocessing.get_context("fork").Process(target=main, args=(directory, verb, fatal, moment))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, (verb, fatal, "it hangs")
    return process.exitcode


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that is up."""
    directory = tmp_path_factory.mktemp("standing")
    assert run(directory, "up") == 0
    return directory


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("verb", ["up", "roll", "scale", "down"])
def test_killed_at_every_ledger_write(verb: str, moment: str, standing: Path, tmp_path: Path) -> None:
    def fresh(name: str) -> Path:
        directory = tmp_path / name
        if verb != "up":
            shutil.copytree(standing, directory)
        return directory

    assert run(fresh("whole"), verb) == 0
    writes = int((tmp_path / "whole.writes").read_text())
    assert writes >= {"up": 10, "roll": 6, "scale": 5, "down": 5}[verb]
    killed = 0
    for fatal in range(1, writes + 1):
        directory = fresh(str(fatal))
        died = run(directory, verb, fatal, moment)
        if died == 0:  # fewer writes than the first time: outcomes came in together
            continue
        assert died == -signal.SIGKILL
        killed += 1
        assert run(directory, verb) == 0, fatal
        check(directory, verb, fatal)
    assert killed >= writes - 3


def check(directory: Path, verb: str, fatal: int) -> None:
    world = DirectoryWorld(directory, a_site(3))
    there = world.names()
    doubled = [name for name, many in Counter(there).items() if many > 1]
    assert doubled == [], (fatal, doubled)
    assert there == WANTED[verb], (fatal, "leaked or missing")
    folders = [folder for folder in (directory / "cloud").glob("*/") if any(folder.iterdir())]
    halves = [f for f in folders if f.name.startswith(".") or not (f / "machine.json").exists()]
    assert halves == [], fatal
    if verb == "down":
        assert not (directory / "state").exists()
        return
    if verb == "roll":
        world.configurator.version = "2"
    ctx = world.context()
    assert commands.plan(ctx).changes == (), fatal
    assert ctx.ledger.open_intents() == (), fatal
    assert sorted(ctx.ledger.records()) == WANTED[verb], fatal
    assert {r.stage for r in ctx.ledger.records().values()} == {Stage.READY}, fatal
    ctx.ledger.close()
