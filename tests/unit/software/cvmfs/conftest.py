"""One set of keys for all tests here (making them takes a while), and a small release."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.software.cvmfs import keys as key_files
from orchestrator.software.cvmfs.keys import RepositoryKeys

FQRN = "alice.example.org"
NOW = 1_750_000_000.0


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where that is possible: a repository has 256 directories, most tests make one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield Path(place)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> RepositoryKeys:
    return key_files.create(tmp_path_factory.mktemp("keys"), FQRN, NOW)


@pytest.fixture(scope="session")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> RepositoryKeys:
    return key_files.create(tmp_path_factory.mktemp("other"), FQRN, NOW)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return make_release(tmp_path / "release")


@pytest.fixture
def make() -> Callable[[Path], Path]:
    return make_release


def make_release(top: Path) -> Path:
    (top / "bin").mkdir(parents=True)
    (top / "bin/run").write_text("#!/bin/sh\necho hello\n")
    (top / "bin/run").chmod(0o755)
    os.link(top / "bin/run", top / "bin/run-again")
    (top / "lib/deep/er").mkdir(parents=True)
    (top / "lib/deep/er/data.bin").write_bytes(bytes(range(256)) * 20_000)  # 5,120,000 bytes: two pieces
    (top / "lib/empty").touch()
    (top / "lib/link").symlink_to("deep/er/data.bin")
    (top / "share").mkdir()
    Path(os.fsdecode(os.fsencode(top) + b"/share/caf\xe9")).write_text("a name that is not UTF-8")
    for place in (top, *top.rglob("*")):
        os.utime(place, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return top
