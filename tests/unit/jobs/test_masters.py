"""What follows when the parts of a master are final, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.jobs.masters import decide_finish
from orchestrator.tasks.kinds import Task


def task(number: int, state: str, **spec: Any) -> Task:
    return Task(
        id=number, kind="job", parent=None, owner="ada", state=state, priority=1.0, attempt=1, max_attempts=5,
        task_class=1, spec=spec, resource="", site="", seq=1, submitted=0.0, changed=0.0, reason="", result={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "states", "repeated", "wanted"),
    [
        ({}, ["DONE", "RUNNING"], [], None),
        ({}, ["DONE", "DONE"], [], "DONE"),
        ({}, ["DONE", "DONE_WARN"], [], "DONE_WARN"),
        ({}, ["DONE", "ERROR_E"], [], "ERROR_E"),
        ({"MaxFailFraction": 0.5}, ["DONE", "ERROR_E"], [], "DONE_WARN"),
        ({"MaxFailFraction": 0.49}, ["DONE", "ERROR_E"], [], "ERROR_E"),
        ({"MaxFailFraction": 1.0}, ["ERROR_E", "ERROR_E"], [], "ERROR_E"),  # nothing came of it
        ({"MaxResubmitFraction": 0.5}, ["DONE", "ERROR_E"], [], [2]),
        ({"MaxResubmitFraction": 0.5}, ["DONE", "RUNNING", "ERROR_E"], [], None),
        ({"MaxResubmitFraction": 0.49}, ["DONE", "ERROR_E"], [], "ERROR_E"),
        ({"MaxResubmitFraction": 0.5, "MaxFailFraction": 0.5}, ["DONE", "ERROR_E"], [], [2]),
        ({"MaxResubmitFraction": 0.5}, ["DONE", "ERROR_E"], [0, 1], "ERROR_E"),
        ({"MaxResubmitFraction": 1}, ["DONE", "ERROR_E"], [0, 1], [2]),
        ({"MaxResubmitFraction": 0.1}, ["ERROR_E"] * 3 + ["DONE"] * 17, [], [1, 2]),
        ({"MaxResubmitFraction": 0.7}, ["ERROR_E"] * 10, [0] * 9 + [6], [1]),
        ({"MaxResubmitFraction": 2.0}, ["EXPIRED", "FAILED", "ERROR_SV", "DONE"], [], [1, 2, 3]),
        ({"MaxResubmitFraction": 2.0}, ["KILLED", "DONE"], [], "ERROR_E"),
    ],
)
def test_what_a_master_does(
    limits: dict[str, Any], states: list[str], repeated: list[int], wanted: str | list[int] | None
) -> None:
    times = repeated or [0] * len(states)
    parts = [
        task(n, state, role="part", counter=n, jdl={}, repeated=again)
        for n, (state, again) in enumerate(zip(states, times, strict=True), 1)
    ]
    found = decide_finish(task(100, "SPLIT", jdl=limits), parts)
    if wanted is None or found is None:
        assert found is wanted
    else:
        assert (list(found.again) or found.to) == wanted
        assert (found.to == "SPLIT") == bool(found.again)
