"""A real agent process, through a real ClusterMonitor, against the small central."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runtime.files import write_json


async def _wait(true: Any, what: str, seconds: float = 20.0) -> Any:
    give_up = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < give_up, f"{what} did not come"
        await asyncio.sleep(0.01)
    return found


def _pids(marker: str) -> list[int]:
    """Processes whose command line has ``marker``."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def _config(machine: Any, central: Any, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "clustermonitor": f"https://{machine.address}:8445", "ca": (tmp_path / "etc/tls/ca.pem").read_text(),
        "token": central.enrolment("agent"), "workdir": str(tmp_path / "work"), "cores": 2, "memory": 1 << 30,
        "ce": "farm", "site": "testsite", "listen": machine.address, "ttl": 600, "heartbeat": 0.3, "grace": 1.0,
        "methods": ["http"], "log": str(tmp_path / "log/agent.log"), "slots": 2,
    } | more  # fmt: skip


@pytest.fixture
async def agent(machine: Any, central: Any, tmp_path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """An agent that has enrolled and asks for work."""
    machine.start("clustermonitor")
    await machine.ready()
    config = tmp_path / "agent.json"
    write_json(config, _config(machine, central, tmp_path), 0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.wiring.agent", "--config", str(config)], start_new_session=True
    )
    try:
        await _wait(lambda: central.claims, "the agent's first claim")
        yield process
    finally:
        process.kill()
        process.wait()


def _final(central: Any, task: int) -> Any:
    return next(
        (
            r
            for r in central.reports
            if r["task"] == task and r["to"].startswith(("DONE", "ERROR", "WAITING"))
        ),
        None,
    )


async def test_a_job_is_done_fast_with_its_output_stored(agent: Any, central: Any, tmp_path: Path) -> None:
    seconds = []
    for task in range(1, 6):
        began = time.monotonic()
        central.job(task, Arguments=f"'hello  {task}' *")
        done = await _wait(lambda task=task: _final(central, task), "DONE")
        seconds.append(time.monotonic() - began)
        assert central.states(task) == ["STARTED", "RUNNING", "SAVING", "DONE"]
        (output,) = done["outputs"]
        assert central.files[output["pfn"]] == f"hello  {task} *\n".encode()
        assert output["lfn"] == f"/out/{task}/stdout"
        assert output["size"] == len(f"hello  {task} *\n")
    assert sorted(seconds)[2] < 0.5, seconds
    print("turnarounds", [round(each, 3) for each in seconds])
    await _wait(lambda: not list(tmp_path.glob("work/agent-*/job-*")), "the job's files gone")


async def test_a_failed_job_keeps_its_evidence(agent: Any, central: Any) -> None:
    central.job(1, Executable="/bin/sh", Arguments="-c 'echo why; exit 7'", OutputErrorE=["stdout", "core.*"])
    end = await _wait(lambda: _final(central, 1), "the end")
    assert (end["to"], end["facts"]["code"], end["facts"]["status"]) == ("ERROR_E", "EXIT_CODE", 7)
    assert [central.files[output["pfn"]] for output in end["outputs"]] == [b"why\n"]
    assert "exited with 7" in end["reason"]


async def test_variables_of_the_jdl_are_in_the_environment(agent: Any, central: Any) -> None:
    shown = """-c 'test "$ALIEN_JDL_RUN" = "7 a" && test "$HOME" = "$PWD"'"""
    central.job(1, Executable="/bin/sh", Arguments=shown, Variables={"ALIEN_JDL_RUN": "7 a", "HOME": "/x"})
    done = await _wait(lambda: _final(central, 1), "its end")
    assert done["to"] == "DONE"


async def test_input_comes_from_the_next_replica_and_missing_output_is_told(agent: Any, central: Any) -> None:
    central.files["/script"] = b"#!/bin/sh\ncat data/in.txt >histos.root\n"
    central.files["/in.txt"] = b"42"
    inputs = [
        {"lfn": "/script", "name": "script", "executable": True},
        {"lfn": "/in.txt", "name": "data/in.txt", "executable": False},
    ]
    central.job(1, Executable="./script", Inputs=inputs, OutputFile=["*.root"])
    end = await _wait(lambda: _final(central, 1), "the end")
    assert end["to"] == "DONE"
    assert [central.files[output["pfn"]] for output in end["outputs"]] == [b"42"]
    central.job(2, Executable="./script", Inputs=inputs, OutputFile=["*.root", "*.never"])
    end = await _wait(lambda: _final(central, 2), "the end")
    assert (end["to"], end["facts"]["code"]) == ("ERROR_SV", "OUTPUT_MISSING")
    assert "*.never" in end["reason"]


async def test_peek_shows_what_was_printed_so_far(agent: Any, central: Any) -> None:
    central.job(1, Executable="/bin/sh", Arguments="-c 'echo first; echo bad >&2; sleep 61.25'")
    await _wait(lambda: "RUNNING" in central.states(1), "RUNNING")
    await _wait(lambda: _pids("61.25"), "the payload")
    central.commands[3] = {"id": 3, "task": 1, "attempt": 1, "verb": "peek", "facts": {}}
    central.wake.set()
    assert await _wait(lambda: central.answers.get(3), "the answer") == {
        "stdout": "first\n",
        "stderr": "bad\n",
    }
    await _wait(lambda: [b for b in central.beats if b["usage"].get("wall")], "a heartbeat with usage")
    central.commands[4] = {"id": 4, "task": 1, "attempt": 1, "verb": "kill", "facts": {}}
    central.wake.set()
    await _wait(lambda: not _pids("61.25"), "the payload's end")
    assert _final(central, 1) is None, "a killed attempt says nothing more"


async def test_a_stale_attempt_is_stopped_and_thrown_away(agent: Any, central: Any, tmp_path: Path) -> None:
    central.job(1, Executable="/bin/sh", Arguments="-c '(setsid sleep 62.25 &) ; sleep 62.25'")
    await _wait(lambda: len(_pids("sleep 62.25".replace(" ", "\0"))) == 2, "the payload")
    central.stale.add((1, 1))
    await _wait(lambda: not _pids("62.25"), "the payload's end")
    await _wait(lambda: not list(tmp_path.glob("work/agent-*/job-*")), "the job's files gone")
    assert _final(central, 1) is None


async def test_sigterm_drains_the_agent_and_the_job_waits_again(
    agent: Any, central: Any, tmp_path: Path
) -> None:
    central.job(1, Executable="/bin/sh", Arguments="-c 'sleep 63.25; sleep 63.25'")
    await _wait(lambda: _pids("63.25"), "the payload")
    await _wait(lambda: "RUNNING" in central.states(1), "RUNNING")
    agent.send_signal(signal.SIGTERM)
    end = await _wait(lambda: _final(central, 1), "the job given back")
    assert end["to"] == "WAITING"
    assert end["reason"].startswith("PREEMPTED")
    assert await asyncio.to_thread(agent.wait, 10) == 0
    assert not _pids("63.25")
    assert not list(tmp_path.glob("work/agent-*"))


async def test_sigkill_of_the_agent_takes_the_payload_with_it(agent: Any, central: Any) -> None:
    central.job(1, Executable="/bin/sh", Arguments="-c '(setsid sleep 64.25 &) ; sleep 64.25'")
    await _wait(lambda: len(_pids("sleep\00064.25")) == 2, "the payload")
    agent.kill()
    await _wait(lambda: not _pids("64.25"), "the payload's end", 5)


async def test_work_goes_on_while_central_is_away(agent: Any, central: Any) -> None:
    central.job(1, Executable="/bin/sh", Arguments="-c 'sleep 1.5'", OutputFile=["stdout"])
    await _wait(lambda: "RUNNING" in central.states(1), "RUNNING")
    await central.stop()
    await asyncio.to_thread(lambda: [time.sleep(0.05) for _ in range(60) if _pids("sleep\0001.5")])
    await central.start()
    end = await _wait(lambda: _final(central, 1), "DONE", 40)
    assert end["to"] == "DONE"
    assert central.states(1) == ["STARTED", "RUNNING", "SAVING", "DONE"]


@pytest.mark.needs_root
async def test_the_agent_file_runs_a_job_where_there_is_only_busybox(
    machine: Any, central: Any, tmp_path: Path
) -> None:
    from orchestrator.agent.bundle import agent_file

    file = await asyncio.to_thread(agent_file, tmp_path / "built")
    root = tmp_path / "chroot"
    for folder in ("bin", "tmp", "agent"):
        (root / folder).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
    for name in (
        "sh",
        "tail",
        "gzip",
        "tar",
        "mkdir",
        "mv",
        "rm",
        "uname",
        "id",
        "mktemp",
        "echo",
        "cat",
        "sleep",
    ):
        (root / "bin" / name).symlink_to("busybox")
    shutil.copy(file.path, root / "agent/orchestrate-agent")
    more = {"workdir": "/agent/work", "log": "/agent/log", "methods": ["torrent", "http"]}
    write_json(root / "agent/agent.json", _config(machine, central, tmp_path, **more), 0o600)
    machine.start("clustermonitor")
    await machine.ready()
    command = [
        shutil.which("chroot") or "/usr/sbin/chroot",
        str(root),
        "/agent/orchestrate-agent",
        "--config",
        "/agent/agent.json",
    ]
    agent = subprocess.Popen(command, env={"PATH": "/bin", "TMPDIR": "/tmp"}, start_new_session=True)
    try:
        central.job(1, Arguments="bare")
        done = await _wait(lambda: _final(central, 1), "DONE", 60)
        assert (done["to"], central.files[done["outputs"][0]["pfn"]]) == ("DONE", b"bare\n")
        central.job(2, Executable="/bin/sh", Arguments="-c 'sleep 65.25 & sleep 65.25'", TTL=1)
        end = await _wait(lambda: _final(central, 2), "the end of what runs too long")
        assert (end["to"], end["facts"]["code"]) == ("ERROR_E", "TTL_EXCEEDED")
        assert not _pids("65.25")
        agent.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(agent.wait, 10) == 0
    finally:
        agent.kill()
        agent.wait()


async def test_a_restarted_agent_goes_on_with_its_session(machine: Any, central: Any, tmp_path: Path) -> None:
    machine.start("clustermonitor")
    await machine.ready()
    config = tmp_path / "agent.json"
    write_json(config, _config(machine, central, tmp_path, session_file=str(tmp_path / "session")), 0o600)
    command = [sys.executable, "-m", "orchestrator.wiring.agent", "--config", str(config)]
    for task in (1, 2):
        agent = subprocess.Popen(command, start_new_session=True)
        try:
            central.job(task)
            await _wait(lambda task=task: _final(central, task), "DONE")
        finally:
            agent.kill()
            agent.wait()
    assert len(central.spent) == 1, "the enrolment token was used once"
    assert (tmp_path / "session").stat().st_mode & 0o777 == 0o600
    agent = subprocess.Popen(command, start_new_session=True)
    try:
        await _wait(
            lambda: len(list((tmp_path / "work").glob("agent-*"))) == 1, "killed agents' folders gone"
        )
    finally:
        agent.terminate()
        await asyncio.to_thread(agent.wait, 10)
