"""The simulated cloud's rules, without its process: fates, quotas, faults, sums."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.providers.sim.cloud import answer, health, row, state
from orchestrator.providers.sim.model import (
    NEVER,
    Cloud,
    Reply,
    Settings,
    Vm,
    address_of,
    dump,
    number_of,
    parse,
)
from orchestrator.providers.sim.store import facts_of, settings

QUICK = Settings(latency=(0.1, 0.1), boot=(60.0, 60.0), configure=(20.0, 20.0))


class World:
    """A cloud, its time, and dice by the seed."""

    def __init__(self, **options: Any) -> None:
        self.cloud, self.now, self.calls = Cloud(replace(QUICK, **options)), 1000.0, 0

    def __call__(self, verb: str, name: str = "", **facts: Any) -> Reply:
        self.calls += 1
        seed = self.cloud.settings.seed
        dice = random.Random(f"{seed}/{self.calls}")
        request = {"verb": verb, "name": name, **facts}
        reply = answer(self.cloud, request, self.now, dice, lambda vm, n: random.Random(f"{seed}/{vm}/{n}"))
        for vm in reply.changed:
            self.cloud.put(vm)
        for key, value in reply.tally.items():
            self.cloud.tally[key] = self.cloud.tally.get(key, 0.0) + value
        if reply.allowed is not None:
            self.cloud.allowed = reply.allowed
        return reply

    def create(self, name: str = "m-1", role: str = "worker", **more: Any) -> Reply:
        facts = {"group": "m", "role": role, "image": "", "offering": "", "tags": {}, "avoid": []}
        return self("create", name, **facts | more)

    def vm(self, name: str = "m-1") -> Vm:
        return self.cloud.vms[name]

    def state(self, name: str = "m-1") -> str:
        return state(self.vm(name), self.now)


def test_a_machine_boots_then_works() -> None:
    world = World()
    assert world.create().body["machine"][3] == "booting"
    world.now += 61
    assert world.state() == "running"
    assert health(world.vm(), world.now) == "no agent has asked for work yet"
    world.now += 21
    assert health(world.vm(), world.now) == ""


def test_create_and_destroy_are_idempotent_and_sums_come_back_to_nothing() -> None:
    world = World(offerings={"small": (4, 0.5)})
    first = world.create(offering="small").body
    assert world.create(offering="small").body == first
    assert (world.cloud.machines, world.cloud.cores, world.cloud.money) == (1, 4, 0.5)
    world.now += 3600
    assert world("destroy", "m-1").body["left"] == 0
    assert world("destroy", "m-1").body["left"] == 0
    assert (world.cloud.machines, world.cloud.cores, world.cloud.money) == (0, 0, 0.0)
    assert world("figures", since=0.0).body["spent"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("options", "creations", "refused"),
    [
        ({"machines": 2}, [{}, {}, {}], [None, None, "quota"]),
        ({"cores": 5, "offerings": {"s": (2, 0.0)}}, [{"offering": "s"}] * 3, [None, None, "quota"]),
        ({"zones": {"a": 1, "b": 1}}, [{}, {}, {}], [None, None, "shortage"]),
        ({"offerings": {"s": (2, 0.0)}}, [{"offering": "xl"}], ["unknown"]),
        ({"api_errors": 1.0}, [{}], ["unavailable"]),
        ({"rate": 0.001, "burst": 2}, [{}, {}, {}], [None, None, "throttled"]),
    ],
)
def test_what_is_refused(
    options: dict[str, Any], creations: list[dict[str, Any]], refused: list[str | None]
) -> None:
    world = World(**options)
    replies = [world.create(f"m-{n}", **more) for n, more in enumerate(creations)]
    assert [reply.body.get("refused") for reply in replies] == refused
    assert world.cloud.machines == refused.count(None)


def test_throttling_ends_after_the_time_it_names() -> None:
    world = World(rate=1.0, burst=1)
    assert "refused" not in world.create("m-1").body
    no = world.create("m-2").body
    assert no["refused"] == "throttled"
    world.now += no["retry_in"]
    assert "refused" not in world.create("m-2").body


def test_a_name_of_another_role_is_taken() -> None:
    world = World()
    world.create()
    assert world.create(role="central").body["refused"] == "taken"


def test_a_lost_reply_had_its_effect() -> None:
    world = World(lost_replies=1.0)
    assert world.create().body == {"lost": True}
    assert world.cloud.machines == 1
    assert world("destroy", "m-1").body == {"lost": True}
    assert world.cloud.machines == 0


def test_a_place_where_it_failed_is_avoided_while_there_is_another() -> None:
    world = World(zones={"a": 3, "b": 1})
    assert world.create("m-1", avoid=["a"]).body["machine"][5] == "b"
    assert world.create("m-2", avoid=["a"]).body["machine"][5] == "a"


@pytest.mark.parametrize(("reuse", "address"), [(True, "10.0.0.1"), (False, "10.0.0.2")])
def test_addresses(reuse: bool, address: str) -> None:
    world = World(ip_reuse=reuse)
    world.create("m-1")
    world("destroy", "m-1")
    assert world.create("m-2").body["machine"][4] == address


def test_a_list_lags_behind_both_ways() -> None:
    world = World(eventual_list=1000.0)
    for n in range(20):
        world.create(f"m-{n}")
    assert len(world("list").body["vms"]) < 20
    world.now += 1000
    assert len(world("list").body["vms"]) == 20
    for n in range(20):
        world("destroy", f"m-{n}")
    assert world("list").body["vms"]
    world.now += 1000
    assert world("list").body["vms"] == []


def test_a_list_may_show_a_machine_twice() -> None:
    world = World(duplicate_listing=1.0)
    world.create()
    assert len(world("list").body["vms"]) == 2


@pytest.mark.parametrize(
    ("options", "after", "seen", "ill"),
    [
        ({"failed_boot": 1.0}, 61, "failed", "it is failed"),
        ({"bad_images": ("",)}, 61, "failed", "it is failed"),
        ({"slow_boot": 1.0}, 61, "booting", "it is booting"),
        ({"slow_boot": 1.0}, 621, "running", ""),
        ({"broken_context": 1.0}, 9999, "running", "no agent has asked for work yet"),
        ({"spot": (1.0, 0.001, 120.0)}, 61, "stopped", "it is stopped"),
    ],
)
def test_fates(options: dict[str, Any], after: float, seen: str, ill: str) -> None:
    world = World(**options)
    world.create()
    world.now += after
    assert world.state() == seen
    assert bool(health(world.vm(), world.now)) == bool(ill)


def test_a_cut_network_comes_back() -> None:
    world = World(network_cut=1.0)
    world.create()
    begins, ends = world.vm().cut
    world.now = begins
    assert world.state() == "unreachable"
    assert world("configure", "m-1", digest="d").body["refused"] == "unreachable"
    world.now = ends
    assert world.state() == "running"


def test_a_machine_that_is_taken_back_is_told_before_and_can_be_started_again() -> None:
    world = World(spot=(1.0, 3600.0, 120.0))
    world.create()
    vm = world.vm()
    assert row(vm, vm.dies - 121, 120.0)[8] is None
    assert row(vm, vm.dies - 119, 120.0)[8] == vm.dies
    world.now = vm.dies
    assert world.state() == "stopped"
    assert world.create().body["machine"][3] == "booting"
    assert world.vm().address == vm.address
    assert world.vm().serial == 2


def test_a_pet_works_once_it_is_configured() -> None:
    world = World()
    world.create(role="central")
    assert world("configure", "m-1", digest="d").body["refused"] == "unreachable"
    world.now += 61
    assert health(world.vm(), world.now) == "it is not configured"
    assert world("configure", "m-1", digest="d").took == pytest.approx(20.1)
    assert world("list").body["vms"][0].applied == "d"
    assert health(world.vm(), world.now) == ""
    assert "panic" not in world("console", "m-1").body["console"]


@given(
    st.lists(st.tuples(st.sampled_from(["create", "destroy", "list"]), st.integers(0, 5)), max_size=40),
    st.integers(0, 9),
)
def test_a_fate_does_not_depend_on_the_order_of_calls(calls: list[tuple[str, int]], seed: int) -> None:
    """Whatever else happens, the first machine of a name boots for the same time, and sums hold."""
    plain, busy = (World(seed=seed, failed_boot=0.3, spot=(0.5, 100.0, 10.0)) for _ in range(2))
    for verb, n in calls:
        busy.create(f"m-{n}") if verb == "create" else busy(verb, f"m-{n}")
        alive = [vm for vm in busy.cloud.vms.values() if vm.gone == NEVER]
        assert busy.cloud.machines == len(alive) == len({vm.address for vm in alive})
    plain.create("x-1")
    busy.create("x-1")
    assert replace(plain.vm("x-1"), address="") == replace(busy.vm("x-1"), address="")


def test_what_is_stored_is_what_was() -> None:
    world = World(spot=(0.5, 100.0, 10.0), network_cut=0.5)
    for n in range(10):
        world.create(f"m-{n}")
    assert all(parse(dump(vm)) == vm for vm in world.cloud.vms.values())
    options = replace(QUICK, offerings={"a": (1, 2.0)}, zones={"z": 1}, bad_images=("x",))
    assert settings(facts_of(options)) == options
    assert [number_of(address_of(n)) for n in (1, 255, 256, 70000)] == [1, 255, 256, 70000]
