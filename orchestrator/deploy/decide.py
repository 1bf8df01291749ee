"""What is wanted + what there is → Plan. Pure: the same arguments give the same plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.deploy import spec as specs
from orchestrator.deploy.budget import unpriced, used, within
from orchestrator.deploy.gates import ordered, rolled, verifications
from orchestrator.deploy.judge import Facts, Verdict, judge
from orchestrator.deploy.leaving import (
    destroy,
    drained,
    fragments,
    last_first,
    ordered_away,
    price,
    surplus,
)
from orchestrator.deploy.model import Action, World
from orchestrator.deploy.place import placed
from orchestrator.deploy.plan import Change, Plan, world_digest
from orchestrator.deploy.recover import half_gone
from orchestrator.errors import UserError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Site

# Seconds, until the ledger's history knows better.
_USUAL = {
    Action.CREATE: 2.0, Action.CONFIGURE: 10.0, Action.VERIFY: 3.0, Action.REPLACE: 4.0,
    Action.DESTROY: 2.0, Action.DRAIN: 10.0, Action.ADOPT: 1.0, Action.UNDRAIN: 1.0,
}  # fmt: skip


def decide(site: Site, world: World, limit: str = "") -> Plan:
    """Everything that must change so that the site becomes what its spec says; empty when it is.

    ``limit`` narrows it to one group: UserError when a group it needs is not up.
    """
    wanted = placed(site, world)
    gone = surplus(site, world, wanted)
    leave = [change for change in gone if limit in ("", change.group)]
    made = within(site, world, _wanted(site, world, wanted), leave)
    changes = [*drained(rolled(site, world, made), world), *gone]
    changes += verifications(site, world, changes)
    changes = ordered(site, changes)
    if limit:
        changes = _limited(site, limit, changes)
    spec = {name: [w.provider, w.spec] for name, w in specs.wanted(site, world.overrides).items()}
    digest, timed = world_digest(spec, world), _timed(world, changes)
    cost = used(world, world.machines).money + sum(change.cost or 0.0 for change in timed)
    notes = (*_notes(site, world), *unpriced(site, world))
    return Plan(site.site, "up", world.now, digest, timed, limit, notes=notes, per_hour=max(0.0, cost))


def decide_down(site: Site, world: World, *, keep_data: bool = False, limit: str = "") -> Plan:
    """Destroy every machine of ours at every provider, also those the spec does not name (or one group's)."""
    if limit and limit not in {machine.group for machine in world.machines}:
        site.group(limit)
    there = [*world.machines, *fragments(site, world)]
    gone = [machine for machine in there if not limit or machine.group == limit]
    why = f"group {limit} is taken down" if limit else "the site is taken down"
    changes = ordered_away([destroy(machine, world, why) for machine in last_first(gone)])
    digest = world_digest({"down": limit}, world)
    return Plan(site.site, "down", world.now, digest, _timed(world, changes), limit, keep_data)


def _wanted(site: Site, world: World, wanted: Mapping[str, specs.Wanted]) -> list[Change]:
    there = {(machine.provider, machine.name): machine for machine in world.machines}
    by_name = {machine.name: machine for machine in world.machines}
    torn, making = half_gone(world), {i.object for i in world.open if i.action in _MAKING}
    steady = {name: _steady(site, world, name) for name in site.groups}
    changes: list[Change] = []
    for name, want in wanted.items():
        machine = there.get((want.provider, name))
        moved = by_name.get(name) if machine is None else None
        facts = Facts(torn.get(name), name in making, steady[want.spec.group])
        changes += _changes(want, machine or moved, judge(want, machine, moved, facts, world), world)
    return changes


def _steady(site: Site, world: World, group: str) -> bool:
    """All that the group needs is there and works, so a worker that does not work is itself to blame."""
    needed = set(site.dependencies(group))
    there = [machine for machine in world.machines if machine.group in needed]
    well = all(m.name in world.health and world.health[m.name].ok for m in there)
    return well and {machine.group for machine in there} == needed


def _changes(
    wanted: specs.Wanted, machine: Machine | None, verdicts: Sequence[Verdict], world: World
) -> Iterable[Change]:
    before: tuple[str, ...] = ()
    for verdict in verdicts:
        name, action = wanted.spec.name, verdict.action
        replaces = action is Action.REPLACE
        running = machine is not None and machine.state is MachineState.RUNNING
        change = Change(
            id=f"{action}:{name}",
            action=action,
            object=name,
            group=wanted.spec.group,
            role=wanted.spec.role,
            provider=wanted.provider,
            reason=verdict.reason,
            fields=verdict.fields,
            needs=before,
            previous=machine.provider if machine and replaces else "",
            jobs=world.jobs.get(name, ()) if replaces and running else (),
            image=wanted.spec.image,
            avoid=wanted.avoid,
            removes=replaces and running and not verdict.fields,
            cost=_cost(wanted, machine, action, world),
        )
        before = (change.id,)
        yield change


def _cost(wanted: specs.Wanted, machine: Machine | None, action: Action, world: World) -> float | None:
    """What the machine then costs more per hour."""
    if action not in (Action.CREATE, Action.REPLACE) or (machine and action is Action.CREATE):
        return None
    new = price(world, wanted.provider, wanted.spec.offering)
    old = 0.0
    if machine is not None:
        old = price(world, machine.provider, machine.tags.get("offering", "")) or 0.0
    return None if new is None else new - old


def _limited(site: Site, limit: str, changes: Sequence[Change]) -> list[Change]:
    if limit not in {change.group for change in changes}:
        site.group(limit)  # NotFound unless it exists or its machines still do
    needed = site.dependencies(limit) if limit in site.groups else ()
    for change in changes:
        missing = change.action in (Action.CREATE, Action.REPLACE, Action.NONE)
        if change.group in needed and (missing or (change.action is Action.CONFIGURE and not change.fields)):
            raise UserError(
                f"group {limit} needs group {change.group}, which is not up ({change.object}: {change.reason});"
                f" run `orchestrate up --limit {change.group}` first, or leave --limit away",
                group=limit, needs=change.group,
            )  # fmt: skip
    return only(changes, {change.id for change in changes if change.group == limit})


def only(changes: Sequence[Change], ids: set[str]) -> list[Change]:
    """Those changes, waiting for each other alone."""
    return [
        replace(
            change,
            needs=tuple(need for need in change.needs if need in ids),
            after=tuple(need for need in change.after if need in ids),
        )
        for change in changes
        if change.id in ids
    ]


def _notes(site: Site, world: World) -> tuple[str, ...]:
    """Machines of ours at a provider that the spec no longer names (nobody can list them)."""
    lost: dict[str, list[str]] = {}
    for record in world.records.values():
        if record.provider not in site.providers:
            lost.setdefault(record.provider, []).append(record.name)
    return tuple(
        f"provider {name} is not in the site spec any more, but {', '.join(sorted(names))} were made there;"
        " put it back into `providers` to have them destroyed"
        for name, names in lost.items()
    )


def _timed(world: World, changes: Sequence[Change]) -> tuple[Change, ...]:
    usual: Mapping[tuple[str, str], float] = world.seconds
    return tuple(
        replace(c, seconds=usual.get((c.action, c.role), _USUAL.get(c.action, 0.0))) for c in changes
    )


_MAKING = (Action.CREATE, Action.ADOPT, Action.REPLACE)
