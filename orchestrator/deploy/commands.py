"""The verbs of the deploy plane, one function each. Nothing is printed here: events go to ``ctx.sink``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.deploy import budget, removal, tidy
from orchestrator.deploy.context import Context
from orchestrator.deploy.converge import ANY, Confirm, ask, carry_out, converge, look
from orchestrator.deploy.decide import decide, decide_down
from orchestrator.deploy.events import Closed
from orchestrator.deploy.explain import Status, Why
from orchestrator.deploy.leftovers import holds_data, remove_state, remove_strays
from orchestrator.deploy.model import World
from orchestrator.deploy.observe import machines, observe
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.report import Report
from orchestrator.deploy.session import Session, acquire
from orchestrator.deploy.spec import checked_scale, counts
from orchestrator.errors import NotFound
from orchestrator.providers.base import HasConnections, Machine, bare

_SHOWN = 5  # files of evidence that ``why`` names


def _always(_: Plan) -> bool:
    return True


def plan(ctx: Context, limit: str = "") -> Plan:
    """What ``up`` would do now. Nothing is changed or written, and no lease is needed."""
    world, made = look(ctx, limit, grace=ctx.limits.grace)
    found = removal.removals(ctx.site, world, made)
    if not found:
        return made
    many = sum(each.gone for each in found)
    note = f"removes {', '.join(map(str, found))}: `up` wants --yes-remove {many} for that"
    return replace(made, notes=(*made.notes, note))


def gc(ctx: Context, confirm: Confirm = _always, yes_remove: int = 0) -> Report:
    """Nothing of ours exists at any provider that the site spec does not want."""
    with _lease(ctx) as session:
        return tidy.gc(ctx, session, confirm, yes_remove)


def adopt(ctx: Context, names: Sequence[str] = ()) -> Report:
    """Machines of ours that the ledger does not know (all when none is named) are in it from now on.

    ``<group>-<n>`` will do for a name.
    """
    prefix = f"{ctx.site.site}-"
    full = [name if name.startswith(prefix) else prefix + name for name in names]
    with _lease(ctx) as session:
        return tidy.adopt(ctx, session, full)


def up(
    ctx: Context,
    limit: str = "",
    saved: Plan | None = None,
    confirm: Confirm = _always,
    yes_remove: int = 0,
) -> Report:
    """The site is what its spec says, or the report tells what failed and where the evidence is.

    ``saved`` is applied exactly; UserError when the world moved since. ``confirm`` is asked only
    when data would be destroyed; UserError when it says no, or when more machines would go than the
    share that the site spec allows and ``yes_remove``. LeaseHeld when another one is at work.
    """
    with _lease(ctx) as session:
        return converge(ctx, session, limit, saved, confirm, yes_remove)


def scale(ctx: Context, group: str, count: int, confirm: Confirm = _always) -> Report:
    """The group has ``count`` machines, now and for later ``up``s, until its count in the site spec is edited."""
    override = checked_scale(ctx.site, group, count)
    overrides = ctx.ledger.overrides()
    sizes = {name: guard.offerings() for name, guard in ctx.guards.items()}
    world = World(ctx.clock.now(), overrides=overrides, offerings=sizes)
    budget.check_scale(ctx.site, world, overrides | {group: override}, group)
    with _lease(ctx) as session:
        session.scale(group, override)
        return converge(ctx, session, group, None, confirm, ANY)


def down(ctx: Context, *, keep_data: bool = False, limit: str = "", confirm: Confirm = _always) -> Report:
    """No machine of the site (or of one group) exists; without ``keep_data`` no file of it either.

    ``confirm`` is asked when there is something to lose; the plan's notes say what else.
    """
    with _lease(ctx) as session:
        world = observe(ctx, health=False)
        made = decide_down(ctx.site, world, keep_data=keep_data, limit=limit)
        if not limit and not keep_data and holds_data(ctx.state_dir):
            made = replace(made, notes=(f"{ctx.state_dir} is removed, with the VO's keys in it",))
        if made.destroys_data or made.notes:
            ask(made, confirm)
            made = replace(made, notes=())
        report = carry_out(ctx, session, made, world)
        whole = not limit and report.exit_code == 0
        if whole and not keep_data:
            session.forget()
    if whole:
        for provider in map(bare, ctx.providers.values()):
            if isinstance(provider, HasConnections):
                provider.leave()
    if whole and not keep_data:
        ctx.ledger.close()
        remove_state(ctx.state_dir)
    ctx.sink(Closed(report))
    return report


def status(ctx: Context) -> Status:
    """What there is, beside what should be. Takes no lease and changes nothing."""
    world = observe(ctx)
    return Status(
        site=ctx.site.site,
        wanted=counts(ctx.site, world.overrides),
        roles={name: str(group.role) for name, group in ctx.site.groups.items()},
        world=world,
        pending=decide(ctx.site, world).changes,
        lease=ctx.ledger.lease(),
    )


def why(ctx: Context, name: str) -> Why:
    """Why a machine or group exists, waits, failed or was removed: from the ledger, and the plan of now.

    ``<group>-<n>`` will do for a machine. NotFound when nothing was ever heard of it.
    """
    world, next_plan = look(ctx)
    said = name
    if name not in ctx.site.groups and not name.startswith(f"{ctx.site.site}-"):
        name = f"{ctx.site.site}-{name}"
    found = Why(
        name=name,
        record=world.records.get(name),
        machine=next((machine for machine in world.machines if machine.name == name), None),
        health=world.health.get(name),
        decisions=ctx.ledger.story(name) if name in ctx.site.groups else ctx.ledger.decisions(name),
        intents=ctx.ledger.intents(name),
        evidence=_evidence(ctx, name),
        pending=tuple(c for c in next_plan.changes if name in (c.object, c.group)),
    )
    if not found.known and name not in ctx.site.groups:
        raise NotFound(
            f"site {ctx.site.site}: nothing is known of {said!r}; groups: {', '.join(ctx.site.groups)};"
            " a machine is GROUP-NUMBER, a job its number"
        )
    return found


def _evidence(ctx: Context, name: str) -> tuple[str, ...]:
    found = (ctx.state_dir / "evidence").glob(f"*-{name}-*.txt")
    return tuple(str(file) for file in sorted(found, reverse=True)[:_SHOWN])


def fleet(ctx: Context, limit: str = "") -> tuple[Machine, ...]:
    """All machines of the site (or of one group), by name."""
    if limit:
        ctx.site.group(limit)
    return tuple(
        sorted((m for m in machines(ctx) if limit in ("", m.group)), key=lambda m: (m.group, m.name))
    )


def find(ctx: Context, name: str) -> Machine:
    """The machine of that name; ``<group>`` and ``<group>-<n>`` will do. NotFound tells which exist."""
    there = fleet(ctx)
    for wanted in (name, f"{ctx.site.site}-{name}", f"{ctx.site.site}-{name}-1"):
        for machine in there:
            if machine.name == wanted:
                return machine
    known = ", ".join(machine.name for machine in there[:20]) or "there is none, run `orchestrate up`"
    raise NotFound(f"site {ctx.site.site}: no machine {name!r}; machines: {known}", machine=name)


def _lease(ctx: Context) -> Session:
    session = acquire(ctx.ledger, ctx.holder, ctx.wall, ctx.dead, world=ctx.clock)
    remove_strays(ctx.state_dir)
    return session
