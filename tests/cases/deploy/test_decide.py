"""decide: the cases of decide.yaml, and what must hold for every world (hypothesis)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from orchestrator.deploy.decide import decide, decide_down
from orchestrator.deploy.model import Action, Health, Intent, IntentState, Override, Record, Stage, World
from orchestrator.deploy.order import Schedule
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.recover import settle
from orchestrator.deploy.spec import machine_spec, wanted
from orchestrator.errors import UserError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Site

CASES = YAML(typ="safe").load(Path(__file__).with_name("decide.yaml").read_text())
SITE = Site.model_validate(
    {
        "vo": "alice",
        "site": "lab",
        "groups": {
            "central": {"role": "central"},
            "vobox": {"role": "vobox", "needs": ["central"]},
            "workers": {"role": "worker", "count": 2, "needs": ["vobox"]},
        },
    }
)


def converged(site: Site = SITE, overrides: dict[str, Override] | None = None) -> World:
    """A world in which everything is as that site wants it."""
    machines, records, digests = [], {}, {}
    for name, want in wanted(site, overrides or {}).items():
        spec = want.spec
        pet = spec.role != "worker"
        machines.append(
            Machine(
                name, spec.group, spec.role, want.provider, MachineState.RUNNING, "127.0.0.1", "/m", spec.tags,
                applied="d" if pet else "",
            )
        )  # fmt: skip
        records[name] = Record(name, spec.group, spec.role, want.provider, Stage.READY, 1.0)
        if pet:
            digests[name] = "d"
    health = {machine.name: Health(True) for machine in machines}
    return World(5.0, tuple(machines), records, overrides=overrides or {}, digests=digests, health=health)


def changed(machine: Machine, facts: dict[str, Any]) -> Machine:
    if "state" in facts:
        facts = facts | {"state": MachineState(facts["state"])}
    if "tags" in facts:
        facts = facts | {"tags": {**machine.tags, **facts["tags"]}}
    return replace(machine, **facts)


def world_of(case: dict[str, Any]) -> World:
    if case.get("fresh"):
        return World(5.0)
    world = converged()
    machines = {machine.name: machine for machine in world.machines}
    for name, facts in case.get("machines", {}).items():
        machine = machines.pop(name)
        if facts is not None:
            machines[name] = changed(machine, facts)
    there = list(machines.values())
    for name, facts in case.get("extra", {}).items():
        there.append(
            Machine(name, facts["group"], facts["role"], facts.get("provider", "local"), MachineState.RUNNING)
        )
    opened = tuple(
        Intent(n, 1, Action(action), name, "workers", "worker", "local", IntentState.OPEN, "", 1.0)
        for n, (name, action) in enumerate(case.get("open", {}).items())
    )
    scale = {group: Override(count, 2) for group, count in case.get("scale", {}).items()}
    records = {name: r for name, r in world.records.items() if name not in case.get("unknown", [])}
    stages = {name: Stage(stage) for name, stage in case.get("stages", {}).items()}
    records |= {name: replace(records[name], stage=stage) for name, stage in stages.items()}
    health = dict(world.health) | {name: Health(False, what) for name, what in case.get("health", {}).items()}
    jobs = {name: tuple(tasks) for name, tasks in case.get("jobs", {}).items()}
    return replace(
        world, machines=tuple(there), open=opened, overrides=scale, records=records, health=health, jobs=jobs
    )


def planned(case: dict[str, Any]) -> Plan:
    if case.get("down"):
        return decide_down(SITE, world_of(case), limit=case.get("limit", ""))
    return decide(SITE, world_of(case), case.get("limit", ""))


def parsed(line: str) -> tuple[str, frozenset[str]]:
    change, _, needs = line.partition(" < ")
    return change, frozenset(needs.split())


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(UserError, match=case["error"]):
            planned(case)
        return
    plan = planned(case)
    found = [
        (f"{change.action} {change.object}", frozenset((*change.needs, *change.after)))
        for change in plan.changes
    ]
    assert sorted(found, key=str) == sorted(map(parsed, case["plan"]), key=str)
    assert all(change.reason for change in plan.changes)
    destroyed = [change.object for change in plan.changes if change.action is Action.DESTROY]
    told = [line.split()[1] for line in case["plan"] if line.startswith("destroy ")]
    assert destroyed == told  # the order is part of the case
    assert Plan.from_json(plan.to_json()) == plan
    Schedule(plan.work)  # no circle, nothing missing


def test_a_machine_at_a_provider_that_left_the_spec_is_told() -> None:
    lost = Record("lab-old-1", "old", "worker", "cloud", Stage.READY, 1.0)
    world = converged()
    plan = decide(SITE, replace(world, records={**world.records, "lab-old-1": lost}))
    assert plan.changes == ()
    assert "lab-old-1" in plan.notes[0]


def test_a_replaced_pet_is_named_among_what_loses_data() -> None:
    case = {"machines": {"lab-central-1": {"state": "failed"}}}
    assert [change.object for change in planned(case).destroys_data] == ["lab-central-1"]
    assert planned({"machines": {"lab-workers-1": {"state": "failed"}}}).destroys_data == ()


def test_a_destruction_cut_short_stays_open_until_it_is_taken_up() -> None:
    there = world_of({"open": {"lab-workers-1": "destroy"}})
    assert settle(there) == ()
    gone = world_of({"open": {"lab-workers-1": "destroy"}, "machines": {"lab-workers-1": None}})
    assert [(s.state, s.stage) for s in settle(gone)] == [(IntentState.DONE, Stage.GONE)]


roles = st.sampled_from(["central", "vobox", "worker"])
sites = st.dictionaries(
    st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.tuples(roles, st.integers(0, 4)), min_size=1, max_size=5
).map(
    lambda groups: Site.model_validate(
        {
            "vo": "alice",
            "site": "lab",
            "groups": {
                name: {"role": role} | ({"count": count} if role == "worker" else {})
                for name, (role, count) in groups.items()
            },
        }
    )
)
faults = st.sampled_from(
    ["gone", "stopped", "failed", "booting", "digest", "drift", "unknown", "torn", "tag", "none"]
)


def hurt(world: World, ills: list[str]) -> World:
    """The world with one ill for each machine in turn."""
    machines, records, opened = [], dict(world.records), []
    for machine, ill in zip(world.machines, ills, strict=False):
        if ill == "gone":
            continue
        if ill in ("stopped", "failed", "booting"):
            machine = replace(machine, state=MachineState(ill))
        if ill == "digest":
            machine = replace(machine, applied="old")
        if ill == "drift":
            machine = replace(machine, applied="", drift=("etc/x",))
        if ill == "tag":
            machine = replace(machine, tags={**machine.tags, "offering": "other"})
        if ill == "unknown":
            records.pop(machine.name)
        if ill == "torn":
            opened.append(
                Intent(
                    1, 1, Action.DESTROY, machine.name, "", "", machine.provider, IntentState.OPEN, "", 1.0
                )
            )
        machines.append(machine)
    return replace(world, machines=tuple(machines), records=records, open=tuple(opened))


def obey(site: Site, world: World, plan: Plan) -> World:
    """The world after the plan, if every change does what it says."""
    there = {(m.provider, m.name): m for m in world.machines}
    perfect = {m.name: m for m in converged(site, dict(world.overrides)).machines}
    records, touched = dict(world.records), set()
    for change in plan.work:
        key = (change.provider, change.object)
        touched.add(change.object)
        if change.action is Action.DESTROY:
            there.pop(key)
            records.pop(change.object, None)
        elif change.action in (Action.CREATE, Action.REPLACE, Action.ADOPT):
            old = there.get(key)
            spec = machine_spec(site, change.group, change.object)
            made = replace(perfect[change.object], applied=old.applied if old else "", tags=spec.tags)
            there[key] = made if change.action is not Action.REPLACE else replace(made, applied="")
            records[change.object] = Record(
                change.object, change.group, change.role, change.provider, Stage.READY, 1
            )
        elif change.action is Action.CONFIGURE:
            there[key] = replace(there[key], applied="d", drift=())
    opened = tuple(intent for intent in world.open if intent.object not in touched)
    return replace(world, machines=tuple(there.values()), records=records, open=opened)


@given(sites)
def test_the_plan_of_a_converged_site_is_empty(site: Site) -> None:
    assert decide(site, converged(site)).changes == ()


@given(sites, st.lists(faults, max_size=20), st.randoms(use_true_random=False))
def test_obeying_the_plan_converges_and_touches_only_what_is_ill(
    site: Site, ills: list[str], random: Any
) -> None:
    whole = converged(site)
    ills = (ills + ["none"] * len(whole.machines))[: len(whole.machines)]
    world = hurt(whole, ills)
    plan = decide(site, world)
    well = {m.name for m, ill in zip(whole.machines, ills, strict=True) if ill == "none"}
    acted = {change.object for change in plan.work if change.action is not Action.VERIFY}
    assert not acted & well
    after = obey(site, world, plan)
    assert decide(site, after).changes == ()
    shuffled = list(world.machines)
    random.shuffle(shuffled)
    again = decide(site, replace(world, machines=tuple(shuffled)))
    assert (again.world, set(again.changes)) == (plan.world, set(plan.changes))


@given(sites, st.lists(faults, max_size=20))
def test_down_after_anything_names_every_machine_once(site: Site, ills: list[str]) -> None:
    world = hurt(converged(site), ills)
    plan = decide_down(site, world)
    # Also those that the ledger knows and nobody lists: a list may lag behind.
    assert sorted(c.object for c in plan.changes) == sorted(
        {m.name for m in world.machines} | set(world.records)
    )
    Schedule(plan.work)
