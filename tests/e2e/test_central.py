"""Central's data saved, lost and put back, and its maintenance, as an admin does it: by the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.providers import _processes
from orchestrator.runtime.files import remove_tree
from tests.e2e.grid import ECHO, Grid, standing, wait_for
from tests.support.central import WAITS
from tests.support.same import same


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Grid]:
    """A site of its own: its central is destroyed."""
    with standing(Grid.of(tmp_path_factory.mktemp("central"), Path("one-box.yaml"), cache)) as made:
        yield made


def _ids(grid: Grid) -> list[int]:
    return sorted(row["id"] for row in grid.json("job", "ps", "-a"))


def test_backup_and_restore_in_place_then_after_the_machine_was_lost(grid: Grid, tmp_path: Path) -> None:
    before = grid.hello("before")["id"]
    content = os.urandom(100_000)
    (tmp_path / "data").write_bytes(content)
    grid.run("file", "put", tmp_path / "data", "kept")
    tmp_path.chmod(0o711)
    go = grid.directory / "go"
    running = grid.submit(WAITS.format(file=go))
    wait_for("it runs", 30, lambda: grid.job(running)["state"] == "RUNNING")
    made = grid.json("central", "backup", "one.backup")
    assert (made["vo"], made["rows"]["task"]) == ("alice", 2)
    assert (grid.directory / "one.backup").stat().st_mode & 0o777 == 0o600
    lost = grid.hello("lost")["id"]

    assert "add --yes" in grid.run("central", "restore", "one.backup", code=2)
    assert lost in _ids(grid)
    done = grid.json("central", "restore", "one.backup", "--yes")
    assert (done["running"], done["read_only"]) == (1, False)
    assert _ids(grid) == [before, running]
    go.touch()
    assert grid.finished(running)["attempt"] == 1, "what ran all the time was not run again"
    assert grid.hello("after")["id"] > lost

    said = grid.run("central", "backup", "two.backup")
    assert "3 tasks" in said
    central = grid.machine("central")
    _processes.end_all(str(central.root))
    remove_tree(central.root)
    grid.run("up")
    assert _ids(grid) == []
    assert "3 tasks" in grid.run("central", "restore", "two.backup", "--yes")
    assert _ids(grid)[:2] == [before, running]
    grid.run("file", "get", "kept", tmp_path / "back")
    assert same(tmp_path / "back", content)
    assert grid.hello("again")["id"] > _ids(grid)[2]


def test_what_is_no_backup_of_this_vo_is_refused(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    assert "no backup of central" in grid.run("central", "restore", tmp_path / "x", "--yes", code=2)
    grid.run("central", "backup", tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    assert "cut off" in grid.run("central", "restore", tmp_path / "cut", "--yes", code=2)
    assert "cannot be read" in grid.run("central", "restore", tmp_path / "none", "--yes", code=2)
    assert not json.loads(grid.run("central", "maintenance", "status", "--json"))["on"]


def test_maintenance_is_told_to_everybody_and_seen_in_status(grid: Grid) -> None:
    assert "--reason" in grid.run("central", "maintenance", "on", code=2)
    assert "read-only" in grid.run("central", "maintenance", "on", "--reason", "new disks until 14:00")
    (grid.directory / "echo.jdl").write_text(ECHO)
    try:
        assert "new disks until 14:00" in grid.run("job", "submit", "echo.jdl", "x", code=3)
        assert _ids(grid)
        assert "new disks until 14:00" in grid.run("status")
        assert "new disks" in grid.run("central", "maintenance", "status")
    finally:
        grid.run("central", "maintenance", "off")
    assert "maintenance" not in grid.run("status")
    grid.hello("open")
