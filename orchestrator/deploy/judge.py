"""What one machine needs, by what is wanted of it and what is seen of it. Pure; one rule a line."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.deploy.model import Action, Intent, World
from orchestrator.deploy.plan import FieldChange
from orchestrator.deploy.spec import REPLACING, REPLACING_WORKER, Wanted, is_pet
from orchestrator.providers.base import Machine, MachineState


@dataclass(frozen=True)
class Verdict:
    """One action with its reason; a machine's verdicts follow each other."""

    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()


def judge(
    wanted: Wanted, machine: Machine | None, moved: Machine | None, torn: Intent | None, world: World
) -> list[Verdict]:
    """Verdicts in order. ``moved`` is the machine at a provider where it no longer belongs, ``torn``
    the intent of a destruction that was cut short."""
    pet = is_pet(wanted.spec.role)
    made = _existence(wanted, machine, moved, torn, world, pet)
    if made and made.action is Action.NONE:
        return [made]
    new = made is not None and made.action in (Action.CREATE, Action.REPLACE) and not _restarts(machine, torn)
    setup = None
    if pet:
        setup = Verdict(Action.CONFIGURE, "it is new") if new or machine is None else _setup(machine, world)
    return [verdict for verdict in (made, setup) if verdict is not None]


def _existence(
    wanted: Wanted,
    machine: Machine | None,
    moved: Machine | None,
    torn: Intent | None,
    world: World,
    pet: bool,
) -> Verdict | None:
    name = wanted.spec.name
    if machine is None:
        if moved is not None:
            field = FieldChange("provider", moved.provider, wanted.provider)
            return Verdict(Action.REPLACE, f"it moves from {moved.provider} to {wanted.provider}", (field,))
        if _being_made(name, world):
            return Verdict(Action.CREATE, "its making was interrupted")
        if name in world.records:
            return Verdict(Action.CREATE, f"it is gone from {wanted.provider}: nobody here destroyed it")
        return Verdict(Action.CREATE, "it is missing")
    if torn is not None:
        return Verdict(Action.REPLACE, "its destruction was interrupted: what is left cannot be trusted")
    if changed := _differences(wanted, machine, pet):
        told = ", ".join(f"{field.name} {field.old or 'none'} → {field.new or 'none'}" for field in changed)
        return Verdict(Action.REPLACE, told, changed)
    if machine.state is MachineState.UNREACHABLE:
        return Verdict(Action.NONE, "it cannot be reached; unreachable is not dead, so it is left alone")
    if machine.state is MachineState.FAILED:
        return Verdict(Action.REPLACE, f"{wanted.provider} says it failed")
    if machine.state is MachineState.STOPPED:
        if pet:
            return Verdict(Action.CREATE, "it is stopped: started again")
        return Verdict(Action.REPLACE, "it is stopped, and a worker keeps nothing")
    if name not in world.records and not _being_made(name, world):
        return Verdict(Action.ADOPT, "it carries our tag but the ledger does not know it")
    if machine.state is MachineState.BOOTING:
        return Verdict(Action.ADOPT, "it is still booting: waited for")
    return None


def _differences(wanted: Wanted, machine: Machine, pet: bool) -> tuple[FieldChange, ...]:
    """Only traits that the machine carries as tags can be compared."""
    tags, spec = machine.tags, wanted.spec
    found = [
        FieldChange(key, tags[key], spec.tags.get(key, ""))
        for key in (REPLACING if pet else REPLACING_WORKER)
        if key in tags and tags[key] != spec.tags.get(key, "")
    ]
    if machine.role != spec.role:
        found.append(FieldChange("role", machine.role, spec.role))
    return tuple(found)


def _setup(machine: Machine, world: World) -> Verdict | None:
    want = world.digests.get(machine.name, "")
    if machine.drift:
        fields = tuple(FieldChange(path, "as configured", "edited by hand") for path in machine.drift)
        shown = ", ".join(machine.drift[:3]) + (" …" if len(machine.drift) > 3 else "")
        return Verdict(Action.CONFIGURE, f"edited by hand: {shown}", fields)
    if not machine.applied:
        return Verdict(Action.CONFIGURE, "its configuration was never finished")
    if want and machine.applied != want:
        field = FieldChange("configuration", machine.applied[:12], want[:12])
        return Verdict(Action.CONFIGURE, "its configuration changed", (field,))
    health = world.health.get(machine.name)
    if health is not None and not health.ok and machine.state is MachineState.RUNNING:
        field = FieldChange("health", health.what, "ok")
        return Verdict(Action.CONFIGURE, f"it does not work: {health.what}", (field,))
    return None


def _restarts(machine: Machine | None, torn: Intent | None) -> bool:
    return machine is not None and torn is None and machine.state is MachineState.STOPPED


def _being_made(name: str, world: World) -> bool:
    return any(
        i.object == name and i.action in (Action.CREATE, Action.ADOPT, Action.REPLACE) for i in world.open
    )
