"""Dependency order: what may start, what never can, how long it takes."""

import pytest

from orchestrator.deploy.model import Action
from orchestrator.deploy.order import Schedule, predicted
from orchestrator.deploy.plan import Change
from orchestrator.errors import PermanentError


def change(key: str, *needs: str, seconds: float = 1.0) -> Change:
    return Change(key, Action.CREATE, key, "g", "worker", "local", "", seconds=seconds, needs=needs)


DIAMOND = [change("a"), change("b", "a", seconds=5), change("c", "a"), change("d", "b", "c"), change("e")]


def test_changes_are_handed_out_once_when_their_needs_are_done() -> None:
    schedule = Schedule(DIAMOND)
    assert {c.id for c in schedule.ready()} == {"a", "e"}
    assert schedule.ready() == ()
    schedule.done("a")
    assert {c.id for c in schedule.ready()} == {"b", "c"}
    schedule.done("c")
    assert schedule.ready() == ()
    assert schedule.waits_for(DIAMOND[3]) == {"b"}
    schedule.done("b")
    assert [c.id for c in schedule.ready()] == ["d"]


def test_a_failure_takes_everything_behind_it_and_nothing_else() -> None:
    schedule = Schedule(DIAMOND)
    schedule.ready()
    schedule.done("a")
    schedule.ready()
    assert [c.id for c in schedule.failed("b")] == ["d"]
    schedule.done("c")
    schedule.done("e")
    assert not schedule.unfinished


@pytest.mark.parametrize("changes", [[change("a", "b"), change("b", "a")], [change("a", "nowhere")]])
def test_an_impossible_plan_is_refused(changes: list[Change]) -> None:
    with pytest.raises(PermanentError):
        Schedule(changes)


def test_prediction_is_the_longest_chain() -> None:
    assert predicted(DIAMOND) == 7.0
    assert predicted([]) == 0.0
