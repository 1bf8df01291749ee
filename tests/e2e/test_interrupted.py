"""SIGKILL to `orchestrate up` and `down` at any moment: the next one finishes, and nothing is left over."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from pathlib import Path

from tests.e2e import traces
from tests.e2e.grid import Grid, leaving_nothing, wait_for

SITE = """\
vo: alice
site: cut
groups:
  central: {role: central}
  vobox:   {role: vobox, needs: [central]}
  workers: {role: worker, needs: [vobox]}
"""


def writes(grid: Grid) -> int:
    """How often the ledger was written to, so far: decisions, intents opened, intents closed."""
    file = grid.directory / ".orchestrate/cut/ledger.db"
    if not file.exists():
        return 0
    sums = "select (select count(*) from decision) + (select count(*) from intent) + (select count(closed) from intent)"
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as ledger:
            return int(ledger.execute(sums).fetchone()[0])
    except sqlite3.OperationalError:  # its tables are being made
        return 0


def killed(grid: Grid, verb: str, *words: str, after: int = 0, seconds: float = 60.0, whole: bool = False) -> str:
    """Run the verb and SIGKILL it after so many ledger writes of its own, or so many seconds.

    With ``whole`` all that it has started dies with it; else its Ansible, say, goes on without it.
    """
    before, begun = writes(grid), time.monotonic()
    running = grid.start(verb, *words)

    def due() -> bool:
        late = time.monotonic() - begun > seconds
        return late or writes(grid) - before >= after > 0 or running.poll() is not None

    wait_for(f"{verb} is where it is to be killed", 90, due)
    if running.poll() is None:
        (os.killpg if whole else os.kill)(running.pid, signal.SIGKILL)
    running.wait()
    assert running.stdout is not None
    running.stdout.close()
    return f"{verb} {'killed' if running.returncode < 0 else 'ended'} after {writes(grid) - before} writes"


def test_up_and_down_killed_at_any_moment_are_finished_by_the_next(tmp_path: Path, cache: Path) -> None:
    grid = Grid.of(tmp_path / "cut", SITE, cache)
    dice = random.Random(2)
    told = []
    with leaving_nothing(grid):
        for after in (1, 4, 6, 5, 3):
            told.append(killed(grid, "up", after=after, whole=dice.random() < 0.5))
        for most in (1.0, 2.0, 4.0):
            told.append(killed(grid, "up", seconds=dice.uniform(0.3, most)))
        print("\n".join(told))
        assert sum("killed" in line for line in told) >= 6
        print(grid.run("up"))
        assert "nothing to do" in grid.run("up")
        machines = grid.machines()
        assert sorted(each.name for each in machines) == ["cut-central-1", "cut-vobox-1", "cut-workers-1"]
        for each in machines:
            supervisors = [text for text in traces.processes(each.root).values() if "supervisord" in text]
            assert len(supervisors) == 1, supervisors
        grid.hello()
        print(killed(grid, "down", "--yes", after=4))
        grid.run("down", "--yes")
        grid.nothing_left(machines)

