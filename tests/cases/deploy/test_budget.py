"""decide under budgets: the cases of budget.yaml, and what must hold for every site (hypothesis)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.deploy import budget
from orchestrator.deploy.budget import Use, exceeded, use, used
from orchestrator.deploy.decide import decide
from orchestrator.deploy.model import Action, Health, Override, Record, Stage, World
from orchestrator.deploy.order import Schedule
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.spec import machine_spec
from orchestrator.errors import UserError
from orchestrator.providers.base import Machine, MachineState, Offering
from orchestrator.site.schema import Site

CASES = YAML(typ="safe").load(Path(__file__).with_name("budget.yaml").read_text())
SIZES = {"small": Offering(2, price=0.1), "big": Offering(8, price=0.5)}
_MAKING = (Action.CREATE, Action.REPLACE)


def site_of(case: dict[str, Any]) -> Site:
    pets = {"central": {"role": "central"}, "vobox": {"role": "vobox"}}
    workers = {name: {"role": "worker", **facts} for name, facts in case["groups"].items()}
    return Site.model_validate(
        {"vo": "alice", "site": "lab", "groups": pets | workers, "budgets": case.get("budgets", {})}
    )


def world_of(site: Site, case: dict[str, Any]) -> World:
    there = {} if case.get("fresh") else {"central": 1, "vobox": 1} | case.get("there", {})
    machines = []
    for group, count in there.items():
        for name in site.machine_names(group, count):
            spec = machine_spec(site, group, name)
            was = {"offering": case["was"]} if "was" in case and spec.role == "worker" else {}
            bad = name.removeprefix("lab-") in case.get("failed", [])
            state = MachineState.FAILED if bad else MachineState.RUNNING
            tags = {**spec.tags, **was}
            machines.append(
                Machine(name, group, spec.role, "local", state, "127.0.0.1", "/m", tags, applied="d")
            )
    pets = [machine.name for machine in machines if machine.role != "worker"]
    return World(
        5.0, tuple(machines),
        records={m.name: Record(m.name, m.group, m.role, "local", Stage.READY, 1.0) for m in machines},
        digests=dict.fromkeys(pets, "d"),
        health={m.name: Health(True) for m in machines if m.state is MachineState.RUNNING},
        offerings={"local": SIZES},
    )  # fmt: skip


def short(plan: Plan, *actions: Action) -> list[str]:
    return [c.object.removeprefix("lab-") for c in plan.changes if c.action in actions]


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    site = site_of(case)
    plan = decide(site, world_of(site, case), case.get("limit", ""))
    assert sorted(short(plan, *_MAKING)) == sorted(case.get("made", []))
    assert short(plan, Action.NONE) == case.get("held", [])
    assert short(plan, Action.DESTROY) == case.get("gone", [])
    assert all(change.reason == case.get("why", change.reason) for change in plan.withheld)
    found = {
        change.object.removeprefix("lab-"): needs
        for change in plan.changes
        if (needs := [n.removeprefix("destroy:lab-") for n in change.needs if n.startswith("destroy:")])
        and change.action in _MAKING
    }
    assert found == case.get("waits", {})
    absent = budget.absent(plan.changes, world_of(site, case))
    for change in plan.changes:
        if change.action is Action.VERIFY and any(f"-{change.group}-" in name for name in absent):
            assert set(change.machines) == set(site.machine_names(change.group)) - set(absent)
    Schedule(plan.work)  # no circle, nothing missing
    assert Plan.from_json(plan.to_json()) == plan


COUNTS = st.integers(0, 6)


@given(
    st.lists(st.tuples(COUNTS, COUNTS, st.sampled_from(["small", "big", "odd"])), min_size=1, max_size=4),
    st.none() | st.integers(2, 20),
    st.none() | st.integers(2, 60),
    st.none() | st.floats(0, 5),
)
def test_no_order_of_events_goes_over_a_budget_that_was_kept(
    farms: list[tuple[int, int, str]], machines: int | None, cores: int | None, money: float | None
) -> None:
    case: dict[str, Any] = {
        "groups": {f"g{n}": {"count": want, "offering": size} for n, (_, want, size) in enumerate(farms)},
        "there": {f"g{n}": have for n, (have, _, _) in enumerate(farms)},
        "budgets": {"machines": machines, "cores": cores, "money_per_hour": money},
    }
    site = site_of(case)
    world = world_of(site, case)
    before = used(world, world.machines)
    plan = decide(site, world)
    schedule, there = Schedule(plan.work), {machine.name: machine for machine in world.machines}
    # The worst order: all that may be made is made before anything leaves.
    while schedule.unfinished:
        ready = sorted(schedule.ready(), key=lambda change: change.action is Action.DESTROY)
        queue = list(ready)
        while queue:
            change = queue.pop(0)
            if change.action is Action.CREATE:
                tags = machine_spec(site, change.group, change.object).tags
                there[change.object] = Machine(
                    change.object, change.group, "worker", "local", MachineState.RUNNING, tags=tags
                )
                over = exceeded(site.budgets, used(world, there.values()))
                assert not over or exceeded(site.budgets, before), (change, over)
            elif change.action is Action.DESTROY:
                del there[change.object]
            schedule.done(change.id)
            queue = sorted([*queue, *schedule.ready()], key=lambda change: change.action is Action.DESTROY)
    # What was withheld does not fit at the end either, unless what was made after it took the room.
    for held in plan.withheld:
        size = use(world, "local", site.groups[held.group].offering or "")
        assert exceeded(site.budgets, used(world, there.values()) + size)


def test_scale_is_refused_beyond_any_budget_and_allowed_downwards() -> None:
    site = site_of({"groups": {"farm": {"count": 4, "offering": "big"}}, "budgets": {"money_per_hour": 2.0}})
    world = World(1.0, offerings={"local": SIZES})
    budget.check_scale(site, world, {"farm": Override(4, 4)}, "farm")
    with pytest.raises(
        UserError, match=r"group farm: 5 machines make 7 machines with 42 cores for 2.50 per hour"
    ):
        budget.check_scale(site, world, {"farm": Override(5, 4)}, "farm")
    over = replace(world, overrides={"farm": Override(9, 4)})  # the budget was lowered since
    budget.check_scale(site, over, {"farm": Override(8, 4)}, "farm")


def test_a_price_that_nobody_knows_is_told() -> None:
    site = site_of({"groups": {"farm": {"count": 1, "offering": "odd"}}, "budgets": {"money_per_hour": 1.0}})
    plan = decide(site, World(1.0, offerings={"local": SIZES}))
    assert plan.notes == (
        "the price of odd at local is not known: it counts as nothing in the budget (money_per_hour)",
    )


def test_uses_add_up() -> None:
    assert Use(1, 2, 3.0) + Use(1, 1, 1.0) - Use(1, 2, 3.0) == Use(1, 1, 1.0)
