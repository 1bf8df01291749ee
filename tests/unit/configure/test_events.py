"""Ansible's events become one outcome for each machine."""

from __future__ import annotations

from typing import Any

from orchestrator.configure.events import LAST_TASK, Tally, task_of


def _event(kind: str, host: str = "m1", task: str = "t", **result: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": {"host": host, "task": task, "res": result}}


def test_last_task_is_success_with_what_changed() -> None:
    tally = Tally(["m1"])
    assert tally.feed(_event("runner_on_ok", changed=True, what=["etc/a"]), 1) is None
    assert tally.feed(_event("runner_on_ok", task="copy", changed=True), 1) is None
    outcome = tally.feed(
        _event("runner_on_ok", task=LAST_TASK, changed=True, what=["etc/applied.json"]), 2.345
    )
    assert outcome is not None
    assert (outcome.machine, outcome.ok, outcome.seconds, outcome.changed) == (
        "m1",
        True,
        2.35,
        ("etc/a", "copy"),
    )
    assert list(tally.end(3, "x")) == []


def test_failure_tells_task_and_output_once() -> None:
    tally = Tally(["m1", "m2"])
    outcome = tally.feed(_event("runner_on_failed", task="place", msg="no room", stderr="disk full"), 1)
    assert outcome is not None
    assert not outcome.ok
    assert outcome.evidence == "task 'place' failed: no room\ndisk full"
    assert tally.feed(_event("runner_on_failed", task="place", msg="again"), 1) is None
    (silent,) = tally.end(9, "killed")
    assert (silent.machine, silent.ok, silent.evidence) == ("m2", False, "killed")


def test_unreachable_and_ignored() -> None:
    tally = Tally(["m1"])
    ignored = _event("runner_on_failed")
    ignored["event_data"]["ignore_errors"] = True
    assert tally.feed(ignored, 1) is None
    outcome = tally.feed(_event("runner_on_unreachable", msg="timed out"), 1)
    assert outcome is not None
    assert "cannot be reached: timed out" in outcome.evidence


def test_other_hosts_and_events_do_not_matter() -> None:
    tally = Tally(["m1"])
    assert tally.feed(_event("runner_on_ok", host="stranger", task=LAST_TASK), 1) is None
    assert tally.feed({"event": "verbose"}, 1) is None
    assert task_of(_event("runner_on_start", task="place")) == ("m1", "place")
    assert task_of(_event("runner_on_ok")) is None
