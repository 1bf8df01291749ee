"""Who runs what, by claims, heartbeats and reports."""

from __future__ import annotations

from orchestrator.vobox.registry import Counts, Registry


def test_counts_follow_claims_and_reports() -> None:
    known = Registry()
    known.asks("a", "farm", 0.0)
    known.asks("b", "farm", 0.0)
    known.asks("c", "other", 0.0)
    assert known.counts("farm", 1.0) == Counts(2, 0)
    known.answered("a", "farm", [(1, 1)], 1.0)
    assert known.counts("farm", 2.0) == Counts(1, 1)
    known.reported((1, 1), "RUNNING", 3.0)
    assert (known.owner((1, 1)), known.tasks("a")) == ("a", {(1, 1)})
    known.reported((1, 1), "DONE", 4.0)
    assert known.counts("farm", 5.0) == Counts(2, 0)
    assert known.owner((1, 1)) is None


def test_silent_agents_and_jobs_are_forgotten_but_waiting_ones_are_not() -> None:
    known = Registry()
    known.asks("waits", "farm", 0.0)
    known.answered("works", "farm", [(1, 1)], 0.0)
    known.beats((1, 1), "works", "farm", 50.0)
    assert known.counts("farm", 100.0) == Counts(1, 1)
    assert known.counts("farm", 111.0) == Counts(1, 0)
    known.answered("waits", "farm", [], 111.0)
    assert known.counts("farm", 130.0) == Counts(0, 0)


def test_heartbeats_teach_after_a_restart() -> None:
    known = Registry()
    known.beats((3, 2), "a", "farm", 0.0)
    assert known.tasks("a") == {(3, 2)}
    known.reported((3, 2), "WAITING", 1.0)
    assert known.tasks("a") == set()


def test_an_agent_that_hung_up_is_no_longer_idle() -> None:
    known = Registry()
    known.asks("a", "farm", 0.0)
    known.left("a")
    assert known.counts("farm", 0.0) == Counts(0, 0)
