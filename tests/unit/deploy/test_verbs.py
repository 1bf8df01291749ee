"""The verbs as a user types them, on a world in a directory: text, JSON, exit codes, questions."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from directory_world import DirectoryWorld, Fault, a_site
from typer.testing import CliRunner

from orchestrator.cli import deploy, live, look
from orchestrator.deploy.context import Context
from orchestrator.deploy.events import Sink
from orchestrator.errors import GridError, PermanentError, UserError


class Shell:
    """Runs verbs against one world."""

    def __init__(self, world: DirectoryWorld) -> None:
        self.world = world
        self.app = typer.Typer()
        deploy.register(self.app)
        look.register(self.app)

    @contextmanager
    def context(self, site: Path, *, sink: Sink | None = None, reading: bool = False) -> Iterator[Context]:
        ctx = self.world.context(sink, verify=0.3)
        yield ctx
        ctx.ledger.close()

    def __call__(self, line: str) -> tuple[int, str]:
        result = CliRunner().invoke(self.app, line.split())
        if isinstance(result.exception, GridError):
            return result.exception.exit_code, str(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output


def shell(monkeypatch: pytest.MonkeyPatch, root: Path, fault: Fault | None = None) -> Shell:
    made = Shell(DirectoryWorld(root, a_site(), fault) if fault else DirectoryWorld(root, a_site()))
    root_module = types.ModuleType("orchestrator.wiring.deploy")
    root_module.context = made.context  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "orchestrator.wiring.deploy", root_module)
    return made


def test_a_day_with_a_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = shell(monkeypatch, tmp_path)
    code, text = run("plan")
    assert code == 0
    assert "+  create     lab-workers-1  it is missing" in text
    assert "after verify:vobox" in text
    assert text.rstrip().splitlines()[-1].startswith("site lab: 9 changes, about ")
    code, text = run("up")
    assert code == 0
    assert text.rstrip().splitlines()[-1].startswith("4 created, 2 configured in ")
    assert run("up") == (0, "nothing to do\n")
    assert run("plan") == (0, "site lab: nothing to do\n")
    code, text = run("status")
    assert "site lab: all is as it should be" in text
    code, text = run("scale workers 1")
    assert (code, text.rstrip().splitlines()[-1][:11]) == (0, "1 destroyed")
    code, text = run("why workers-2")
    assert "group workers is to have 1" in text
    code, text = run("inventory --json")
    assert json.loads(text)["workers"] == {"hosts": ["lab-workers-1"]}
    code, text = run("down")
    assert code == 2
    assert "lab-central-1" in text
    assert "--yes" in text
    code, text = run("down --yes")
    assert (code, text.rstrip().splitlines()[-1][:11]) == (0, "3 destroyed")
    assert run.world.names() == []


def test_json_events_are_lines_and_the_last_one_tells_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = shell(monkeypatch, tmp_path)
    code, text = run("up --json")
    events = [json.loads(line) for line in text.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["planned", "closed"]
    assert (code, events[-1]["exit_code"], events[-1]["results"]) == (0, 0, {"done": 9})
    assert {event["id"] for event in events if event["event"] == "finished"} == {
        change["id"] for change in events[0]["changes"]
    }


def test_a_failure_ends_with_what_failed_where_the_evidence_is_and_code_4(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(verb: str, name: str) -> GridError | None:
        return PermanentError("disk full") if (verb, name) == ("configure", "lab-vobox-1") else None

    code, text = shell(monkeypatch, tmp_path, broken)("up")
    assert code == 4
    assert "disk full" in text
    assert f"evidence: {tmp_path}" in text
    assert text.rstrip().splitlines()[-1].startswith("1 failed (lab-vobox-1), 4 waiting for that not started")


def test_a_saved_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = shell(monkeypatch, tmp_path / "world")
    file = tmp_path / "plan.json"
    assert run(f"plan --save {file}")[0] == 0
    assert run(f"up --plan {file}")[0] == 0
    code, text = run(f"up --plan {file}")
    assert code == 2
    assert "has changed since" in text
    file.write_text("{}")
    assert run(f"up --plan {file}")[0] == 2


def test_a_program_name_cannot_leave_the_log_directory() -> None:
    for name in ("../etc/shadow", "-x", "a b", "$(id)"):
        with pytest.raises(UserError):
            look.logs("central", name)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_live_view_ends_with_the_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from orchestrator.deploy import commands

    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with live.view(False, out) as sink:
        ctx = DirectoryWorld(tmp_path).context(sink)
        commands.up(ctx)
    text = out.getvalue()
    assert "✓ configure lab-central-1" in text
    assert "4 created, 2 configured in" in text.rstrip().splitlines()[-1]


def test_ctrl_c_asks_to_stop_and_the_handlers_come_back() -> None:
    stop, before = threading.Event(), signal.getsignal(signal.SIGINT)
    with live.stopping(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGINT) is before
