"""A relocatable Python: moved away, started in odd ways, it uses nothing but its own files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.runtime import relocatable
from orchestrator.runtime.relocatable import launcher, libraries, stdlib

REPORT = (
    "import sys, os, json, ssl, zoneinfo, h11; "
    "print(json.dumps([sys.executable, sys.path, dict(os.environ), h11.__version__, sys.flags.isolated]))"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in one place, moved to another whose name has a space."""
    base = tmp_path_factory.mktemp("relocatable")
    built = relocatable.build(base / "built", packages=["h11"])
    assert built.files == sum(1 for p in built.path.rglob("*") if p.is_file())
    assert built.size == sum(p.stat().st_size for p in built.path.rglob("*") if p.is_file())
    return built.path.rename(base / "moved here")


def run(*words: str | Path, cwd: Path | None = None, **env: str) -> list[object]:
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=True)
    result: list[object] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("how", ["absolute", "relative", "path", "symlink", "sh"])
def test_it_finds_itself_however_it_is_started(tree: Path, tmp_path: Path, how: str) -> None:
    python = tree / "bin/python3"
    link = tmp_path / "py"
    link.symlink_to(os.path.relpath(python, tmp_path))
    (tmp_path / "again").symlink_to("py")
    executable, path, *_ = {
        "absolute": lambda: run(python, "-c", REPORT),
        "relative": lambda: run("./bin/python3", "-c", REPORT, cwd=tree),
        "path": lambda: run("/bin/sh", "-c", 'python3 -c "$1"', "sh", REPORT, PATH=f"{tree}/bin:/bin"),
        "symlink": lambda: run(tmp_path / "again", "-c", REPORT, PATH="/usr/bin:/bin"),
        "sh": lambda: run("/bin/sh", "python3", "-c", REPORT, cwd=tree / "bin"),
    }[how]()
    assert executable == str(python)
    assert isinstance(path, list)
    assert all(entry.startswith(f"{tree}/") for entry in path)


def test_the_host_gets_neither_in_nor_does_anything_leak_out(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the working directory came in')")
    hostile = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nonexistent", "LD_LIBRARY_PATH": "/nonexistent"}
    _, _, environment, _, isolated = run(tree / "bin/python3", "-c", REPORT, cwd=tmp_path, **hostile)
    assert isolated
    assert isinstance(environment, dict)
    assert {
        k: v for k, v in environment.items() if k not in ("PWD", "LC_CTYPE", "SHLVL", "_", "OLDPWD")
    } == hostile


def test_a_child_started_through_sys_executable_works_and_so_do_programs_of_the_host(tree: Path) -> None:
    code = (
        "import sys, json, subprocess as s; "
        f"print(json.dumps([s.check_output(w, text=True) for w in ([sys.executable, '-c', 'import sys, h11; print(sys.prefix)'], "
        f"[{sys.executable!r}, '-c', 'import sys; print(sys.base_prefix)'])]))"
    )
    assert run(tree / "bin/python3", "-c", code) == [f"{tree}\n", f"{sys.base_prefix}\n"]


def test_running_it_writes_nothing_into_it(tree: Path) -> None:
    before = sorted(tree.rglob("*"))
    run(tree / "bin/python3", "-c", REPORT)
    assert sorted(tree.rglob("*")) == before
    assert not [p for p in before if p.name == "__pycache__" or p.suffix == ".py"]


def test_every_library_it_loads_is_its_own(tree: Path) -> None:
    code = "import ssl, json, ctypes, sqlite3; print(json.dumps(sorted({l.split()[-1] for l in open('/proc/self/maps') if '.so' in l})))"
    loaded = run(tree / "bin/python3", "-c", code)
    assert loaded
    assert all(str(path).startswith(("here/", str(tree))) for path in loaded), loaded


def test_the_same_inputs_give_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    again = relocatable.build(tmp_path / "again", packages=["h11"]).path
    assert digests(again) == digests(tree)


def digests(root: Path) -> dict[str, tuple[int, str]]:
    return {
        p.relative_to(root).as_posix(): (p.stat().st_mode, hashlib.sha256(p.read_bytes()).hexdigest())
        for p in root.rglob("*")
        if p.is_file()
    }


def test_bad_input_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no_such_package is not installed"):
        relocatable.build(tmp_path / "out", packages=["no_such_package"])
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="exists already"):
        relocatable.build(tmp_path / "there")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


def test_requirements_follow_the_installed_metadata() -> None:
    found = relocatable.requirements(["httpx"])
    assert {"httpx", "httpcore", "h11", "anyio", "idna", "certifi"} <= set(found)
    assert not {"rich", "click", "trio", "h2"} & set(found)


def test_missing_libraries_are_told(tmp_path: Path) -> None:
    listing = tmp_path / "loader"
    listing.write_text("#!/bin/sh\necho '\tlibgone.so.1 => not found'\n")
    listing.chmod(0o755)
    assert libraries.needs(listing, tmp_path / "x.so").missing == ("libgone.so.1",)


@pytest.mark.parametrize(
    ("name", "travels"),
    [
        ("asyncio", True),
        ("tkinter", False),
        ("_tkinter.cpython-311-x86_64-linux-gnu.so", False),
        ("__pycache__", False),
        ("ssl.py", True),
    ],
)
def test_what_of_the_standard_library_travels(name: str, travels: bool) -> None:
    assert stdlib.wanted(name, stdlib.EXCLUDE) is travels


def test_variables_of_a_launcher_are_paths_in_the_tree() -> None:
    text = launcher.script(launcher.Launcher(variables={"DATA": "share/it's"}), "ld.so")
    assert """export DATA="$_tree"/'share/it'"'"'s'\n""" in text
