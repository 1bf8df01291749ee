"""What is ours and what should be: ``gc`` proves that nothing is left over, ``adopt`` takes in what is unknown."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from orchestrator.deploy import removal
from orchestrator.deploy.context import Context
from orchestrator.deploy.converge import Confirm, ask, carry_out, look
from orchestrator.deploy.decide import only
from orchestrator.deploy.events import Closed
from orchestrator.deploy.model import Action, World
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.report import Report
from orchestrator.deploy.session import Session
from orchestrator.errors import NotFound, UserError
from orchestrator.providers.base import HasObjects, Object, bare

_GOING = (Action.DESTROY, Action.DRAIN)


@dataclass(frozen=True)
class Claim:
    """One object of ours at a provider; ``why`` says why it belongs there, or why not."""

    provider: str
    object: Object
    belongs: bool
    why: str


def proof(ctx: Context) -> tuple[Claim, ...]:
    """Every object of ours at every provider, and whether it belongs to the desired state. Nothing is changed."""
    world, plan = look(ctx)
    going = {(c.provider, c.object): c for c in plan.changes if c.action is Action.DESTROY}
    claims: list[Claim] = []
    for machine in world.machines:
        gone = going.pop((machine.provider, machine.name), None)
        why = gone.reason if gone else f"machine of group {machine.group}"
        claims.append(
            Claim(machine.provider, Object("machine", machine.name, machine.name), gone is None, why)
        )
    claims += [
        Claim(provider, Object("machine", name, name), False, change.reason)
        for (provider, name), change in going.items()
    ]
    kept = {(claim.provider, claim.object.machine) for claim in claims if claim.belongs}
    for name, guard in ctx.guards.items():
        adapter = bare(guard)
        for each in adapter.objects() if isinstance(adapter, HasObjects) else ():
            belongs = (name, each.machine) in kept if each.machine else name in {there for there, _ in kept}
            what = f"of machine {each.machine}" if each.machine else "of all machines there"
            claims.append(Claim(name, each, belongs, what if belongs else f"{what}, which should not exist"))
    return tuple(claims)


def gc(ctx: Context, session: Session, confirm: Confirm, yes_remove: int) -> Report:
    """Nothing of ours exists that the site spec does not want; what it wants is left as it is."""
    world, plan = look(ctx)
    plan = _part(plan, {change.id for change in plan.changes if change.action in _GOING})
    removal.check(ctx.site, world, plan, yes_remove)
    if plan.destroys_data:
        ask(plan, confirm)
    report = carry_out(ctx, session, plan, world)
    if report.exit_code == 0:
        _loose(ctx)
    ctx.sink(Closed(report))
    return report


def adopt(ctx: Context, session: Session, names: Collection[str]) -> Report:
    """Those machines of ours (all when none is named) are in the ledger, and were waited for until they run.

    UserError for a machine that the site spec does not want: it would be removed by the next ``up``.
    """
    world, plan = look(ctx)
    for name in names:
        _adoptable(world, plan, name)
    wanted = {c.id for c in plan.changes if c.action is Action.ADOPT and (not names or c.object in names)}
    report = carry_out(ctx, session, _part(plan, wanted), world)
    ctx.sink(Closed(report))
    return report


def _adoptable(world: World, plan: Plan, name: str) -> None:
    if name not in {machine.name for machine in world.machines}:
        raise NotFound(f"no provider of site {plan.site} has a machine {name}", machine=name)
    if any(change.object == name and change.action is Action.DESTROY for change in plan.changes):
        raise UserError(
            f"{name} is not in the site spec, so `up` would remove it; give its group a higher count first",
            machine=name,
        )


def _part(plan: Plan, ids: set[str]) -> Plan:
    return replace(plan, changes=tuple(only(plan.changes, ids)), notes=())


def _loose(ctx: Context) -> None:
    """Objects (volumes, keys, …) of machines that do not exist are removed."""
    for claim in proof(ctx):
        adapter = bare(ctx.guards[claim.provider])
        if not claim.belongs and isinstance(adapter, HasObjects):
            adapter.remove(claim.object)
