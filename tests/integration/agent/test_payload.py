"""Payloads as real processes: limits, ways to end, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent import processes
from orchestrator.agent.guard import Program
from orchestrator.agent.limits import Limits
from orchestrator.agent.payload import Execution, Outcome, resolve

_MIB = 1 << 20


def _execution(folder: Path, script: str, **limits: Any) -> Execution:
    values = {"wall": 30.0, "memory": 1 << 30, "disk": 1 << 30} | limits
    return Execution(_program(folder, "/bin/sh", "-c", script), Limits(**values), grace=0.5)


def _program(folder: Path, path: str, *arguments: str) -> Program:
    environment = {"PATH": "/usr/bin:/bin", "ONLY": "this"}
    return Program(path, arguments, environment, str(folder), str(folder / "stdout"), str(folder / "stderr"))


async def _run(folder: Path, script: str, **limits: Any) -> Outcome:
    return await asyncio.wait_for(_execution(folder, script, **limits).run(), 20)


def _living(marker: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except OSError:
            continue
    return found


def _guard_of(marker: str) -> int:
    (payload,) = _living(marker)
    found = processes.process(int(payload))
    assert found is not None
    return found.parent


async def _until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


async def test_output_environment_and_status(tmp_path: Path) -> None:
    outcome = await _run(tmp_path, "env; pwd; cat; ulimit -c; echo bad >&2; umask; exit 5")
    assert (outcome.code, outcome.status) == ("EXIT_CODE", 5)
    told = (tmp_path / "stdout").read_text().split()
    assert "ONLY=this" in told
    assert str(tmp_path) in told
    assert told[-2:] == ["0", "0077"]
    assert not [word for word in told if word.startswith(("HOME=", "USER=", "PYTEST"))]
    assert (tmp_path / "stderr").read_text() == "bad\n"
    assert set(outcome.usage) >= {"wall", "cpu", "memory"}


async def test_a_good_end_and_a_signal(tmp_path: Path) -> None:
    assert (await _run(tmp_path, "true")).code == ""
    outcome = await _run(tmp_path, "kill -SEGV $$")
    assert (outcome.code, outcome.status) == ("SIGNAL", -11)


@pytest.mark.parametrize(("name", "why"), [("missing", "No such file"), ("data", "Permission denied")])
async def test_what_cannot_be_executed_is_told(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "data").touch(mode=0o644)
    outcome = await Execution(_program(tmp_path, str(tmp_path / name)), Limits(9, _MIB, _MIB)).run()
    assert outcome.code == "NOT_EXECUTABLE"
    assert name in outcome.text
    assert why in outcome.text


async def test_a_script_without_interpreter_line_runs(tmp_path: Path) -> None:
    script = tmp_path / "plain"
    script.write_text("echo from $1\n")
    script.chmod(0o755)
    outcome = await Execution(_program(tmp_path, str(script), "sh"), Limits(9, 1 << 30, _MIB)).run()
    assert (outcome.code, (tmp_path / "stdout").read_text()) == ("", "from sh\n")


async def test_no_process_is_left_when_the_first_one_ends(tmp_path: Path) -> None:
    began = time.monotonic()
    outcome = await _run(tmp_path, "sleep 71.5 & (setsid sleep 71.5 &); nohup sleep 71.5 & exit 0")
    assert outcome.code == ""
    assert not _living("71.5")
    assert time.monotonic() - began < 3


async def test_ttl_ends_even_what_ignores_sigterm(tmp_path: Path) -> None:
    outcome = await _run(
        tmp_path, "trap '' TERM; (setsid sleep 72.5 &); while :; do sleep 72.5; done", wall=0.5
    )
    assert (outcome.code, outcome.status) == ("TTL_EXCEEDED", -signal.SIGKILL)
    assert not _living("72.5")


async def test_sigterm_leaves_time_to_save(tmp_path: Path) -> None:
    script = "trap 'echo saved >kept; exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    execution = _execution(tmp_path, script)
    running = asyncio.create_task(execution.run())
    await _until((tmp_path / "ready").exists)
    execution.stop("PREEMPTED", "the node was taken back")
    outcome = await asyncio.wait_for(running, 10)
    assert outcome.code == "PREEMPTED"
    assert (tmp_path / "kept").read_text() == "saved\n"


async def test_memory_of_all_processes_counts(tmp_path: Path) -> None:
    hog = f"{sys.executable} -c 'x = bytearray(60 << 20); import time; time.sleep(73.5)'"
    outcome = await _run(tmp_path, f"{hog} & {hog} & wait", memory=100 * _MIB)
    assert outcome.code == "MEMORY_EXCEEDED"
    assert outcome.usage["memory"] > 100 * _MIB
    assert not _living("73.5")


async def test_disk_of_the_work_directory_counts(tmp_path: Path) -> None:
    outcome = await _run(tmp_path, "mkdir a; head -c 20000000 /dev/zero >a/big; sleep 74.5", disk=10 * _MIB)
    assert outcome.code == "DISK_EXCEEDED"


async def test_a_payload_that_does_nothing_is_ended(tmp_path: Path) -> None:
    assert (await _run(tmp_path, "sleep 75.5", idle=0.5)).code == "NO_CPU"


async def test_cancelling_ends_the_payload(tmp_path: Path) -> None:
    running = asyncio.create_task(_execution(tmp_path, "(setsid sleep 76.5 &); sleep 76.5").run())
    await _until(lambda: len(_living("sleep\00076.5")) == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not _living("76.5")


async def test_a_killed_guard_is_noticed_and_the_payload_goes_too(tmp_path: Path) -> None:
    running = asyncio.create_task(_execution(tmp_path, "sleep 77.5; true").run())
    await _until(lambda: _living("sleep\00077.5"))
    (sleeper,) = _living("sleep\00077.5")
    shell = Path(f"/proc/{sleeper}/stat").read_text().rpartition(")")[2].split()[1]
    guard = Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(guard), signal.SIGKILL)
    assert (await asyncio.wait_for(running, 10)).code == "GUARD_LOST"
    await _until(lambda: not _living("77.5"))


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_guard_that_is_stuck_holds_up_neither_job_nor_agent(tmp_path: Path, cancelled: bool) -> None:
    program = _program(tmp_path, "/bin/sh", "-c", "sleep 77.25")
    run = Execution(program, Limits(60, 1 << 30, 1 << 30), grace=0.1, stuck=0.5)
    running = asyncio.ensure_future(run.run())
    await _until(lambda: len(_living("sleep\00077.25")) == 1)
    os.kill(_guard_of("sleep\00077.25"), signal.SIGSTOP)
    if cancelled:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        run.stop("TTL_EXCEEDED", "too long")
        assert (await running).code == "TTL_EXCEEDED"
    await _until(lambda: not _living("sleep\00077.25"))


def test_the_end_of_the_loop_ends_the_payload(tmp_path: Path) -> None:
    async def leaves() -> None:
        program = _program(tmp_path, "/bin/sh", "-c", "sleep 76.25")
        asyncio.ensure_future(Execution(program, Limits(60, 1 << 30, 1 << 30)).run())  # noqa: RUF006
        await _until(lambda: len(_living("sleep\00076.25")) == 1)

    began = time.monotonic()
    asyncio.run(leaves())  # its end cancels everything that runs, at once
    assert time.monotonic() - began < 30
    assert not _living("sleep\00076.25")


async def test_a_killed_agent_leaves_no_payload(tmp_path: Path) -> None:
    code = (
        "import asyncio\nfrom pathlib import Path\n"
        "from orchestrator.agent.payload import Execution\nfrom orchestrator.agent.guard import Program\n"
        "from orchestrator.agent.limits import Limits\n"
        f"f = {str(tmp_path)!r}\n"
        "p = Program('/bin/sh', ['-c', '(setsid sleep 78.5 &); sleep 78.5'], {'PATH': '/bin:/usr/bin'}, f, f + '/o', f + '/e')\n"
        "asyncio.run(Execution(p, Limits(60, 1 << 30, 1 << 30)).run())\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", code])
    try:
        await _until(lambda: len(_living("sleep\00078.5")) == 2)
    finally:
        agent.kill()
        agent.wait()
    await _until(lambda: not _living("sleep\00078.5"))


def test_resolve(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/tool"
    tool.touch(mode=0o755)
    (tmp_path / "bin/data").touch(mode=0o644)
    search = f":{tmp_path}/none:{tmp_path}/bin"
    assert resolve("tool", tmp_path, search) == str(tool)
    assert resolve("data", tmp_path, search) == "data"
    assert resolve("./x", tmp_path, search) == str(tmp_path / "x")
    assert resolve("/bin/echo", tmp_path, search) == "/bin/echo"
