"""What runs on a machine that is configured: playbooks/host, loaded as the action ``configure`` loads it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.runtime.files import shipped

_NAMES = ("place", "programs", "configure")  # each imports only those before it


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in _NAMES:
        path = shipped("playbooks") / "host" / f"{name}.py"
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(path.read_text(), path, "exec"), module.__dict__)
    return module


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_what_is_right_is_not_touched(host: Any, tmp_path: Path) -> None:
    files = [{"path": "etc/a", "content": "A"}, {"path": "etc/key", "content": "K", "mode": "0600"}]
    told = (str(tmp_path), {"etc": "0755"}, files, ["etc/*"], ["etc/kept"])
    sums = {"etc/a": _sum("A"), "etc/key": _sum("K")}
    assert host.place(*told) == (["etc/", "etc/a", "etc/key"], sums)
    before = [path.stat().st_ino for path in sorted((tmp_path / "etc").iterdir())]
    assert host.place(*told) == ([], sums)
    assert [path.stat().st_ino for path in sorted((tmp_path / "etc").iterdir())] == before
    assert (tmp_path / "etc/key").stat().st_mode & 0o777 == 0o600


def test_edits_modes_and_strangers_are_mended(host: Any, tmp_path: Path) -> None:
    files = [{"path": "etc/a", "content": "A"}, {"path": "etc/b", "content": "B"}]
    told = (str(tmp_path), {"etc": "0755"}, files, ["etc/*"], ["etc/kept"])
    host.place(*told)
    (tmp_path / "etc/a").write_text("by hand")
    (tmp_path / "etc/b").chmod(0o666)
    for name in ("kept", "stranger"):
        (tmp_path / "etc" / name).touch()
    assert host.place(*told)[0] == ["etc/a", "etc/b", "etc/stranger"]
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == ["a", "b", "kept"]


def test_only_runtimes_that_nobody_uses_go(host: Any, tmp_path: Path) -> None:
    runtimes = tmp_path / "runtime"
    for name in ("mine", "machines", "processes", "nobodys"):
        (runtimes / name / "bin").mkdir(parents=True)
    (tmp_path / "other/bin").mkdir(parents=True)
    (tmp_path / "other/bin/python").write_text(f'#!/bin/sh\nexec {runtimes}/machines/bin/python3 "$@"\n')
    user = subprocess.Popen(["sleep", "60"], cwd=runtimes / "processes")
    try:
        assert host.tidy(str(runtimes / "mine")) == ["runtime nobodys is gone"]
        assert sorted(path.name for path in runtimes.iterdir()) == ["machines", "mine", "processes"]
    finally:
        user.kill()
        user.wait()
    assert host.tidy(str(runtimes / "mine")) == ["runtime processes is gone"]


def test_a_program_is_changed_with_a_unit_of_its_own(host: Any) -> None:
    changed = ["etc/central.json", "/etc/systemd/system/orchestrate-try-central-2.service"]
    assert host.complete({"name": "central", "processes": 2}, changed)["changed"]
    assert not host.complete({"name": "optimizer"}, changed)["changed"]
    assert host.complete({"name": "postgres", "reads": False}, []) == {
        "name": "postgres", "reads": False, "processes": 1, "changed": False,
    }  # fmt: skip


def test_a_program_is_up_when_it_says_so(host: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ready = sys.modules["programs"].Ready(str(tmp_path))
    code = "from orchestrator.runtime.daemon import ready; ready()"
    before = ready.heard()
    told = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "run/notify")}
    )
    assert before == set()
    assert told.wait(60) == 0
    assert ready.heard() == {told.pid}  # by what the kernel says, not by what it says


def test_nobody_who_hears_and_too_long_a_path_are_no_trouble(host: Any, tmp_path: Path) -> None:
    root = tmp_path / ("x" * 120)
    (root / "run").mkdir(parents=True)
    assert sys.modules["programs"].Ready(str(root)).heard() == set()
    code = "from orchestrator.runtime.daemon import ready; ready()"
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody")}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=True)
