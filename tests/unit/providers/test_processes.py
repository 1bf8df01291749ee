"""The processes of a machine are found by their mark and ended, and no others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from orchestrator.providers import _processes


def _start(root: Path, script: str) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ["PATH"], _processes.MARK: str(root)}
    child = subprocess.Popen(["sh", "-c", script], env=environment, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def test_children_without_the_mark_are_found_through_their_parents(tmp_path: Path) -> None:
    child = _start(tmp_path, "env -i sh -c 'sleep 100; :' & echo ready; wait")
    try:
        found = _processes.of_machine(str(tmp_path))
        assert child.pid in {process.pid for process in found}
        assert len(found) >= 2
    finally:
        _processes.end_all(str(tmp_path))
        child.wait()
    assert _processes.of_machine(str(tmp_path)) == set()


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = _start(tmp_path, "trap '' TERM; echo ready; while :; do sleep 100; done")
    _processes.end_all(str(tmp_path), grace=0.2)
    assert child.wait(5) < 0


def test_machines_whose_names_begin_alike_are_apart(tmp_path: Path) -> None:
    one, other = (
        _start(tmp_path / "m-1", "echo ready; sleep 100"),
        _start(tmp_path / "m-10", "echo ready; sleep 100"),
    )
    try:
        _processes.end_all(str(tmp_path / "m-1"))
        assert one.wait(5) != 0
        assert other.poll() is None
    finally:
        _processes.end_all(str(tmp_path / "m-10"))
        other.wait()


def test_the_caller_is_never_found() -> None:
    root = os.environ.get(_processes.MARK, "/nowhere")
    assert os.getpid() not in {process.pid for process in _processes.of_machine(root)}
