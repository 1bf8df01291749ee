"""What a broker gives to whom, from its copy of the classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.tasks.decide import Waiting
from orchestrator.tasks.index import Asked, Index, allot


def line(
    number: int, waiting: int = 1, priority: float = 1.0, oldest: float = 0.0, site: str = ""
) -> Waiting:
    return Waiting(number, "job", "ada", site, waiting, priority, oldest)


def index(*classes: Waiting) -> Index:
    made = Index()
    made.replace(classes)
    return made


def given_to(
    made: Index, count: int = 1, site: str = "CERN", *, not_for: frozenset[int] = frozenset(), **free: float
) -> list[tuple[int, int]]:
    needs = {"Cores": 1.0, "Memory": 2.0, "Disk": 0.0}
    wide = {each: needs | {"Cores": 8.0} for each in range(80, 90)}
    asked = Asked(site, count, {"Cores": 1.0} | free)
    return allot(
        made, asked, lambda number: wide.get(number, needs), lambda number: number not in not_for, 600.0
    )


def test_the_best_class_goes_first_and_what_is_spoken_for_is_not_given_again() -> None:
    made = index(line(1, 2), line(2, 1, priority=5))
    assert [given_to(made) for _ in range(4)] == [[(2, 1)], [(1, 1)], [(1, 1)], []]
    made.take(2, -1)  # it is there after all
    assert given_to(made) == [(2, 1)]


def test_a_class_that_is_not_accepted_does_not_stop_those_behind_it() -> None:
    assert given_to(index(line(1, priority=9), line(2)), not_for=frozenset({1})) == [(2, 1)]


def test_pinned_classes_are_seen_by_their_site_in_the_order_of_all() -> None:
    made = index(line(1, priority=3, site="CERN"), line(2, priority=2), line(3, priority=9, site="Lyon"))
    assert given_to(made, 9, Cores=9) == [(1, 1), (2, 1)]
    assert given_to(made, 9, "Lyon", Cores=9) == [(3, 1)]


def test_tasks_are_packed_by_what_is_free() -> None:
    assert given_to(index(line(1, 100)), 64, Cores=16, Memory=9) == [(1, 4)]
    assert given_to(index(line(1, 3), line(2, 100)), 64, Cores=8) == [(1, 3), (2, 5)]
    assert given_to(index(line(81, 1)), Cores=4) == []


def test_a_wide_slot_is_not_eaten_by_narrow_jobs_for_a_while() -> None:
    classes = [line(1, 100, priority=5, oldest=100), line(81, 1, oldest=300)]
    assert given_to(index(*classes), 8, Cores=8) == [(81, 1)]
    classes[1].oldest = 800  # the narrow ones have waited ten minutes longer
    assert given_to(index(*classes), 8, Cores=8) == [(1, 8)]


def test_what_follows_in_a_class_gives_it_its_place() -> None:
    made = index(line(1, 5, priority=9), line(2, 5, priority=5))
    assert given_to(made) == [(1, 1)]
    made.follow(1, 1.0, 0.0)
    assert given_to(made) == [(2, 1)]


def test_it_tells_which_classes_have_grown() -> None:
    made = index(line(1, 2), line(2, 2))
    assert made.replace([line(1, 3), line(2, 1), line(3, 1)]) == [1, 3]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 5), st.floats(0, 1e6)), max_size=12),
    st.lists(st.integers(1, 4), max_size=20),
)
def test_nothing_is_promised_twice(classes: list[tuple[int, float, float]], asked: list[int]) -> None:
    made = index(
        *(line(n, waiting, priority, oldest) for n, (waiting, priority, oldest) in enumerate(classes))
    )
    total = {n: waiting for n, (waiting, _, _) in enumerate(classes)}
    for count in asked:
        for number, some in given_to(made, count, Cores=4.0):
            total[number] -= some
            if total[number] > 0:
                made.follow(number, 1.0, 5.0)
    assert all(left >= 0 for left in total.values())
    if len(asked) >= sum(waiting for waiting, _, _ in classes):
        assert not any(total.values())  # and nobody is passed over for ever


@pytest.mark.parametrize("free", [{"Cores": 0.0}, {"Memory": 1.0}])
def test_who_has_nothing_free_gets_nothing(free: dict[str, float]) -> None:
    assert given_to(index(line(1)), **free) == []


def test_a_long_line_goes_before_others_only_until_its_owner_got_something() -> None:
    day = 86400.0
    old = [Waiting(number, "job", "ada", "", 100, 1.0, number * 60.0) for number in (1, 2)]  # for ten days
    new = Waiting(3, "job", "bob", "", 2, 0.9, 10 * day)
    made = Index()
    made.replace([*old, new], 10 * day)
    assert given_to(made) == [(1, 1)]
    made.replace([*old, new], 10 * day + 1)
    assert given_to(made) == [(1, 1)]  # both got nothing for as long now, and hers cost more
    made.replace([*old, replace(new, oldest=9.8 * day)], 10 * day + 1)
    assert [given_to(made) for _ in range(3)] == [
        [(3, 1)],
        [(3, 1)],
        [(1, 1)],
    ]  # of hers the oldest first, as ever


def test_who_gets_nothing_grows_older_without_bound() -> None:
    day = 86400.0
    rich, poor = Waiting(1, "job", "ada", "", 9, 5.0, 0.0), Waiting(2, "job", "bob", "", 9, 0.1, 0.0)
    made = Index()
    turns = []
    for now in range(10):  # days
        made.replace([replace(rich, waiting=9), replace(poor, waiting=9)], now * day)
        turns += given_to(made)
    assert turns.index((2, 1)) == 6  # five units of priority are five days
    assert turns[7:] == [(1, 1)] * 3
