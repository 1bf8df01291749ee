"""The agent file, for real: in a chroot that holds busybox-static and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.agent import bundle
from orchestrator.errors import UserError

ENTRY = '''
"""Imports what an agent uses, starts a program, tells where it ran."""
import asyncio, json, os, socket, ssl, subprocess, sys
import httpx, isal.isal_zlib, libtorrent
from orchestrator import errors, states, units

async def main() -> None:
    echo = await asyncio.create_subprocess_exec("/bin/echo", "hello", stdout=subprocess.PIPE)
    out, _ = await echo.communicate()
    session = libtorrent.session({"listen_interfaces": "127.0.0.1:0"})
    child = subprocess.check_output([sys.executable, "-c", "import sys, httpx; print(sys.executable)"], text=True)
    async with httpx.AsyncClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
        address = socket.getaddrinfo("127.0.0.1", 443)[0][4]
    print(json.dumps({
        "echo": out.decode(), "libtorrent": libtorrent.__version__, "openssl": ssl.OPENSSL_VERSION,
        "httpx": httpx.__version__, "python": sys.version, "child": child.strip(), "address": address,
        "executable": sys.executable, "arguments": sys.argv[1:], "cwd": os.getcwd(), "pid": os.getpid(),
        "code": errors.UserError.exit_code,
    }))

asyncio.run(main())
'''
LIMIT = 30 * 2**20


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("entry")
    (folder / "smoke_entry.py").write_text(ENTRY)
    return folder


@pytest.fixture(scope="module")
def agent(entry: Path, tmp_path_factory: pytest.TempPathFactory) -> bundle.AgentFile:
    started = time.monotonic()
    built = bundle.build_agent(tmp_path_factory.mktemp("agent") / "agent", entry="smoke_entry", roots=[entry])
    print(f"figure agent_file_size {built.size / 2**20:.1f} MiB goal <= 30")
    print(f"figure agent_file_build {time.monotonic() - started:.1f} s goal <= 20")
    return built


def busybox() -> str:
    """Debian's busybox-static, installed when it is not there."""
    if not (found := shutil.which("busybox")):
        install = ["apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "--no-install-recommends"]
        subprocess.run([*install, "busybox-static"], check=True, capture_output=True)
        found = shutil.which("busybox")
    assert found
    return found


@pytest.fixture
def empty_root(tmp_path: Path) -> Path:
    """A root directory with busybox under all its names, /work and /tmp; no /dev, /etc, /proc, no library."""
    root = tmp_path / "root"
    for folder in ("bin", "tmp", "work"):
        (root / folder).mkdir(parents=True)
    program = busybox()
    shutil.copy(program, root / "bin/busybox")
    for name in subprocess.check_output([program, "--list"], text=True).split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return root


def run(
    agent: Path | str, *words: str, root: Path | None = None, cwd: str | Path = "/", **env: str
) -> subprocess.CompletedProcess[str]:
    enter = (lambda: os.chroot(root)) if root else None
    command = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(cwd), str(agent), *words]
    return subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", **env},
        preexec_fn=enter,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.needs_root
def test_it_runs_where_there_is_only_busybox(agent: bundle.AgentFile, empty_root: Path) -> None:
    shutil.copy(agent.path, empty_root / "work/agent")
    first = run("./agent", "start", "--name", "a b", root=empty_root, cwd="/work")
    assert first.returncode == 0, first.stderr
    seen = json.loads(first.stdout)
    assert seen["echo"] == "hello\n"
    assert seen["arguments"] == ["start", "--name", "a b"]
    assert seen["cwd"] == "/work"
    assert seen["child"] == seen["executable"]
    assert seen["address"] == ["127.0.0.1", 443]
    assert seen["code"] == UserError.exit_code
    unpacked = sorted(p.name for p in (empty_root / "work/orchestrate-agent").iterdir())
    started = time.monotonic()
    assert run("/work/agent", root=empty_root, cwd="/work").returncode == 0
    print(f"figure agent_start {time.monotonic() - started:.2f} s goal <= 1.5")
    assert sorted(p.name for p in (empty_root / "work/orchestrate-agent").iterdir()) == unpacked
    assert len(unpacked) == 1


def test_its_size_is_within_the_limit(agent: bundle.AgentFile) -> None:
    assert agent.size == agent.path.stat().st_size <= LIMIT
    header = agent.path.read_bytes().partition(b"\nexec ")[0]
    assert b"@DIGEST" not in header
    assert len(header) < 4096


def test_the_same_inputs_give_the_same_file_and_the_second_asking_builds_nothing(
    agent: bundle.AgentFile, entry: Path, tmp_path: Path
) -> None:
    first = bundle.agent_file(tmp_path, entry="smoke_entry", roots=[entry])
    assert first.sha256 == agent.sha256
    stamp = first.path.stat().st_mtime_ns
    assert bundle.agent_file(tmp_path, entry="smoke_entry", roots=[entry]) == first
    assert first.path.stat().st_mtime_ns == stamp
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "smoke_entry.py").write_text("print('other')\n")
    other = bundle.agent_file(tmp_path, entry="smoke_entry", roots=[changed])
    assert other.path != first.path
    assert other.size < first.size  # nothing is imported, so neither httpx nor libtorrent travels
    assert run(other.path, cwd=tmp_path).stdout == "other\n"


def test_agents_that_start_together_share_one_copy(agent: bundle.AgentFile, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: run(agent.path, ORCHESTRATE_AGENT_CACHE=str(cache)), range(4)))
    assert [d.returncode for d in done] == [0] * 4, [d.stderr for d in done]
    assert len({json.loads(d.stdout)["executable"] for d in done}) == 1
    assert len(list(cache.iterdir())) == 1


def test_a_cut_file_says_so_and_leaves_no_copy(agent: bundle.AgentFile, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(agent.path.read_bytes()[:-2000])
    cut.chmod(0o755)
    done = run(cut, ORCHESTRATE_AGENT_CACHE=str(tmp_path / "cache"), cwd=tmp_path)
    assert done.returncode == 75
    assert "cannot unpack" in done.stderr
    assert not list((tmp_path / "cache").iterdir())
    assert not list((tmp_path / "orchestrate-agent").iterdir())


def test_a_cache_that_cannot_be_written_is_passed_over(agent: bundle.AgentFile, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    done = run(agent.path, ORCHESTRATE_AGENT_CACHE=str(blocked / "x"), TMPDIR=str(tmp_path), cwd="/")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["executable"].startswith(f"{tmp_path}/orchestrate-agent-{os.getuid()}/")


@pytest.mark.needs_root
def test_a_copy_that_another_user_put_there_is_not_run(agent: bundle.AgentFile, tmp_path: Path) -> None:
    planted = tmp_path / f"orchestrate-agent-{os.getuid()}"
    planted.mkdir()
    os.chown(planted, 12345, 12345)
    done = run(agent.path, TMPDIR=str(tmp_path), cwd=tmp_path)
    assert json.loads(done.stdout)["executable"].startswith(f"{tmp_path}/orchestrate-agent/")
    assert not list(planted.iterdir())


def test_the_process_that_was_started_is_the_agent(agent: bundle.AgentFile, tmp_path: Path) -> None:
    """A batch system's signals reach Python: no shell stays between."""
    with subprocess.Popen(
        [agent.path],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "ORCHESTRATE_AGENT_CACHE": str(tmp_path)},
    ) as process:
        out, _ = process.communicate(timeout=60)
    assert json.loads(out)["pid"] == process.pid


def test_a_signal_while_unpacking_leaves_nothing(agent: bundle.AgentFile, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [agent.path],
        env={"PATH": "/usr/bin:/bin", "ORCHESTRATE_AGENT_CACHE": str(tmp_path)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".unpack.*/*/*")) and time.monotonic() < deadline:
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    assert not list(tmp_path.iterdir())


def test_an_entry_that_needs_a_package_which_may_not_travel_is_refused_with_the_chain(tmp_path: Path) -> None:
    (tmp_path / "bad_entry.py").write_text(
        "import bad_helper, bad_entry_too\nfrom orchestrator import errors\nimport cryptography.x509\n"
    )
    with pytest.raises(UserError, match="may not hold") as caught:
        bundle.build_agent(tmp_path / "agent", entry="bad_entry", roots=[tmp_path])
    assert caught.value.facts["chain"] == ["bad_entry"]
    assert not (tmp_path / "agent").exists()
