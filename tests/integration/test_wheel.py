"""The wheel holds all that an installed ``orchestrate`` needs, and nothing that is nobody's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("playbooks", "templates", "images", "cvmfs")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which a site was brought up beside its spec: its keys lie there."""
    copy = tmp_path_factory.mktemp("source") / "orchestrator"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", ".orchestrate", ".*_cache", ".hypothesis")
    )
    keys = copy / "templates/sites/.orchestrate/one-box/keys"
    keys.mkdir(parents=True)
    (keys / "ca.key").write_text("secret")
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w"]
    subprocess.run([*command, str(out), str(source)], check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what the wheel depends on is borrowed from this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", str(wheel)], check=True)
    packages = next(home.glob("lib/python3*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def orchestrate(installed: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [installed / "bin/orchestrate", *words], cwd=installed, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def _wanted(source: Path) -> set[str]:
    """The files of the checkout by their place in the wheel, without what Python and a site leave behind."""
    wanted = set()
    for folder in ("orchestrator", *SHIPPED):
        for path in (source / folder).rglob("*"):
            if path.is_file() and not {".orchestrate", "__pycache__"} & set(path.parts):
                name = path.relative_to(source).as_posix()
                wanted.add(name if folder == "orchestrator" else f"orchestrator/shipped/{name}")
    return wanted


def test_the_wheel_holds_every_file_and_no_key(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("orchestrator/")}
    assert {f"orchestrator/shipped/{name}" for name in SHIPPED} == {
        "/".join(name.split("/")[:3]) for name in held if "/shipped/" in name
    }
    assert {"orchestrator/agent/header.sh", "orchestrator/tasks/queries.sql"} <= held
    assert held == _wanted(source)
    assert not [name for name in held if ".orchestrate" in name or "__pycache__" in name]


def test_an_installed_orchestrate_works(installed: Path) -> None:
    assert json.loads(orchestrate(installed, "schema"))["properties"]["groups"]
    sites = next(installed.glob("lib/python3*/site-packages/orchestrator/shipped/templates/sites"))
    orchestrate(installed, "validate", str(sites / "one-box.yaml"))
    broken = installed / "broken.yaml"
    broken.write_text("vo: alice\ngroups: {w: {role: wroker}}\n")
    assert "broken.yaml:2:" in orchestrate(installed, "validate", str(broken), code=2)


def test_it_finds_what_ships_with_it(installed: Path) -> None:
    ask = f"from orchestrator.runtime.files import shipped\nfor name in {SHIPPED}: print(shipped(name))"
    done = subprocess.run(
        [installed / "bin/python", "-c", ask], cwd=installed, capture_output=True, text=True, check=True
    )
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert [folder.name for folder in folders] == list(SHIPPED)
    assert all(folder.is_relative_to(installed) and any(folder.iterdir()) for folder in folders)
