"""Which copy, which way, when: tables of situations and what is to be done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.transfers.decide import (
    GROUP,
    SMALL,
    Later,
    Load,
    Network,
    Never,
    Policy,
    Route,
    Step,
    Storage,
    Wanted,
    choose,
    retry_delay,
    weight,
)

BIG = SMALL + 1
POLICY = Policy(most_out=4, most_in=4, most_link=3)


def network(*names: str, blocked: str = "", **more: dict[str, object]) -> Network:
    """Storage elements, each at a site of its own; ``blocked``: "a>b c>d" are no links."""
    storage = {
        name: replace(Storage(name, name.upper(), f"https://{name}", 10**12), **more.get(name, {}))  # type: ignore[arg-type]
        for name in names
    }
    links = {tuple(pair.split(">")): 0 for pair in blocked.split()}
    return Network(storage, links)  # type: ignore[arg-type]


def steps(text: str) -> tuple[Step, ...]:
    """ "stage tape>disk, fetch disk>b, clean disk" """
    found = []
    for each in text.split(", "):
        role, _, ends = each.partition(" ")
        source, _, target = ends.partition(">")
        found.append(Step(role, source, target or source))
    return tuple(found)


ALL_BLOCKED = "a>b c>b e>b"
CASES: list[tuple[str, Wanted, Network, list[tuple[str, str, float]], str]] = [
    ("direct", Wanted(BIG, ["a"], "b"), network("a", "b"), [], "fetch a>b"),
    ("the least loaded source", Wanted(BIG, ["a", "c"], "b"), network("a", "b", "c"), [("a", "x", 1.0)], "fetch c>b"),
    ("by name when alike", Wanted(BIG, ["c", "a"], "b"), network("a", "b", "c"), [], "fetch a>b"),
    (
        "load is a share of what a source may give",
        Wanted(BIG, ["a", "c"], "b"),
        network("a", "b", "c", a={"most_out": 100}),
        [("a", "x", 3.0), ("c", "x", 1.0)],
        "fetch a>b",
    ),
    ("a bad copy last", Wanted(BIG, ["a", "c"], "b", ["a"]), network("a", "b", "c"), [("c", "x", 3.0)], "fetch c>b"),
    ("a bad copy when all are", Wanted(BIG, ["a"], "b", ["a"]), network("a", "b"), [], "fetch a>b"),
    ("a dead source is passed over", Wanted(BIG, ["a", "c"], "b"), network("a", "b", "c", a={"alive": False}), [], "fetch c>b"),
    ("over another", Wanted(BIG, ["a"], "b"), network("a", "b", "c", blocked="a>b"), [], "fetch a>c, fetch c>b, clean c"),
    (
        "direct before a route",
        Wanted(BIG, ["a", "c"], "b"),
        network("a", "b", "c", "d", blocked="a>b"),
        [("c", "x", 3.0)],
        "fetch c>b",
    ),
    (
        "over two others",
        Wanted(BIG, ["a"], "b"),
        network("a", "b", "c", "d", blocked="a>b a>d c>b"),
        [],
        "fetch a>c, fetch c>d, fetch d>b, clean c, clean d",
    ),
    (
        "not over one without room",
        Wanted(BIG, ["a"], "b"),
        network("a", "b", "c", "d", blocked="a>b", c={"free": 5}),
        [],
        "fetch a>d, fetch d>b, clean d",
    ),
    (
        "not over mass storage",
        Wanted(BIG, ["a"], "b"),
        network("a", "b", "c", "d", blocked="a>b", c={"buffer": "d"}),
        [],
        "fetch a>d, fetch d>b, clean d",
    ),
    (
        "mass storage is staged",
        Wanted(BIG, ["tape"], "b"),
        network("tape", "disk", "b", tape={"buffer": "disk"}),
        [],
        "stage tape>disk, fetch disk>b, clean disk",
    ),
    (
        "staged and over another",
        Wanted(BIG, ["tape"], "b"),
        network("tape", "disk", "b", "c", blocked="disk>b", tape={"buffer": "disk"}),
        [],
        "stage tape>disk, fetch disk>c, fetch c>b, clean disk, clean c",
    ),
    (
        "staged to where it is wanted",
        Wanted(BIG, ["tape"], "disk"),
        network("tape", "disk", tape={"buffer": "disk"}),
        [],
        "stage tape>disk",
    ),
    (
        "a disk copy before a tape",
        Wanted(BIG, ["tape", "z"], "b"),
        network("tape", "disk", "b", "z", tape={"buffer": "disk"}),
        [],
        "fetch z>b",
    ),
    ("small files fit where one large does not", Wanted(1, ["a"], "b"), network("a", "b"), [("a", "b", 2.5)], "fetch a>b"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wanted", "net", "legs", "expected"), CASES, ids=[case[0] for case in CASES]
)
def test_ways(
    name: str, wanted: Wanted, net: Network, legs: list[tuple[str, str, float]], expected: str
) -> None:
    assert choose(wanted, net, Load(legs), POLICY) == Route(steps(expected))


PUT_OFF: list[tuple[str, Wanted, Network, list[tuple[str, str, float]], str, type[object]]] = [
    ("unknown", Wanted(BIG, ["a"], "x"), network("a"), [], "no storage element x", Never),
    ("no replica", Wanted(BIG, [], "b"), network("b"), [], "no replica left", Never),
    ("silent destination", Wanted(BIG, ["a"], "b"), network("a", "b", b={"alive": False}), [], "b has not been heard", Later),
    ("full destination", Wanted(BIG, ["a"], "b"), network("a", "b", b={"free": 3}), [], "b has 3 bytes free", Later),
    ("silent sources", Wanted(BIG, ["a", "z"], "b"), network("a", "b", a={"alive": False}), [], "none of the storage elements", Later),
    ("no link", Wanted(BIG, ["a"], "b"), network("a", "b", "c", "e", blocked=ALL_BLOCKED), [], "no link leads to b from a", Later),
    ("source at its limit", Wanted(BIG, ["a"], "b"), network("a", "b"), [("a", "x", 4.0)], "a gives 4 transfers", Later),
    ("destination at its limit", Wanted(BIG, ["a"], "b"), network("a", "b"), [("x", "b", 4.0)], "b takes 4 transfers", Later),
    ("link at its limit", Wanted(BIG, ["a"], "b"), network("a", "b"), [("a", "b", 3.0)], "3 transfers at once go from a to b", Later),
    (
        "a later hop at its limit",
        Wanted(BIG, ["a"], "b"),
        network("a", "b", "c", blocked="a>b"),
        [("c", "b", 3.0)],
        "3 transfers at once go from c to b",
        Later,
    ),
    (
        "a tape without its buffer",
        Wanted(BIG, ["tape"], "b"),
        network("tape", "disk", "b", tape={"buffer": "disk"}, disk={"alive": False}),
        [],
        "none of the storage elements",
        Later,
    ),
    ("a closed source", Wanted(BIG, ["a"], "b"), network("a", "b", a={"most_out": 0}), [], "a gives 0 transfers", Later),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wanted", "net", "legs", "said", "kind"), PUT_OFF, ids=[case[0] for case in PUT_OFF]
)
def test_not_now(
    name: str,
    wanted: Wanted,
    net: Network,
    legs: list[tuple[str, str, float]],
    said: str,
    kind: type[Later] | type[Never],
) -> None:
    found = choose(wanted, net, Load(legs), POLICY)
    assert isinstance(found, kind)
    assert said in found.reason


def test_a_group_of_small_files_weighs_as_much_as_one() -> None:
    assert sum(weight(SMALL) for _ in range(GROUP)) == pytest.approx(weight(BIG))
    net, load = network("a", "b"), Load()
    given_out = 0
    while isinstance(choose(Wanted(5, ["a"], "b"), net, load, POLICY), Route):
        load.add("a", "b", weight(5))
        given_out += 1
    assert given_out == 3 * GROUP
    assert load.full(net, POLICY) == []
    load.add("c", "b", 1.0)
    assert load.full(net, POLICY) == ["b"]


def test_delays_grow() -> None:
    policy = Policy(first=30, longest=200)
    assert [retry_delay(policy, failed) for failed in (1, 2, 3, 4, 5, 10_000)] == [30, 60, 120, 200, 200, 200]


NAMES = "abcdefg"


@given(
    copies=st.sets(st.sampled_from(NAMES[:-1]), min_size=1),
    blocked=st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES))),
    dead=st.sets(st.sampled_from(NAMES[:-1])),
    legs=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.just(1.0)), max_size=12),
)
def test_a_route_is_one_and_keeps_to_limits_and_links(
    copies: set[str],
    blocked: set[tuple[str, str]],
    dead: set[str],
    legs: list[tuple[str, str, float]],
) -> None:
    net = network(*NAMES, **{name: {"alive": False} for name in dead})
    net = Network(net.storage, dict.fromkeys(blocked, 0))
    load = Load(legs)
    found = choose(Wanted(BIG, sorted(copies), "g"), net, load, POLICY)
    assert not isinstance(found, Never)
    if isinstance(found, Later):
        return
    moves = [step for step in found.steps if step.role == "fetch"]
    assert moves[0].source in copies - dead
    assert moves[-1].target == "g"
    assert [step.source for step in moves[1:]] == [step.target for step in moves[:-1]]
    for step in moves:
        assert net.linked(step.source, step.target)
        assert load.hindrance(net, POLICY, step.source, step.target, 1.0) == ""
        assert not {step.source, step.target} & dead
    places = [moves[0].source, *(step.target for step in moves)]
    assert len(set(places)) == len(places)
    assert [step.target for step in found.steps if step.role == "clean"] == places[1:-1]
