"""What one machine needs, by what is wanted of it and what is seen of it. Pure; one rule a line."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.deploy.model import Action, Intent, Record, Stage, World
from orchestrator.deploy.plan import FieldChange
from orchestrator.deploy.spec import REPLACING, REPLACING_WORKER, Wanted, is_pet
from orchestrator.providers.base import Machine, MachineState


@dataclass(frozen=True)
class Facts:
    """What is known of one machine beside the machine itself."""

    torn: Intent | None = None  # its destruction was cut short
    making: bool = False  # its making was begun, and its outcome is not known
    steady: bool = False  # everything it needs works


@dataclass(frozen=True)
class Verdict:
    """One action with its reason; a machine's verdicts follow each other."""

    action: Action
    reason: str
    fields: tuple[FieldChange, ...] = ()


def judge(
    wanted: Wanted, machine: Machine | None, moved: Machine | None, facts: Facts, world: World
) -> list[Verdict]:
    """Verdicts in order. ``moved`` is the machine at a provider where it no longer belongs."""
    pet = is_pet(wanted.spec.role)
    made = _existence(wanted, machine, moved, facts, world, pet)
    if made and made.action is Action.NONE:
        return [made]
    new = (
        made is not None and made.action in (Action.CREATE, Action.REPLACE) and not _restarts(machine, facts)
    )
    setup = None
    if pet:
        setup = Verdict(Action.CONFIGURE, "it is new") if new or machine is None else _setup(machine, world)
    return [verdict for verdict in (made, setup) if verdict is not None]


def _existence(
    wanted: Wanted,
    machine: Machine | None,
    moved: Machine | None,
    facts: Facts,
    world: World,
    pet: bool,
) -> Verdict | None:
    name = wanted.spec.name
    record = world.records.get(name)
    if machine is None:
        if moved is not None:
            field = FieldChange("provider", moved.provider, wanted.provider, "replace")
            return Verdict(Action.REPLACE, f"it moves from {moved.provider} to {wanted.provider}", (field,))
        if facts.making:
            return Verdict(Action.CREATE, "its making was interrupted")
        if record is not None:
            return Verdict(Action.CREATE, f"it is gone from {wanted.provider}: nobody here destroyed it")
        return Verdict(Action.CREATE, "it is missing")
    if facts.torn is not None:
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
    if record is None and not facts.making:
        return Verdict(Action.ADOPT, "it carries our tag but the ledger does not know it")
    if machine.state is MachineState.BOOTING:
        if record is not None and record.stage is Stage.FAILED and not facts.making:
            return Verdict(Action.REPLACE, "it did not come up in time")
        return Verdict(Action.ADOPT, "it is still booting: waited for")
    return None if record is None else _duty(record, facts, world, pet)


def _duty(record: Record, facts: Facts, world: World, pet: bool) -> Verdict | None:
    """What a machine needs that runs, and is as it should be, but perhaps does no work."""
    health = world.health.get(record.name)
    if not pet and record.stage is Stage.FAILED and health is not None and not health.ok and facts.steady:
        return Verdict(Action.REPLACE, f"it does not work: {health.what}")
    if record.stage in (Stage.DRAINING, Stage.DRAINED):
        return Verdict(Action.UNDRAIN, "it was to leave, and is wanted again")
    return None


def _differences(wanted: Wanted, machine: Machine, pet: bool) -> tuple[FieldChange, ...]:
    """Only traits that the machine carries as tags can be compared."""
    tags, spec = machine.tags, wanted.spec
    found = [
        FieldChange(key, tags[key], spec.tags.get(key, ""), "replace")
        for key in (REPLACING if pet else REPLACING_WORKER)
        if key in tags and tags[key] != spec.tags.get(key, "")
    ]
    if machine.role != spec.role:
        found.append(FieldChange("role", machine.role, spec.role, "replace"))
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


def _restarts(machine: Machine | None, facts: Facts) -> bool:
    return machine is not None and facts.torn is None and machine.state is MachineState.STOPPED
