"""Many machines: one line a group, with rate, time left and failures by kind."""

import io
from pathlib import Path

from directory_world import DirectoryWorld, a_site

from orchestrator.cli import live
from orchestrator.cli.groups import Groups
from orchestrator.deploy import commands
from orchestrator.deploy.events import Finished, Planned, Started
from orchestrator.deploy.model import Action
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.report import Ended, Result
from orchestrator.errors import GridError, PermanentError
from orchestrator.runtime.virtual import VirtualClock

CHANGES = tuple(
    Change(f"create:farm-{n}", Action.CREATE, f"farm-{n}", "farm", "worker", "local", "it is missing")
    for n in range(100)
)


def test_a_group_tells_its_counts_its_rate_and_the_time_left() -> None:
    groups = Groups()
    groups.feed(Planned(Plan("lab", "up", 0.0, "", CHANGES)), 0.0)
    for n, change in enumerate(CHANGES[:43]):
        groups.feed(Started(change), float(n))
    for n, change in enumerate(CHANGES[:40]):
        groups.feed(Finished(Result(change, Ended.DONE)), float(n))
    groups.feed(Finished(Result(CHANGES[40], Ended.FAILED, error="farm-40: the mirror answered 404")), 40.0)
    groups.feed(Finished(Result(CHANGES[41], Ended.FAILED, error="farm-41: the mirror answered 404")), 40.0)
    assert list(groups.rows(40.0)) == [("farm", "40/100", "making 1, 2 failed", "1.0/s", "58 s left")]
    assert groups.failures() == ["2 machines: the mirror answered 404"]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_views_of_many_machines_are_short_and_end_with_failures_by_kind(tmp_path: Path) -> None:
    def bad(verb: str, name: str) -> GridError | None:
        return (
            PermanentError("disk full")
            if verb == "create" and name in ("lab-farm-7", "lab-farm-19")
            else None
        )

    site = a_site(1, farm={"role": "worker", "count": 30})
    for out in (io.StringIO(), Terminal()):
        with live.view(False, out) as sink:
            world = DirectoryWorld(tmp_path / type(out).__name__, site, bad, clock=VirtualClock(1e9))
            commands.up(world.context(sink, rounds=1))
        lines = out.getvalue().splitlines()
        # A terminal may have seen frames of the live board, each with the failures of that moment.
        assert len([line for line in lines if "lab-farm-" in line]) < 10
        assert any("2 machines: disk full" in line for line in lines)
        assert "2 failed (lab-farm" in lines[-1]
