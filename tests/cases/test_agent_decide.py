"""agent.decide: state in → action out, as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agent.decide import Ask, Policy, Seen, Stop, Use, decide

CASES = json.loads((Path(__file__).parent / "agent/decide.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    given = {"now": 1000.0, "slot_end": 4600.0, "idle_since": 1000.0} | case.get("seen", {})
    given["running"] = [Use(*each) for each in given.get("running", ())]
    policy = Policy(**({"cores": 2, "memory": 4_000_000_000} | case.get("policy", {})))
    action = decide(Seen(**given), policy)
    kind, expected = case["expect"]
    assert type(action).__name__ == kind
    for name, value in expected.items():
        assert getattr(action, name) == value, name


@given(
    now=st.floats(0, 1e5),
    running=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 1 << 34)), max_size=5),
    draining=st.booleans(),
    idle=st.floats(0, 1e3),
    slots=st.integers(1, 8),
)
def test_a_running_job_is_never_left_and_nothing_is_promised_twice(
    now: float, running: list[tuple[int, int]], draining: bool, idle: float, slots: int
) -> None:
    uses = [Use(*each) for each in running]
    policy = Policy(8, 1 << 34, slots, idle_timeout=idle)
    action = decide(Seen(now, 5e4, 0.0, uses, draining), policy)
    assert not (running and isinstance(action, Stop))
    assert not (draining and isinstance(action, Ask))
    if isinstance(action, Ask):
        assert action.cores + sum(use.cores for use in uses) <= 8
        assert action.memory + sum(use.memory for use in uses) <= 1 << 34
        assert len(uses) < slots
        assert 0 <= action.wait <= policy.wait
        assert now + action.ttl + policy.margin <= 5e4 + 1e-6
