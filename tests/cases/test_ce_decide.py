"""ce.decide: state in → agents to submit, as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.ce.decide import End, Policy, Seen, decide

CASES = json.loads((Path(__file__).parent / "ce/decide.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    given = {"now": 1000.0, "waiting": 0, "idle": 0, "busy": 0, "queued": 0, "running": 0} | case.get(
        "seen", {}
    )
    given["ends"] = [End(*each) for each in given.get("ends", ())]
    decision = decide(Seen(**given), Policy(**({"max_agents": 4} | case.get("policy", {}))))
    assert (decision.submit, decision.why != "") == (case["expect"], True)


@given(*(st.integers(0, 50) for _ in range(5)), st.integers(0, 5), st.integers(1, 30))
def test_limits_hold_and_a_satisfied_ce_rests(
    waiting: int, idle: int, busy: int, queued: int, running: int, least: int, most: int
) -> None:
    policy = Policy(least, most)
    submit = decide(Seen(0.0, waiting, idle, busy, queued, running), policy).submit
    assert submit >= 0
    assert submit == 0 or queued + running + submit <= most
    after = decide(Seen(0.0, waiting, idle, busy, queued + submit, running), policy)
    assert submit == policy.burst or after.submit == 0, "a second look does not ask for the same agents again"
