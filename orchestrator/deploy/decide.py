"""What is wanted + what there is → Plan. Pure: the same arguments give the same plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from orchestrator.deploy import spec as specs
from orchestrator.deploy.judge import Verdict, judge
from orchestrator.deploy.model import Action, Health, World
from orchestrator.deploy.plan import Change, Plan, world_digest
from orchestrator.deploy.recover import half_gone, half_made
from orchestrator.errors import UserError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Role, Site

# Seconds, until the ledger's history knows better.
_USUAL = {
    Action.CREATE: 2.0, Action.CONFIGURE: 10.0, Action.VERIFY: 3.0, Action.REPLACE: 4.0,
    Action.DESTROY: 2.0, Action.DRAIN: 10.0, Action.ADOPT: 1.0,
}  # fmt: skip
# Destroyed first to last; machines whose role nobody knows go with the VO boxes.
_LEAVE: Mapping[str, int] = {Role.WORKER: 0, Role.VOBOX: 1, Role.CENTRAL: 2}


def decide(site: Site, world: World, limit: str = "") -> Plan:
    """Everything that must change so that the site becomes what its spec says; empty when it is.

    ``limit`` narrows it to one group: UserError when a group it needs is not up.
    """
    changes = _wanted(site, world)
    changes += _surplus(site, world)
    changes += _verifications(site, world, changes)
    changes = _ordered(site, changes)
    if limit:
        changes = _limited(site, limit, changes)
    wanted = {name: [w.provider, w.spec] for name, w in specs.wanted(site, world.overrides).items()}
    digest, timed = world_digest(wanted, world), _timed(world, changes)
    return Plan(site.site, "up", world.now, digest, timed, limit, notes=_out_of_sight(site, world))


def decide_down(site: Site, world: World, *, keep_data: bool = False, limit: str = "") -> Plan:
    """Destroy every machine of ours at every provider, also those the spec does not name (or one group's)."""
    if limit and limit not in {machine.group for machine in world.machines}:
        site.group(limit)
    there = [*world.machines, *_fragments(site, world)]
    gone = [machine for machine in there if not limit or machine.group == limit]
    why = f"group {limit} is taken down" if limit else "the site is taken down"
    changes = _ordered_away([_destroy(machine, world, why) for machine in _last_first(gone)])
    digest = world_digest({"down": limit}, world)
    return Plan(site.site, "down", world.now, digest, _timed(world, changes), limit, keep_data)


def _wanted(site: Site, world: World) -> list[Change]:
    there = {(machine.provider, machine.name): machine for machine in world.machines}
    home = {name: group.provider for name, group in site.groups.items()}
    elsewhere = {m.name: m for m in world.machines if m.provider != home.get(m.group)}
    torn = half_gone(world)
    changes: list[Change] = []
    for name, wanted in specs.wanted(site, world.overrides).items():
        machine, moved = there.get((wanted.provider, name)), elsewhere.get(name)
        verdicts = judge(wanted, machine, moved, torn.get(name), world)
        changes += _changes(wanted, machine or moved, verdicts, world)
    return changes


def _changes(
    wanted: specs.Wanted, machine: Machine | None, verdicts: Sequence[Verdict], world: World
) -> Iterable[Change]:
    before: tuple[str, ...] = ()
    for verdict in verdicts:
        name = wanted.spec.name
        change = Change(
            id=f"{verdict.action}:{name}",
            action=verdict.action,
            object=name,
            group=wanted.spec.group,
            role=wanted.spec.role,
            provider=wanted.provider,
            reason=verdict.reason,
            fields=verdict.fields,
            needs=before,
            previous=machine.provider if machine and verdict.action is Action.REPLACE else "",
            jobs=world.jobs.get(name, ()) if verdict.action is Action.REPLACE else (),
        )
        before = (change.id,)
        yield change


def _surplus(site: Site, world: World) -> list[Change]:
    wanted = specs.wanted(site, world.overrides)
    many = specs.counts(site, world.overrides)
    there = {(machine.provider, machine.name) for machine in world.machines}
    torn = half_gone(world)  # drained already
    extra: list[Change] = []
    for machine in _last_first(world.machines):
        want = wanted.get(machine.name)
        if want is None:
            group = machine.group
            why = f"group {group} is to have {many[group]}" if group in many else f"no group {group} any more"
            extra.append(_destroy(machine, world, why))
        elif want.provider != machine.provider and (want.provider, machine.name) in there:
            why = f"it exists at {want.provider} too, where it belongs"
            extra.append(
                replace(_destroy(machine, world, why), id=f"destroy:{machine.name}@{machine.provider}")
            )
    extra += [
        _destroy(fragment, world, "its making was interrupted, and it is not wanted any more")
        for fragment in _fragments(site, world)
        if fragment.name not in wanted
    ]
    drains = [
        Change(
            f"drain:{c.object}", Action.DRAIN, c.object, c.group, c.role, c.provider, c.reason, jobs=c.jobs
        )
        for c in extra
        if c.jobs and c.object not in torn
    ]
    drained = {change.object: (change.id,) for change in drains}
    return drains + [replace(c, needs=(*c.needs, *drained.get(c.object, ()))) for c in _ordered_away(extra)]


def _fragments(site: Site, world: World) -> list[Machine]:
    """Machines that may be half made, as far as they are known; destroying by name is silent if nothing is there."""
    return [
        Machine(i.object, i.group, i.role, i.provider, MachineState.FAILED)
        for i in half_made(world).values()
        if i.provider in site.providers
    ]


def _destroy(machine: Machine, world: World, why: str) -> Change:
    return Change(
        f"destroy:{machine.name}", Action.DESTROY, machine.name, machine.group, machine.role, machine.provider, why,
        jobs=world.jobs.get(machine.name, ()) if machine.state is MachineState.RUNNING else (),
    )  # fmt: skip


def _last_first(machines: Iterable[Machine]) -> list[Machine]:
    """Machines by group, the highest number first."""

    def number(machine: Machine) -> tuple[str, int, str]:
        tail = machine.name.rpartition("-")[2]
        return machine.group, -int(tail) if tail.isdigit() else 0, machine.name

    return sorted(machines, key=number)


def _ordered_away(destroys: Sequence[Change]) -> list[Change]:
    """Workers before the VO boxes they report to, central last."""

    def rank(change: Change) -> int:
        return _LEAVE.get(change.role, 1)

    before = [tuple(change.id for change in destroys if rank(change) < level) for level in range(len(_LEAVE))]
    return [replace(change, needs=before[rank(change)]) for change in sorted(destroys, key=rank)]


def _verifications(site: Site, world: World, changes: Sequence[Change]) -> list[Change]:
    """A group is looked at when one of its machines changes, does not work, or leans on one that changes."""
    touched: dict[str, str] = {}
    for name in site.ordered_groups():
        if not specs.counts(site, world.overrides)[name]:
            continue
        mine = [change for change in changes if change.group == name and change.action not in _LEAVING]
        ill = [m for m in world.machines if m.group == name and not world.health.get(m.name, _FINE).ok]
        if mine:
            touched[name] = f"wait until it works ({_machines({change.object for change in mine})})"
            if all(change.action is Action.NONE for change in mine):
                touched[name] = f"{mine[0].object}: {mine[0].reason}"
        elif ill:
            touched[name] = f"{ill[0].name}: {world.health[ill[0].name].what}"
        elif leans := [need for need in site.dependencies(name) if need in touched]:
            touched[name] = f"group {leans[0]} changes, which it needs"
    return [
        Change(
            id=f"verify:{name}", action=Action.VERIFY, object=name, group=name,
            role=str(site.groups[name].role), provider=site.groups[name].provider, reason=why,
            needs=tuple(c.id for c in changes if c.group == name and c.action not in (*_LEAVING, Action.NONE)),
        )
        for name, why in touched.items()
    ]  # fmt: skip


def _machines(names: Collection[str]) -> str:
    return "1 machine changes" if len(names) == 1 else f"{len(names)} machines change"


def _ordered(site: Site, changes: Sequence[Change]) -> list[Change]:
    """With the edges between groups: configuring waits for the groups it needs to be verified.

    Machines of all groups are created at once; only workers wait already with their creation, since
    their context needs an enrolment token from the running central services.
    """
    verified = {change.object: change.id for change in changes if change.action is Action.VERIFY}
    ordered = []
    for change in changes:
        waits = change.action in (Action.CONFIGURE, Action.VERIFY) or (
            change.role == Role.WORKER and change.action in (Action.CREATE, Action.REPLACE)
        )
        if waits and change.group in site.groups:
            gates = (verified[need] for need in site.dependencies(change.group) if need in verified)
            change = replace(change, needs=tuple(dict.fromkeys((*change.needs, *gates))))
        ordered.append(change)
    place = {name: number for number, name in enumerate(site.ordered_groups())}
    last = len(place)
    return sorted(ordered, key=lambda c: last if c.action in _LEAVING else place.get(c.group, last))


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
    kept = [change for change in changes if change.group == limit]
    ids = {change.id for change in kept}
    return [replace(change, needs=tuple(need for need in change.needs if need in ids)) for change in kept]


def _out_of_sight(site: Site, world: World) -> tuple[str, ...]:
    """Machines of ours at a provider that the spec no longer names: nobody can list them."""
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


_FINE = Health(True)
_LEAVING = (Action.DESTROY, Action.DRAIN)
