"""What the simulated cloud does with a request: (cloud, request, time, dice) → reply. Pure.

A machine's fate is drawn when it is made, from dice that depend on the seed, its name and how often that
name was used, so it does not depend on the order of calls; its state is then a function of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.providers.sim.model import NEVER, Cloud, Dice, Reply, Settings, Vm, address_of

_SLOW = 10.0  # a slow boot takes so many times as long
_CUT_WITHIN = 300.0  # seconds after its boot in which the network of a machine may be cut
_LOST = 10.0  # seconds until a caller notices that no answer comes
_P99 = 2.326  # standard deviations
FREE = frozenset({"hello", "health", "agents", "figures", "end", "pass"})  # not calls to the infrastructure


class Refused(Exception):
    """The cloud says no: ``kind`` is what a client makes of it."""

    def __init__(self, kind: str, message: str, retry_in: float = 0.0) -> None:
        super().__init__(message)
        self.kind, self.retry_in = kind, retry_in


def answer(
    cloud: Cloud, request: Mapping[str, Any], now: float, dice: Dice, fate: Callable[[str, int], Dice]
) -> Reply:
    """The reply to one request. ``dice`` are for this call, ``fate(name, serial)`` for a machine's life."""
    verb, options = str(request["verb"]), cloud.settings
    if verb in FREE:
        return _VERBS[verb](cloud, request, now, dice, fate)
    took, counted = drawn(options.latency, dice), {f"calls {verb}": 1.0}
    due = max(cloud.allowed, now) + 1 / options.rate
    try:
        if due - now > options.burst / options.rate:
            wait = due - now - options.burst / options.rate
            raise Refused("throttled", "too many calls", wait * dice.uniform(1.0, 1.5))
        if dice.random() < options.api_errors:
            raise Refused("unavailable", "the service is unavailable (503)", 1.0)
        reply = _VERBS[verb](cloud, request, now, dice, fate)
    except Refused as no:
        body = {"refused": no.kind, "message": str(no), "retry_in": no.retry_in}
        counted[f"refused {no.kind}"] = 1.0
        return Reply(body, tally=counted, took=took, allowed=None if no.kind == "throttled" else due)
    if dice.random() < options.lost_replies:
        counted["lost replies"] = 1.0
        reply, took = replace(reply, body={"lost": True}), took + _LOST
    return replace(reply, tally={**counted, **reply.tally}, took=took + reply.took, allowed=due)


def drawn(spread: tuple[float, float], dice: Dice) -> float:
    """Seconds, log-normal: (median, 99th percentile)."""
    typical, slowest = spread
    return dice.lognormvariate(math.log(typical), max(0.0, math.log(slowest / typical)) / _P99)


def state(vm: Vm, now: float) -> str:
    """What the cloud says of a machine (words of ``MachineState``)."""
    if now >= vm.dies:
        return "stopped"
    if vm.cut[0] <= now < vm.cut[1]:
        return "unreachable"
    if now < vm.boots:
        return "booting"
    return "failed" if vm.fate == "failed" else "running"


def health(vm: Vm, now: float) -> str:
    """What keeps a machine from its work; "" when it does it."""
    now_it_is = state(vm, now)
    if now_it_is != "running":
        return f"it is {now_it_is}"
    if vm.role != "worker":
        return "" if vm.applied else "it is not configured"
    return "" if now >= vm.works else "no agent has asked for work yet"


def cost(cloud: Cloud, vm: Vm, now: float) -> float:
    """What a machine has cost."""
    return max(0.0, min(now, vm.dies, vm.gone) - vm.created) / 3600 * cloud.size(vm.offering)[1]


def _create(
    cloud: Cloud, request: Mapping[str, Any], now: float, _: Dice, fate: Callable[[str, int], Dice]
) -> Reply:
    old, notice = cloud.vms.get(request["name"]), cloud.settings.spot[2]
    if old is not None and old.gone == NEVER:
        if (old.role, old.group) != (request["role"], request["group"]):
            raise Refused("taken", f"{old.name} exists as {old.role} of group {old.group}; destroy it first")
        if now < old.dies:
            return Reply({"machine": row(old, now, notice)})
        again = _born(cloud, old, now, fate(old.name, old.serial + 1))
        return Reply({"machine": row(again, now, notice)}, (again,), {"restarted": 1.0})
    options = cloud.settings
    cores, price = cloud.size(request["offering"])
    if options.offerings and request["offering"] and request["offering"] not in options.offerings:
        raise Refused(
            "unknown", f"no offering {request['offering']!r}; there are {', '.join(options.offerings)}"
        )
    if cloud.machines + 1 > options.machines:
        raise Refused("quota", f"the quota of {options.machines} machines is used up", 30.0)
    if cloud.cores + cores > options.cores:
        raise Refused("quota", f"the quota of {options.cores} cores is used up", 30.0)
    address = cloud.free[-1] if cloud.free else address_of(cloud.addresses + 1)
    facts = {key: request[key] for key in ("name", "group", "role", "image", "offering", "tags")}
    plain = Vm(
        **facts, zone=_zone(cloud, request["avoid"]), address=address, serial=old.serial if old else 0,
        created=now, listed=now, boots=now, fate="fine", works=now, cut=(NEVER, NEVER), dies=NEVER,
    )  # fmt: skip
    made = _born(cloud, plain, now, fate(plain.name, plain.serial + 1))
    most = {
        "most machines": cloud.machines + 1.0,
        "most cores": cloud.cores + cores + 0.0,
        "most money": cloud.money + price,
    }
    faults = {f"fault {made.fate}": 1.0} if made.fate != "fine" else {}
    if made.cut[0] < NEVER:
        faults["fault cut"] = 1.0
    return Reply({"machine": row(made, now, notice)}, (made,), {"created": 1.0, **faults, **most})


def _born(cloud: Cloud, vm: Vm, now: float, dice: Dice) -> Vm:
    """The machine with a new fate, booting since ``now``. Every die is cast whatever the settings are, so
    that switching one fault on changes no other."""
    options: Settings = cloud.settings
    boot, setup = drawn(options.boot, dice), drawn(options.configure, dice)
    luck, lag, cut, cut_at, cut_for = (dice.random() for _ in range(5))
    spot, life = dice.random(), dice.expovariate(1.0)
    fate = "fine"
    for share, name in (
        (options.failed_boot, "failed"), (options.broken_context if vm.role == "worker" else 0.0, "broken"),
        (options.slow_boot, "slow"),
    ):  # fmt: skip
        if luck < share and fate == "fine":
            fate = name
        luck -= share if fate == "fine" else 0.0
    if vm.image in options.bad_images:
        fate = "failed"
    boots = now + boot * (_SLOW if fate == "slow" else 1.0)
    begins = boots + cut_at * _CUT_WITHIN
    window = (
        (begins, begins + options.cut_lasts * (0.5 + cut_for))
        if cut < options.network_cut
        else (NEVER, NEVER)
    )
    works = NEVER if fate in ("failed", "broken") or vm.role != "worker" else boots + setup
    dies = now + options.spot[1] * life if spot < options.spot[0] else NEVER
    return replace(
        vm, serial=vm.serial + 1, created=now, listed=now + lag * options.eventual_list, boots=boots, fate=fate,
        works=works, cut=window, dies=dies, gone=NEVER, unlisted=NEVER,
    )  # fmt: skip


def _zone(cloud: Cloud, avoid: list[str]) -> str:
    zones = cloud.settings.zones
    if not zones:
        return ""
    room = {zone: most - cloud.zones.get(zone, 0) for zone, most in zones.items()}
    best = max(room, key=lambda zone: (room[zone] > 0, zone not in avoid, room[zone]))
    if room[best] <= 0:
        raise Refused("shortage", f"no capacity in any zone ({', '.join(zones)})", 60.0)
    return best


def _destroy(
    cloud: Cloud, request: Mapping[str, Any], now: float, dice: Dice, _: Callable[[str, int], Dice]
) -> Reply:
    vm = cloud.vms.get(request["name"])
    if vm is None or vm.gone < NEVER:
        return Reply({"left": cloud.machines})
    after = replace(vm, gone=now, unlisted=now + dice.random() * cloud.settings.eventual_list)
    counted = {"destroyed": 1.0, "money": cost(cloud, vm, now)}
    return Reply({"left": cloud.machines - 1}, (after,), counted)


def _list(
    cloud: Cloud, _: Mapping[str, Any], now: float, dice: Dice, __: Callable[[str, int], Dice]
) -> Reply:
    """The rows themselves are made by the server, which remembers how they are written."""
    seen = [
        vm
        for vm in cloud.vms.values()
        if vm.listed <= now < vm.unlisted and (vm.gone == NEVER or vm.gone < vm.unlisted)
    ]
    twice = cloud.settings.duplicate_listing
    more = [vm for vm in seen if dice.random() < twice] if twice else []
    return Reply({"vms": [*seen, *more]})


def _console(
    cloud: Cloud, request: Mapping[str, Any], now: float, _: Dice, __: Callable[[str, int], Dice]
) -> Reply:
    vm = cloud.vms.get(request["name"])
    if vm is None or vm.gone < NEVER:
        return Reply({"console": ""})
    lines = [f"[    0.000000] {vm.name}: image {vm.image or 'default'}, zone {vm.zone or 'default'}"]
    if vm.fate == "failed" and now >= vm.boots:
        lines.append("Kernel panic - not syncing: VFS: Unable to mount root fs")
    elif now >= vm.boots:
        lines.append(
            "cloud-init: finished" if vm.fate != "broken" else "cloud-init: finished; agent.service: failed"
        )
    return Reply({"console": "\n".join(lines) + "\n"})


def _configure(
    cloud: Cloud, request: Mapping[str, Any], now: float, dice: Dice, _: Callable[[str, int], Dice]
) -> Reply:
    vm = cloud.vms.get(request["name"])
    if vm is None or vm.gone < NEVER or state(vm, now) != "running":
        word = "gone" if vm is None or vm.gone < NEVER else state(vm, now)
        raise Refused("unreachable", f"{request['name']} cannot be configured: it is {word}", 5.0)
    setup = drawn(cloud.settings.configure, dice)
    works = min(vm.works, now + setup)
    return Reply({}, (replace(vm, applied=request["digest"], works=works),), {"configured": 1.0}, setup)


def _health(
    cloud: Cloud, _: Mapping[str, Any], now: float, __: Dice, ___: Callable[[str, int], Dice]
) -> Reply:
    there = (vm for vm in cloud.vms.values() if vm.gone == NEVER)
    found = {vm.name: what for vm in there if (what := health(vm, now))}
    return Reply({"ill": found, "there": cloud.machines})


def _agents(
    cloud: Cloud, _: Mapping[str, Any], now: float, __: Dice, ___: Callable[[str, int], Dice]
) -> Reply:
    """The workers whose agents run: name, how often it was made, cores; and how long a job takes."""
    there = (vm for vm in cloud.vms.values() if vm.gone == NEVER and vm.role == "worker")
    found = [(vm.name, vm.serial, cloud.size(vm.offering)[0]) for vm in there if not health(vm, now)]
    return Reply({"agents": found, "there": cloud.machines, "job": cloud.settings.job})


def _figures(
    cloud: Cloud, request: Mapping[str, Any], now: float, _: Dice, __: Callable[[str, int], Dice]
) -> Reply:
    """Sums, and per machine that works the seconds since ``since`` until it did."""
    there = [vm for vm in cloud.vms.values() if vm.gone == NEVER]
    works = [vm.works - request["since"] for vm in there if not health(vm, now)]
    spent = cloud.tally.get("money", 0.0) + sum(cost(cloud, vm, now) for vm in there)
    sums = {"machines": cloud.machines, "cores": cloud.cores, "money_per_hour": cloud.money, "spent": spent}
    return Reply({"tally": cloud.tally, "ready": sorted(works), **sums})


def _nothing(
    cloud: Cloud, _: Mapping[str, Any], __: float, ___: Dice, ____: Callable[[str, int], Dice]
) -> Reply:
    return Reply({"left": cloud.machines})


def row(vm: Vm, now: float, notice: float) -> list[Any]:
    """A machine as it goes over the wire; the client makes a ``Machine`` of it."""
    return [
        vm.name,
        vm.group,
        vm.role,
        state(vm, now),
        vm.address,
        vm.zone,
        vm.applied,
        vm.tags,
        noticed(vm, now, notice),
    ]


def noticed(vm: Vm, now: float, notice: float) -> float | None:
    """When the cloud takes the machine back, once it has said so."""
    return vm.dies if vm.dies - notice <= now else None


_VERBS: Mapping[str, Callable[[Cloud, Mapping[str, Any], float, Dice, Callable[[str, int], Dice]], Reply]] = {
    "create": _create, "destroy": _destroy, "list": _list, "console": _console, "configure": _configure,
    "health": _health, "agents": _agents, "figures": _figures, "hello": _nothing, "end": _nothing, "pass": _nothing,
}  # fmt: skip
