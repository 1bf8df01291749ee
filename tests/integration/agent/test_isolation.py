"""Payloads of a root agent run as accounts of their own: what they can read, and that none of them stays."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent import isolation
from orchestrator.agent.guard import Program
from orchestrator.agent.limits import Limits
from orchestrator.agent.payload import Execution, Outcome
from orchestrator.errors import TemporaryError

pytestmark = pytest.mark.needs_root


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that other accounts may pass (pytest's are closed to them)."""
    folder = Path(tempfile.mkdtemp(prefix="isolation-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def lease(base: Path) -> Iterator[isolation.Lease]:
    found = isolation.find([base])
    assert found.hindrance == ""
    leased = found.lease(os.getpid())
    assert leased is not None
    yield leased
    leased.release()


def _execution(base: Path, script: str, uid: int) -> Execution:
    work = base / "work"
    work.mkdir()
    isolation.give(work, uid)
    environment = {"PATH": "/usr/bin:/bin"}
    program = Program(
        "/bin/sh", ("-c", script), environment, str(work), str(work / "stdout"), str(work / "stderr"), uid
    )
    return Execution(program, Limits(30.0, 1 << 30, 1 << 30), grace=0.5)


async def _run(base: Path, script: str, uid: int) -> Outcome:
    return await asyncio.wait_for(_execution(base, script, uid).run(), 20)


def _of(uid: int) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if not folder.name.isdigit():
                continue
            lines = (folder / "status").read_text().splitlines()
            facts = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            if facts["Uid"].split()[0] == str(uid) and facts["State"][0] not in "ZX":
                found.append(folder.name)
        except OSError:
            continue
    return found


async def _until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


async def test_who_the_payload_is(base: Path, lease: isolation.Lease) -> None:
    script = "id -u; id -G; grep -E 'NoNewPrivs|CapEff|CapPrm|CapAmb' /proc/self/status | cut -f2; touch mine; ls /proc/self/fd | wc -l"
    outcome = await _run(base, script, lease.uid)
    assert outcome.code == ""
    uid = str(lease.uid)
    words = (base / "work/stdout").read_text().split()
    assert words[:2] == [uid, uid]
    assert words[2:6] == ["0" * 16, "0" * 16, "0" * 16, "1"]
    assert int(words[6]) <= 4  # 0, 1, 2 and the listing's own
    assert isolation.FIRST <= lease.uid <= isolation.LAST


async def test_secrets_are_closed_to_it(base: Path, lease: isolation.Lease) -> None:
    keys = base / "keys"
    keys.mkdir(mode=0o700)
    (keys / "ca.key").write_text("secret")
    (base / "session.json").touch(mode=0o600)
    script = f"cat {keys}/ca.key {base}/session.json /etc/shadow /proc/{os.getpid()}/environ; ls {base}; kill -9 {os.getpid()}; exit 3"
    outcome = await _run(base, script, lease.uid)
    assert outcome.status == 3
    assert (base / "work/stdout").read_text() == ""
    assert (base / "work/stderr").read_text().lower().count("permission denied") >= 5


async def test_what_detaches_itself_is_killed(base: Path, lease: isolation.Lease) -> None:
    script = "(setsid sleep 81.5 &); nohup sleep 81.5 & trap '' TERM; exit 0"
    assert (await _run(base, script, lease.uid)).code == ""
    assert _of(lease.uid) == []


async def test_a_killed_guard_takes_the_payload_along(base: Path, lease: isolation.Lease) -> None:
    running = asyncio.create_task(_execution(base, "echo go; sleep 82.5; true", lease.uid).run())
    await _until(lambda: len(_of(lease.uid)) == 2)
    shell = min(_of(lease.uid), key=int)
    guard = Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(guard), signal.SIGKILL)
    assert (await asyncio.wait_for(running, 10)).code == "GUARD_LOST"
    await _until(lambda: not _of(lease.uid))


async def test_a_killed_agent_leaves_no_payload(base: Path, lease: isolation.Lease) -> None:
    work = base / "work"
    work.mkdir()
    isolation.give(work, lease.uid)
    code = (
        "import asyncio\nfrom orchestrator.agent.payload import Execution\n"
        "from orchestrator.agent.guard import Program\nfrom orchestrator.agent.limits import Limits\n"
        f"f = {str(work)!r}\n"
        f"p = Program('/bin/sh', ['-c', '(setsid sleep 83.5 &); sleep 83.5'], {{'PATH': '/bin:/usr/bin'}}, f, f + '/o', f + '/e', {lease.uid})\n"
        "asyncio.run(Execution(p, Limits(60, 1 << 30, 1 << 30)).run())\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", code])
    try:
        await _until(lambda: len(_of(lease.uid)) >= 2)
    finally:
        agent.kill()
        agent.wait()
    await _until(lambda: not _of(lease.uid))


def test_nothing_of_a_released_account_stays(base: Path) -> None:
    found = isolation.find([base])
    lease = found.lease(7)
    assert lease is not None
    folder = Path(tempfile.mkdtemp())
    (folder / "file").touch()
    loose = Path(tempfile.mkstemp()[1])
    for path in (folder, folder / "file", loose):
        os.chown(path, lease.uid, lease.uid)
    process = subprocess.Popen(["/bin/sleep", "84.5"], user=lease.uid, group=lease.uid, extra_groups=[])
    lease.release()
    assert process.wait(5) == -signal.SIGKILL
    assert not folder.exists()
    assert not loose.exists()


def test_two_leases_never_meet(base: Path) -> None:
    locks = base / "locks"
    locks.mkdir(mode=0o700)
    one, other = isolation.find([base], locks), isolation.find([base], locks)
    first, second = one.lease(3), other.lease(3)
    assert first is not None
    assert second is not None
    assert first.uid != second.uid
    first.release()
    third = other.lease(3)
    assert third is not None
    assert third.uid == first.uid
    second.release()
    third.release()
    assert list(locks.iterdir()) == []


def test_a_taken_range_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = base / "locks"
    locks.mkdir(mode=0o700)
    monkeypatch.setattr(isolation, "LAST", isolation.FIRST)
    found = isolation.Isolation("", locks)
    held = found.lease(0)
    assert held is not None
    with pytest.raises(TemporaryError):
        found.lease(0)
    held.release()


def test_a_closed_parent_is_named(base: Path) -> None:
    (base / "closed/inner").mkdir(parents=True)
    (base / "closed").chmod(0o700)
    found = isolation.find([base / "closed/inner"])
    assert f"{base}/closed is closed" in found.hindrance
    assert found.told.startswith("root: ")
    assert found.lease(1) is None
