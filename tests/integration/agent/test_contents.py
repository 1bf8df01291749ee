"""What the real agent file holds is all that it imports, and what is packed in it unfolds where it must."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.agent import bundle

# Imports every module that travels, and tells which of them miss something of the standard library.
IMPORT_ALL = """
import importlib, json, pathlib, sys, zipfile
zipped = next(path for path in sys.path if path.endswith(".zip"))
site = next(path for path in sys.path if path.endswith("site-packages"))
files = [str(file.relative_to(site)) for file in pathlib.Path(site).rglob("*.pyc")] + zipfile.ZipFile(zipped).namelist()
missing, done = [], 0
for file in sorted(files):
    name = file.removesuffix(".pyc").replace("/", ".").removesuffix(".__init__")
    if not file.endswith(".pyc") or name.partition(".")[0] in sys.stdlib_module_names or name.endswith("__main__"):
        continue
    try:
        importlib.import_module(name)
        done += 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in sys.stdlib_module_names:
            missing.append(f"{name}: {error.name}")
    except ImportError:
        pass  # an optional part of a package, for another package that does not travel
print(json.dumps({"missing": missing, "done": done}))
"""
FIND = "import libtorrent, isal.isal_zlib; print(libtorrent.__file__, isal.isal_zlib.__file__)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent file, unpacked by itself."""
    folder = tmp_path_factory.mktemp("agent")
    built = bundle.build_agent(folder / "agent")
    env = {"PATH": "/usr/bin:/bin", "ORCHESTRATE_AGENT_CACHE": str(folder)}
    done = subprocess.run(
        [built.path, "--help"], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert "pull jobs and run them" in done.stdout
    return next(path.parent.parent for path in folder.glob("*/bin/python3"))


def python(home: Path, program: str, **env: str) -> str:
    command = [home / "bin/python3", "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def packed(home: Path) -> list[Path]:
    return sorted(home.rglob("*.so.xz"))


def test_a_start_unfolds_nothing_and_the_first_import_does_it_once(home: Path) -> None:
    assert len(packed(home)) >= 3
    assert not [path for path in packed(home) if path.with_suffix("").exists()]
    with ThreadPoolExecutor(4) as pool:  # agents of one node start together
        told = list(pool.map(lambda _: python(home, FIND), range(4)))
    assert len(set(told)) == 1
    for name in told[0].split():
        assert Path(name).is_relative_to(home)
        assert Path(name).suffix == ".so"
    folder = home.glob("lib/*/site-packages/libtorrent/*")
    assert len(list(folder)) == 3  # packed, unfolded and what stands for it: no part of a try


@pytest.mark.needs_root
def test_where_nothing_can_be_written_it_is_unfolded_for_the_process_alone(
    home: Path, tmp_path: Path
) -> None:
    for path in packed(home):
        path.with_suffix("").unlink(missing_ok=True)
    tmp_path.chmod(0o777)

    def import_it() -> None:  # root may write everywhere; nobody may not, but in a public folder
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    for folder in (home, *home.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [home / "bin/python3", "-c", "import libtorrent; print(libtorrent.__version__)"],
        env={"TMPDIR": str(tmp_path)},
        preexec_fn=import_it,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.")
    assert not list(tmp_path.iterdir())
    assert not [path for path in packed(home) if path.with_suffix("").exists()]


def test_nothing_of_the_standard_library_is_missing(home: Path) -> None:
    told = json.loads(python(home, IMPORT_ALL))
    assert told["missing"] == []
    assert told["done"] > 100
