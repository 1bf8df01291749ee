"""Where a plan waits and looks: groups verified after their machines change, updates a few at a time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from orchestrator.deploy.budget import absent
from orchestrator.deploy.model import Action, Health, World
from orchestrator.deploy.plan import Change
from orchestrator.deploy.spec import counts, is_pet
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Site

LEAVING = (Action.DESTROY, Action.DRAIN)
_FINE = Health(True)
_SHARE = 5  # an update takes a fifth of the group away at the same time


def rolled(site: Site, world: World, changes: Sequence[Change]) -> list[Change]:
    """Working machines of a group are replaced in waves; each wave waits until the one before it works."""
    working = {
        m.name
        for m in world.machines
        if m.state is MachineState.RUNNING and world.health.get(m.name, _FINE).ok
    }
    result: list[Change] = []
    waves: dict[str, list[Change]] = {}
    for change in changes:
        waits = change.action is Action.REPLACE and change.object in working and not is_pet(change.role)
        (waves.setdefault(change.group, []) if waits else result).append(change)
    for group, update in waves.items():
        size = counts(site, world.overrides)[group]
        many = site.groups[group].max_unavailable or max(1, -(-size // _SHARE))
        gate: tuple[str, ...] = ()
        for first in range(0, len(update), many):
            wave = [_rolling(change, gate) for change in update[first : first + many]]
            result += wave
            if first + many < len(update):
                look = _look(site, group, wave, first // many + 1, gate)
                result.append(look)
                gate = (look.id,)
    return result


def _rolling(change: Change, gate: tuple[str, ...]) -> Change:
    fields = tuple(replace(field, how="rolling") for field in change.fields)
    return replace(change, needs=(*change.needs, *gate), fields=fields)


def _look(site: Site, group: str, wave: Sequence[Change], number: int, gate: tuple[str, ...]) -> Change:
    names = tuple(change.object for change in wave)
    why = f"the next {'machine waits' if len(wave) == 1 else 'machines wait'} until these work"
    return Change(
        f"verify:{group}@{number}", Action.VERIFY, group, group, str(site.groups[group].role),
        site.groups[group].provider, why, needs=(*gate, *(change.id for change in wave)), machines=names,
    )  # fmt: skip


def verifications(site: Site, world: World, changes: Sequence[Change]) -> list[Change]:
    """A group is looked at when one of its machines changes, does not work, or leans on one that changes."""
    mine: dict[str, list[Change]] = {}
    ill: dict[str, Machine] = {}
    for change in changes:
        if change.action not in LEAVING and not change.withheld:
            mine.setdefault(change.group, []).append(change)
    for machine in world.machines:
        if not world.health.get(machine.name, _FINE).ok:
            ill.setdefault(machine.group, machine)
    touched: dict[str, str] = {}
    many = counts(site, world.overrides)
    away = absent(changes, world)
    left = {
        name: [each for each in site.machine_names(name, many[name]) if each not in away] for name in many
    }
    for name in site.ordered_groups():
        if not left[name]:
            continue
        if name in mine:
            names = {change.object for change in mine[name] if change.action is not Action.VERIFY}
            touched[name] = f"wait until it works ({_machines(names)})"
            if all(change.action is Action.NONE for change in mine[name]):
                touched[name] = f"{mine[name][0].object}: {mine[name][0].reason}"
        elif name in ill:
            touched[name] = f"{ill[name].name}: {world.health[ill[name].name].what}"
        elif leans := [need for need in site.dependencies(name) if need in touched]:
            touched[name] = f"group {leans[0]} changes, which it needs"
    some = {name: tuple(left[name]) if len(left[name]) < many[name] else () for name in touched}
    return [_verify(site, name, why, mine.get(name, ()), some[name]) for name, why in touched.items()]


def _verify(site: Site, name: str, why: str, changes: Sequence[Change], machines: tuple[str, ...]) -> Change:
    role = str(site.groups[name].role)
    waits = tuple(c.id for c in changes if c.action is not Action.NONE)
    pet = is_pet(role)
    return Change(
        id=f"verify:{name}", action=Action.VERIFY, object=name, group=name, role=role,
        provider=site.groups[name].provider, reason=why,
        # One worker that fails leaves its siblings to be looked at; without its pets a group is nothing.
        needs=waits if pet else (), after=() if pet else waits, machines=machines,
    )  # fmt: skip


def _machines(names: Collection[str]) -> str:
    return "1 machine changes" if len(names) == 1 else f"{len(names)} machines change"


def ordered(site: Site, changes: Sequence[Change]) -> list[Change]:
    """With the edges between groups: configuring waits for the groups it needs to be verified.

    Machines of all groups are created at once; only workers wait already with their creation, since
    their context needs an enrolment token from the running central services.
    """
    verified = {change.object: change.id for change in changes if change.id == f"verify:{change.object}"}
    gates: Mapping[str, tuple[str, ...]] = {
        name: tuple(verified[need] for need in site.dependencies(name) if need in verified)
        for name in site.groups
    }
    result = []
    for change in changes:
        waits = change.action in (Action.CONFIGURE, Action.VERIFY) or (
            not is_pet(change.role) and change.action in (Action.CREATE, Action.REPLACE)
        )
        if waits and gates.get(change.group):
            change = replace(change, needs=tuple(dict.fromkeys((*change.needs, *gates[change.group]))))
        result.append(change)
    place = {name: number for number, name in enumerate(site.ordered_groups())}
    last = len(place)

    def key(change: Change) -> int:
        away = change.action is Action.DESTROY or change.group not in place
        return last if away else place[change.group]

    return sorted(result, key=key)
