"""Machines that go: which, why, and in what order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.deploy import spec as specs
from orchestrator.deploy.model import Action, World
from orchestrator.deploy.plan import Change
from orchestrator.deploy.recover import half_gone, half_made
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Role, Site

# Destroyed first to last; machines whose role nobody knows go with the VO boxes.
_LEAVE: Mapping[str, int] = {Role.WORKER: 0, Role.VOBOX: 1, Role.CENTRAL: 2}


def surplus(site: Site, world: World, wanted: Mapping[str, specs.Wanted]) -> list[Change]:
    """Machines that the site spec does not want (there), those with running tasks drained first."""
    many = specs.counts(site, world.overrides)
    there = {(machine.provider, machine.name) for machine in world.machines}
    extra: list[Change] = []
    for machine in last_first(world.machines):
        want = wanted.get(machine.name)
        if want is None:
            group = machine.group
            why = f"group {group} is to have {many[group]}" if group in many else f"no group {group} any more"
            extra.append(destroy(machine, world, why))
        elif want.provider != machine.provider and (want.provider, machine.name) in there:
            why = f"it exists at {want.provider} too, where it belongs"
            double = destroy(machine, world, why)
            extra.append(replace(double, id=f"destroy:{machine.name}@{machine.provider}"))
    for fragment in fragments(site, world):
        if fragment.name not in wanted:
            torn = fragment.name in half_made(world)
            why = (
                "its making was interrupted"
                if torn
                else f"{fragment.provider} does not list it, but it was made"
            )
            extra.append(destroy(fragment, world, f"{why}, and it is not wanted any more"))
    return drained(ordered_away(extra), world)


def drained(changes: Sequence[Change], world: World) -> list[Change]:
    """``changes``, each that takes a machine with running tasks away after a drain."""
    torn = half_gone(world)  # drained already
    result: list[Change] = []
    for c in changes:
        if c.jobs and c.object not in torn and c.action in (Action.DESTROY, Action.REPLACE):
            drain = Change(
                f"drain:{c.object}", Action.DRAIN, c.object, c.group, c.role, c.previous or c.provider, c.reason,
                needs=c.needs, jobs=c.jobs,
            )  # fmt: skip
            result.append(drain)
            c = replace(c, needs=(*c.needs, drain.id))
        result.append(c)
    return result


def fragments(site: Site, world: World) -> list[Machine]:
    """Machines that nobody lists and that may exist all the same: half made ones, and those that the ledger
    knows, since a list may lag behind. Destroying by name is silent if nothing is there."""
    there = {machine.name for machine in world.machines}
    known = {r.name: (r.group, r.role, r.provider) for r in world.records.values() if r.name not in there}
    known |= {i.object: (i.group, i.role, i.provider) for i in half_made(world).values()}
    return [
        Machine(name, group, role, provider, MachineState.FAILED)
        for name, (group, role, provider) in known.items()
        if provider in site.providers
    ]


def destroy(machine: Machine, world: World, why: str) -> Change:
    """That machine goes."""
    running = machine.state is MachineState.RUNNING
    return Change(
        f"destroy:{machine.name}", Action.DESTROY, machine.name, machine.group, machine.role, machine.provider, why,
        jobs=world.jobs.get(machine.name, ()) if running else (), removes=running,
        cost=price(world, machine.provider, machine.tags.get("offering", ""), -1.0),
    )  # fmt: skip


def price(world: World, provider: str, offering: str, factor: float = 1.0) -> float | None:
    """What a machine costs per hour, None when the provider does not tell."""
    found = world.offerings.get(provider, {}).get(offering)
    return None if found is None or found.price is None else factor * found.price


def last_first(machines: Iterable[Machine]) -> list[Machine]:
    """Machines by group, the highest number first."""

    def number(machine: Machine) -> tuple[str, int, str]:
        tail = machine.name.rpartition("-")[2]
        return machine.group, -int(tail) if tail.isdigit() else 0, machine.name

    return sorted(machines, key=number)


def ordered_away(destroys: Sequence[Change]) -> list[Change]:
    """Workers before the VO boxes they report to, central last."""

    def rank(change: Change) -> int:
        return _LEAVE.get(change.role, 1)

    before = [tuple(change.id for change in destroys if rank(change) < level) for level in range(len(_LEAVE))]
    return [replace(change, needs=before[rank(change)]) for change in sorted(destroys, key=rank)]
