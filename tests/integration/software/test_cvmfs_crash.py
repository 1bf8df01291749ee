"""SIGKILL of a publisher at any moment: the old revision stays whole and the next run finishes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.software.cvmfs import keys as key_files
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import Change
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.read import materialise
from orchestrator.software.cvmfs.store import LocalStore

FQRN = "alice.example.org"
NOW = 1_750_000_000.0
FILES = 1500
PROGRAM = """
import asyncio, sys
from pathlib import Path
from orchestrator.software.cvmfs.keys import load
from orchestrator.software.cvmfs.model import Change
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.store import LocalStore
top, fqrn, now = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
keys = load(top / "keys", fqrn)
print("begin", flush=True)
asyncio.run(publish(LocalStore(top / fqrn), keys, fqrn, [Change(top / "release", "/T/1")], now))
"""


def fill(release: Path, text: str) -> None:
    release.mkdir(exist_ok=True)
    for number in range(FILES):
        (release / f"f{number}").write_text(f"{text} {number}")


def objects(root: Path) -> int:
    return sum(len(os.listdir(place)) for place in (root / "data").iterdir() if place.name != "txn")


def kill_when_half_done(top: Path, wanted: int) -> None:
    """Start a publisher, SIGKILL it once ``wanted`` objects are stored (it may be done by then)."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(top), FQRN, str(NOW)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begin\n"
    deadline = time.monotonic() + 30
    while process.poll() is None and objects(top / FQRN) < wanted and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


async def content(store: LocalStore, keys: RepositoryKeys, out: Path) -> set[str]:
    await materialise(store.get, FQRN, keys.master_public, "/T/1", out, NOW)
    return {place.read_text().split()[0] for place in out.iterdir()}


async def test_a_killed_publisher_leaves_the_old_revision_and_is_finished(tmp_path: Path) -> None:
    keys = key_files.create(tmp_path / "keys", FQRN, NOW)
    store = LocalStore(tmp_path / FQRN)
    release = tmp_path / "release"
    fill(release, "old")
    first = await publish(store, keys, FQRN, [Change(release, "/T/1")], NOW)
    fill(release, "new")
    stored = objects(store.root)
    for share in (0.0, 0.3, 0.6):
        kill_when_half_done(tmp_path, stored + int(share * FILES))
        assert store.read(".cvmfspublished") is not None
        seen = await content(store, keys, tmp_path / f"out-{share}")
        assert seen in ({"old"}, {"new"})
    made = await publish(store, keys, FQRN, [Change(release, "/T/1")], NOW)
    assert made.number == first.number + 1
    assert await content(store, keys, tmp_path / "out") == {"new"}


async def test_the_lock_of_a_killed_publisher_does_not_stay(tmp_path: Path) -> None:
    key_files.create(tmp_path / "keys", FQRN, NOW)
    fill(tmp_path / "release", "text")
    (tmp_path / FQRN / "data").mkdir(parents=True)
    kill_when_half_done(tmp_path, 1)
    async with LocalStore(tmp_path / FQRN).lock():
        pass
