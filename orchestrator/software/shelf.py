"""The package cache's files on one node, and what may be thrown away. Blocking; knows no network.

Layout under the root (KEY is NAME-VERSION-<first digits of the archive's checksum>):

    KEY/archive/FILE        the archive, seeded while some agent of the node lives
    KEY/release/            the release; it has this name only when it is whole
    KEY/package.json        written last: the entry is ready
    KEY/used                its mtime is the last use
    locks/KEY.{install,lease,seed}

Whoever changes an entry holds its install lock alone; whoever uses it shares its lease lock; so an
entry in use is never evicted, and a killed agent's locks are gone with it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.software.locks import FileLock
from orchestrator.software.model import Package


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in the cache: its bytes on disk and when it was used last (epoch seconds)."""

    key: str
    size: int
    used: float


def excess(entries: Sequence[Entry], limit: int, need: int) -> int:
    """Bytes that must go before ``need`` more fit into ``limit``. Pure."""
    return max(0, sum(entry.size for entry in entries) + need - limit)


def key_of(package: Package) -> str:
    """The directory of a package: two contents of one name and version never share one."""
    return f"{package.name}-{package.version}-{package.sha256[:16]}"


class Shelf:
    """The directories of one cache."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def archive(self, key: str) -> Path:
        """The directory of the archive file."""
        return self.root / key / "archive"

    def release(self, key: str) -> Path:
        """The unpacked release."""
        return self.root / key / "release"

    def lock(self, key: str, kind: str) -> FileLock:
        """``kind``: install, lease or seed."""
        return FileLock(self.root / "locks" / f"{key}.{kind}")

    def ready(self, key: str) -> bool:
        """The release is there, whole and checked."""
        return (self.root / key / "package.json").exists()

    def touch(self, key: str) -> None:
        """It was used now."""
        (self.root / key / "used").touch()

    def clear(self, key: str) -> None:
        """What a killed agent left half done is gone; the archive it was fetching stays."""
        home = self.root / key
        home.mkdir(parents=True, exist_ok=True)
        for left in home.iterdir():
            if left.name != "archive":
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def finish(self, key: str, package: Package) -> None:
        """The entry is ready; its size is noted."""
        home = self.root / key
        facts = {"name": package.name, "version": package.version, "bytes": _disk_use(home)}
        self.touch(key)
        draft = home / ".package.json"
        draft.write_text(json.dumps(facts))
        draft.replace(home / "package.json")

    def spoil(self, key: str) -> None:
        """Nothing of the entry is left: what came was wrong."""
        shutil.rmtree(self.root / key, ignore_errors=True)

    def installed(self) -> list[str]:
        """ "NAME::VERSION" of each package that is ready."""
        found = set()
        for marker in self.root.glob("*/package.json"):
            with suppress(FileNotFoundError):
                facts = json.loads(marker.read_text())
                found.add(f"{facts['name']}::{facts['version']}")
        return sorted(found)

    def entries(self) -> list[Entry]:
        """Everything that takes room, least recently used first; what was never finished comes first."""
        found = []
        for home in self.root.iterdir() if self.root.is_dir() else ():
            if home.name.startswith(".") or home.name == "locks" or not home.is_dir():
                continue
            try:
                facts = json.loads((home / "package.json").read_text())
                found.append(Entry(home.name, facts["bytes"], (home / "used").stat().st_mtime))
            except FileNotFoundError:
                found.append(Entry(home.name, _disk_use(home), 0.0))
        return sorted(found, key=lambda entry: (entry.used, entry.key))

    def evict(self, limit: int, need: int, leave: Callable[[str], None]) -> list[str]:
        """Unused entries are gone, oldest use first, until ``need`` more bytes fit; gives their keys.

        ``leave(key)`` is called before an entry goes. What is in use stays, even over the limit.
        """
        for half in self.root.glob(".gone-*"):
            shutil.rmtree(half, ignore_errors=True)  # an eviction that was killed
        entries, gone = self.entries(), []
        left = excess(entries, limit, need)
        for entry in entries:
            if left <= 0:
                break
            if self._remove(entry.key, leave):
                left -= entry.size
                gone.append(entry.key)
        return gone

    def _remove(self, key: str, leave: Callable[[str], None]) -> bool:
        with _held(self.lock(key, "install")) as alone, _held(self.lock(key, "lease")) as unused:
            if not alone or not unused or not (self.root / key).exists():
                return False
            leave(key)
            gone = self.root / f".gone-{key}-{os.getpid()}"
            os.rename(self.root / key, gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True


@contextmanager
def _held(lock: FileLock) -> Iterator[bool]:
    try:
        yield lock.try_exclusive()
    finally:
        lock.release()


def _disk_use(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # somebody may be unpacking or evicting it
            total += path.lstat().st_blocks * 512
    return total
