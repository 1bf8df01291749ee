"""Locks of one node, and what the cache throws away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.software.locks import FileLock
from orchestrator.software.model import Package
from orchestrator.software.shelf import Entry, Shelf, excess, key_of


def package(name: str, digit: str = "a") -> Package:
    return Package(name, "1", "", "", 0, 10, digit * 64, "b" * 40, b"")


def stored(shelf: Shelf, one: Package, size: int, used: float) -> str:
    key = key_of(one)
    shelf.archive(key).mkdir(parents=True)
    (shelf.archive(key) / "x").write_bytes(b"x" * size)
    shelf.finish(key, one)
    os.utime(shelf.root / key / "used", (used, used))
    return key


@pytest.mark.parametrize(
    ("sizes", "limit", "need", "expected"),
    [([], 10, 5, 0), ([5, 5], 10, 0, 0), ([5, 5], 10, 3, 3), ([50], 10, 0, 40)],
)
def test_excess(sizes: list[int], limit: int, need: int, expected: int) -> None:
    assert excess([Entry(str(size), size, 0) for size in sizes], limit, need) == expected


def test_oldest_use_goes_first_and_no_more_than_needed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    keys = [
        stored(shelf, package(name), 100_000, used) for name, used in (("new", 30), ("old", 10), ("mid", 20))
    ]
    total = sum(entry.size for entry in shelf.entries())
    left: list[str] = []
    assert shelf.evict(total - 50_000, 0, left.append) == [keys[1]]
    assert left == [keys[1]]
    assert shelf.installed() == ["mid::1", "new::1"]
    assert shelf.evict(total, 0, left.append) == []


def test_what_is_in_use_or_in_the_making_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    used, making, free = (stored(shelf, package(name), 100_000, 1) for name in ("used", "making", "free"))
    lease, install = shelf.lock(used, "lease"), shelf.lock(making, "install")
    assert lease.try_shared()
    assert install.try_exclusive()
    assert shelf.evict(0, 0, lambda key: None) == [free]
    lease.release()
    install.release()
    assert sorted(shelf.evict(0, 0, lambda key: None)) == sorted([used, making])
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]


def test_leftovers_of_killed_agents_go_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    stored(shelf, package("whole"), 1000, 1)
    (tmp_path / "half-1-aa" / "archive").mkdir(parents=True)
    (tmp_path / "half-1-aa" / "archive" / "x").write_bytes(b"x" * 9000)
    (tmp_path / ".gone-x-1" / "deep").mkdir(parents=True)
    assert shelf.installed() == ["whole::1"]
    assert shelf.evict(sum(entry.size for entry in shelf.entries()) - 1, 0, lambda key: None) == ["half-1-aa"]
    assert not (tmp_path / ".gone-x-1").exists()


def test_clear_keeps_only_what_was_fetched(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    key = stored(shelf, package("a"), 10, 1)
    (tmp_path / key / ".release.123").mkdir()
    shelf.clear(key)
    assert [path.name for path in (tmp_path / key).iterdir()] == ["archive"]
    assert not shelf.ready(key)


def test_two_contents_of_one_version_live_side_by_side() -> None:
    assert key_of(package("a", "1")) != key_of(package("a", "2"))


def test_locks_exclude_each_other_even_in_one_process(tmp_path: Path) -> None:
    one, two, three = (FileLock(tmp_path / "l") for _ in range(3))
    assert one.try_shared()
    assert two.try_shared()
    assert not three.try_exclusive()
    one.release()
    two.release()
    assert three.try_exclusive()
    assert not one.try_shared()
    three.release()


async def test_waiting_ends_when_the_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl,os,sys;f=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT);fcntl.flock(f,fcntl.LOCK_EX);"
            "print('held',flush=True);sys.stdin.read()",
            str(tmp_path / "l"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    lock = FileLock(tmp_path / "l")
    waiting = asyncio.create_task(lock.exclusive())
    await asyncio.sleep(0)
    assert not waiting.done()
    holder.kill()
    holder.communicate()
    await asyncio.wait_for(waiting, 5)
    lock.release()
