"""A site of every role on a simulated cloud that loses answers: SIGKILL at every ledger write in turn."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.deploy import commands
from orchestrator.deploy.model import Stage
from orchestrator.providers.sim.client import SimProvider
from orchestrator.wiring.deploy import context

ALL = ["lab-central-1", "lab-vobox-1", "lab-workers-1", "lab-workers-2", "lab-workers-3"]
WANTED = {"up": ALL, "roll": ALL, "scale": ALL[:3], "down": []}


def spec(folder: Path, image: str = "one") -> Path:
    file = folder / "lab.yaml"
    cloud = {"kind": "sim", "lost_replies": "10 %", "eventual_list": "5 s", "duplicate_listing": "10 %"}
    groups = {
        "central": {"role": "central", "provider": "cloud"},
        "vobox": {"role": "vobox", "provider": "cloud"},
        "workers": {"role": "worker", "provider": "cloud", "count": 3, "image": image},
    }
    file.write_text(json.dumps({"vo": "alice", "providers": {"cloud": cloud}, "groups": groups}))
    return file


def main(folder: Path, verb: str, fatal: int, moment: str) -> None:
    """One command; it kills itself before or after its ledger write number ``fatal``."""
    with context(spec(folder, "two" if verb == "roll" else "one")) as ctx:
        writes, seen = 0, dict[int, int]()

        @sa.event.listens_for(ctx.ledger.engine, "commit")
        def before(connection: sa.Connection) -> None:
            nonlocal writes
            raw = connection.connection.driver_connection
            assert raw is not None
            if raw.total_changes == seen.get(id(raw), 0):
                return
            seen[id(raw)] = raw.total_changes
            writes += 1
            if writes == fatal:
                if moment == "after":
                    raw.commit()
                os.kill(os.getpid(), signal.SIGKILL)

        match verb:
            case "up":
                report = commands.up(ctx)
            case "roll":
                report = commands.up(ctx, yes_remove=3)
            case "scale":
                report = commands.scale(ctx, "workers", 1)
            case _:
                report = commands.down(ctx)
    (folder / "writes").write_text(str(writes))
    sys.exit(report.exit_code)


def run(folder: Path, verb: str, fatal: int = 0, moment: str = "before") -> int:
    """The exit code of one command in a process of its own; negative when it was killed."""
    folder.mkdir(exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=main, args=(folder, verb, fatal, moment))
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, (verb, fatal, "it hangs")
    return process.exitcode


def pid_of(folder: Path) -> int | None:
    try:
        return int((folder / ".orchestrate/lab/sim/cloud/pid").read_text())
    except OSError:
        return None


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def processes(folder: Path) -> list[str]:
    """Clouds of that directory that run, known to it or not."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            text = entry.read_bytes()
            if b"providers.sim.server" in text and f"{folder}/".encode() in text:
                found.append(entry.parent.name)
    return found


def stop_cloud(folder: Path) -> None:
    """The cloud's process is killed; what it knew is on its disk."""
    pid = pid_of(folder)
    if pid is None or gone(pid):
        return
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that is up, while its cloud's process does not run."""
    folder = tmp_path_factory.mktemp("standing")
    assert run(folder, "up") == 0
    stop_cloud(folder)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for folder in tmp_path.iterdir():
        stop_cloud(folder)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("verb", ["up", "roll", "scale", "down"])
def test_killed_at_every_ledger_write(verb: str, moment: str, standing: Path, place: Path) -> None:
    def fresh(name: str) -> Path:
        folder = place / name
        if verb != "up":
            shutil.copytree(standing, folder, ignore=shutil.ignore_patterns("socket", "pid"))
        return folder

    assert run(fresh("whole"), verb) == 0
    writes = int((place / "whole/writes").read_text())
    killed, fatal = 0, 0
    while fatal < 2 * writes:
        fatal += 1
        folder = fresh(str(fatal))
        died = run(folder, verb, fatal, moment)
        if died != -signal.SIGKILL:
            break  # it ended before that write: every one has had its turn
        killed += 1
        again = [run(folder, verb) for _ in range(2)]  # the second, since answers are lost more than once
        assert again[-1] == 0, (fatal, again)
        check(folder, verb, fatal)
        stop_cloud(folder)
    assert killed >= {"up": 10, "roll": 6, "scale": 5, "down": 5}[verb]


def check(folder: Path, verb: str, fatal: int) -> None:
    state = folder / ".orchestrate/lab"
    if verb == "down":
        assert not state.exists(), fatal
        deadline = time.monotonic() + 3  # a cloud that still has machines would stay for longer
        while alive := processes(folder):
            assert time.monotonic() < deadline, (fatal, "a cloud with machines in it was left behind", alive)
            time.sleep(0.01)
        return
    with context(spec(folder, "two" if verb == "roll" else "one")) as ctx:
        cloud = ctx.providers["cloud"]
        assert isinstance(cloud, SimProvider)
        ctx.clock.sleep(10)  # until the cloud's list has caught up
        seen = cloud.figures()
        assert sorted({machine.name for machine in ctx.provider("cloud").list()}) == WANTED[verb], (
            fatal,
            "leaked or missing",
        )
        assert (seen["machines"], len(seen["ready"])) == (len(WANTED[verb]), len(WANTED[verb])), fatal
        assert seen["tally"]["created"] - seen["tally"].get("destroyed", 0) == len(WANTED[verb]), (
            fatal,
            "doubled",
        )
        assert commands.plan(ctx).changes == (), fatal
        assert ctx.ledger.open_intents() == (), fatal
        assert sorted(ctx.ledger.records()) == WANTED[verb], fatal
        assert {record.stage for record in ctx.ledger.records().values()} == {Stage.READY}, fatal
