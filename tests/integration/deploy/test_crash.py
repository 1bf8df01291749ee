"""SIGKILL at every ledger write in turn, before and after it; the next run finishes the work."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_world import DirectoryWorld, a_site

from orchestrator.deploy import commands
from orchestrator.deploy.model import Stage
from tests.support.crash import Death, Ended, Moment, Running
from tests.support.crash_sites import SimSite, life
from tests.support.crash_sweep import every_write

# The fewest writes that each verb of a site with two workers makes.
LEAST = {"up": 16, "scale_up": 8, "scale_down": 7, "roll": 16, "down": 10}


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimSite]:
    site = SimSite(tmp_path / "site", 2)
    try:
        yield site
    finally:
        site.close()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_simulated_site_killed_at_every_ledger_write_of_its_life(
    moment: Moment, simulated: SimSite
) -> None:
    found = every_write(simulated, life(2, 3), moment)
    print(found)
    assert found.troubles == []
    assert {verb: many for verb, many in found.points.items() if many < LEAST[verb]} == {}
    assert set(found.points) == set(LEAST)


def scaled_in(directory: Path, death: Death | None = None) -> Ended:
    """`scale workers 1` of a site whose third worker has a running task, so it is drained."""

    def act() -> None:
        world = DirectoryWorld(directory, a_site(3))
        world.workload.jobs["lab-workers-3"] = [7]
        sys.exit(commands.scale(world.context(), "workers", 1).exit_code)

    return Running(directory, (), death, act=act).end()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_every_ledger_write_while_machines_are_drained(moment: Moment, tmp_path: Path) -> None:
    kinds, write, left = set[str](), 0, ["lab-central-1", "lab-vobox-1", "lab-workers-1"]
    while True:
        write += 1
        directory = tmp_path / str(write)
        world = DirectoryWorld(directory, a_site(3))
        ctx = world.context()
        assert commands.up(ctx).exit_code == 0
        ctx.ledger.close()
        ended = scaled_in(directory, Death(moment, write))
        if not ended.killed:
            break
        kinds |= ended.writes[-1]
        assert ended.code == -signal.SIGKILL
        assert scaled_in(directory).code == 0, write
        assert world.names() == left, (write, "leaked, doubled or missing")
        ctx = world.context()
        assert commands.plan(ctx).changes == (), write
        assert ctx.ledger.open_intents() == (), write
        assert {name: r.stage for name, r in ctx.ledger.records().items()} == dict.fromkeys(left, Stage.READY)
        ctx.ledger.close()
    assert {"open drain worker", "done drain worker", "open destroy worker", "machine gone"} <= kinds
