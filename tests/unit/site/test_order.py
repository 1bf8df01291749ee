"""Which group waits for which."""

from __future__ import annotations

from graphlib import CycleError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.site.order import cycles, dependencies, ordered

NAMES = "abcdef"
ROLES = st.fixed_dictionaries({name: st.sampled_from(["central", "vobox", "worker"]) for name in NAMES})
NEEDS = st.fixed_dictionaries({name: st.lists(st.sampled_from(NAMES + "x"), max_size=3) for name in NAMES})


@given(ROLES, NEEDS)
def test_without_the_edges_that_are_told_there_is_an_order(
    roles: dict[str, str], needs: dict[str, list[str]]
) -> None:
    found = cycles(roles, needs)
    for (group, need), around in found:
        assert need in needs[group]
        assert around[0] == around[-1]
        needs[group] = [other for other in needs[group] if other != need]
    order = ordered(roles, needs)
    assert sorted(order) == sorted(roles)
    for name in order:
        assert all(order.index(need) < order.index(name) for need in dependencies(name, roles, needs))


@given(ROLES, NEEDS)
def test_cycles_are_told_exactly_when_there_is_no_order(
    roles: dict[str, str], needs: dict[str, list[str]]
) -> None:
    if cycles(roles, needs):
        with pytest.raises(CycleError):
            ordered(roles, needs)
    else:
        ordered(roles, needs)
