"""SIGKILL to `orchestrate up` and `down` at any moment: the next one finishes, and nothing is left over."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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


# Where `up` is killed: (action, group, whether it has ended). The whole of a first `up`, in its order.
MOMENTS = (
    ("create", "central", False),
    ("create", "vobox", True),
    ("configure", "central", False),
    ("configure", "central", True),
    ("configure", "vobox", False),
    ("verify", "vobox", False),
    ("create", "workers", False),
    ("create", "workers", True),
)


def begun(grid: Grid, action: str, group: str, ended: bool, since: float) -> bool:
    """Whether an intent of that kind was opened (or closed) in the ledger since that time."""
    file = grid.directory / ".orchestrate/cut/ledger.db"
    column = "closed" if ended else "opened"
    query = f"select count(*) from intent where action = ? and group_name = ? and {column} > ?"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as ledger:
            return bool(ledger.execute(query, (action, group, since)).fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return False


def killed(grid: Grid, *words: str, due: Callable[[float], bool], whole: bool = False) -> bool:
    """Run a verb and SIGKILL it when it is ``due`` (the time it began); False when it ended before.

    With ``whole`` all that it has started dies with it; else its Ansible, say, goes on without it.
    """
    since = time.time()
    running = grid.start(*words)
    wait_for(f"{words} is where it is to be killed", 90, lambda: running.poll() is not None or due(since))
    with suppress(ProcessLookupError):  # it ended just now
        (os.killpg if whole else os.kill)(running.pid, signal.SIGKILL)
    running.wait()
    assert running.stdout is not None
    running.stdout.close()
    return running.returncode < 0


def test_up_and_down_killed_at_any_moment_are_finished_by_the_next(tmp_path: Path, cache: Path) -> None:
    grid = Grid.of(tmp_path / "cut", SITE, cache)
    dice = random.Random(2)
    with leaving_nothing(grid):
        count = 0
        for action, group, ended in MOMENTS:
            due = partial(begun, grid, action, group, ended)
            hit = killed(grid, "up", due=due, whole=dice.random() < 0.5)
            print(
                f"up killed when {action} {group} had {'ended' if ended else 'begun'}" if hit else "up ended"
            )
            count += hit
        for seconds in (dice.uniform(0.0, 1.0), dice.uniform(0.5, 3.0)):
            count += killed(grid, "up", due=lambda since: time.time() > since + seconds)  # noqa: B023
        assert count >= 6
        print(grid.run("up"))
        assert "nothing to do" in grid.run("up")
        machines = grid.machines()
        assert sorted(each.name for each in machines) == ["cut-central-1", "cut-vobox-1", "cut-workers-1"]
        for each in machines:
            supervisors = [text for text in traces.processes(each.root).values() if "supervisord" in text]
            assert len(supervisors) == 1, supervisors
        grid.hello()
        assert killed(grid, "down", "--yes", due=partial(begun, grid, "destroy", "vobox", False))
        grid.run("down", "--yes")
        grid.nothing_left(machines)
