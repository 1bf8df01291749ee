"""The verbs of the deploy plane, one function each. Nothing is printed here: events go to ``ctx.sink``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from orchestrator.deploy.apply import Apply
from orchestrator.deploy.context import Context
from orchestrator.deploy.decide import decide, decide_down
from orchestrator.deploy.events import Closed, Noted, Planned, Report
from orchestrator.deploy.explain import Status, Why
from orchestrator.deploy.leftovers import holds_data, remove_state
from orchestrator.deploy.model import Action, Stage, World
from orchestrator.deploy.observe import machines, observe
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.recover import settle
from orchestrator.deploy.session import Session, acquire
from orchestrator.deploy.spec import checked_scale, counts
from orchestrator.errors import NotFound, UserError
from orchestrator.providers.base import Machine

Confirm = Callable[[Plan], bool]


def _always(_: Plan) -> bool:
    return True


def plan(ctx: Context, limit: str = "") -> Plan:
    """What ``up`` would do now. Nothing is changed or written, and no lease is needed."""
    return decide(ctx.site, observe(ctx), limit)


def up(ctx: Context, limit: str = "", saved: Plan | None = None, confirm: Confirm = _always) -> Report:
    """The site is what its spec says, or the report tells what failed and where the evidence is.

    ``saved`` is applied exactly; UserError when the world moved since. ``confirm`` is asked only
    when data would be destroyed; UserError when it says no. LeaseHeld when another one is at work.
    """
    with _lease(ctx) as session:
        return _up(ctx, session, limit, saved, confirm)


def scale(ctx: Context, group: str, count: int, confirm: Confirm = _always) -> Report:
    """The group has ``count`` machines, now and for later ``up``s, until its count in the site spec is edited."""
    override = checked_scale(ctx.site, group, count)
    with _lease(ctx) as session:
        session.scale(group, override)
        return _up(ctx, session, group, None, confirm)


def down(ctx: Context, *, keep_data: bool = False, limit: str = "", confirm: Confirm = _always) -> Report:
    """No machine of the site (or of one group) exists; without ``keep_data`` no file of it either.

    ``confirm`` is asked when there is something to lose; the plan's notes say what else.
    """
    with _lease(ctx) as session:
        world = replace(observe(ctx, health=False), jobs={})
        made = decide_down(ctx.site, world, keep_data=keep_data, limit=limit)
        if not limit and not keep_data and holds_data(ctx.state_dir):
            made = replace(made, notes=(f"{ctx.state_dir} is removed, with the VO's keys in it",))
        if made.destroys_data or made.notes:
            _ask(made, confirm)
            made = replace(made, notes=())
        report = _apply(ctx, session, made, world)
        whole = not limit and report.exit_code == 0
        if whole and not keep_data:
            session.forget()
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
    world = observe(ctx)
    if name not in ctx.site.groups and not name.startswith(f"{ctx.site.site}-"):
        name = f"{ctx.site.site}-{name}"
    found = Why(
        name=name,
        record=world.records.get(name),
        machine=next((machine for machine in world.machines if machine.name == name), None),
        health=world.health.get(name),
        decisions=ctx.ledger.decisions(name),
        intents=ctx.ledger.intents(name),
        pending=tuple(c for c in decide(ctx.site, world).changes if name in (c.object, c.group)),
    )
    if not found.known and name not in ctx.site.groups:
        raise NotFound(
            f"site {ctx.site.site}: nothing is known of {name!r}; groups: {', '.join(ctx.site.groups)};"
            " for a job use `orchestrate job why`"
        )
    return found


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
    return acquire(ctx.ledger, ctx.holder, ctx.wall, ctx.dead, world=ctx.clock)


def _up(ctx: Context, session: Session, limit: str, saved: Plan | None, confirm: Confirm) -> Report:
    world = observe(ctx, grace=ctx.limits.grace)
    verdicts = settle(world)
    if verdicts:
        session.settle(verdicts)
        ctx.sink(
            Noted(
                f"an interrupted run left {len(verdicts)} changes open; each was looked up and is finished now"
            )
        )
        world = replace(world, records=ctx.ledger.records(), open=ctx.ledger.open_intents())
    session.ready(_working(world))
    made = decide(ctx.site, world, saved.limit if saved else limit)
    if saved is not None:
        _same_world(saved, made)
        made = saved
    if made.destroys_data:
        _ask(made, confirm)
    report = _apply(ctx, session, made, world)
    ctx.sink(Closed(report))
    return report


def _working(world: World) -> list[str]:
    """Machines that were seen doing their work, and of which nothing is half done."""
    busy = {intent.object for intent in world.open}
    settled = (Stage.CREATED, Stage.CONFIGURED, Stage.FAILED)
    return [
        name
        for name, health in world.health.items()
        if health.ok and name not in busy and (r := world.records.get(name)) and r.stage in settled
    ]


def _apply(ctx: Context, session: Session, made: Plan, world: World) -> Report:
    for note in made.notes:
        ctx.sink(Noted(note))
    for change in made.changes:
        if change.action is Action.NONE:
            ctx.sink(Noted(f"{change.object}: {change.reason}"))
    if not made.work:
        return Report(made.verb)
    ctx.sink(Planned(made))
    session.decided(made.changes)
    there = {machine.name: machine for machine in world.machines}
    return Apply(ctx, session, made, there).run()


def _ask(made: Plan, confirm: Confirm) -> None:
    if not confirm(made):
        raise UserError(f"site {made.site}: nothing was changed")


def _same_world(saved: Plan, made: Plan) -> None:
    if saved.verb != "up" or saved.site != made.site:
        raise UserError(f"the saved plan is `{saved.verb}` of site {saved.site}, not `up` of {made.site}")
    if saved.world != made.world:
        raise UserError(
            f"site {made.site} has changed since the plan was saved; look at `orchestrate plan` and save it again"
        )
