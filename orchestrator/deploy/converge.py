"""``up``: look, settle what a crash left, decide, apply, and look again at what did not come up."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from orchestrator.deploy import removal
from orchestrator.deploy.apply import Apply
from orchestrator.deploy.context import Context
from orchestrator.deploy.decide import decide
from orchestrator.deploy.events import Closed, Noted, Planned
from orchestrator.deploy.model import Action, Stage, World
from orchestrator.deploy.observe import leaving, observe
from orchestrator.deploy.plan import Plan
from orchestrator.deploy.recover import settle
from orchestrator.deploy.report import Ended, Report, Result
from orchestrator.deploy.rounds import again
from orchestrator.deploy.session import Session
from orchestrator.errors import UserError

Confirm = Callable[[Plan], bool]
ANY = 1_000_000_000  # more machines than there are


def look(
    ctx: Context, limit: str = "", *, grace: float = 0.0, well: Collection[str] = ()
) -> tuple[World, Plan]:
    """The world, and what must be done about it; running tasks are asked of machines that would go."""
    world = observe(ctx, grace=grace, well=well)
    return decided(ctx, world, limit)


def decided(ctx: Context, world: World, limit: str) -> tuple[World, Plan]:
    """``world`` with the running tasks of machines that go, and the plan."""
    made = decide(ctx.site, world, limit)
    world = leaving(ctx, world, made.changes)
    return world, decide(ctx.site, world, limit) if world.jobs else made


def converge(
    ctx: Context, session: Session, limit: str, saved: Plan | None, confirm: Confirm, yes_remove: int
) -> Report:
    """The site is what its spec says, or the report tells what is not, and why."""
    world = observe(ctx, grace=ctx.limits.grace)
    verdicts = settle(world)
    if verdicts:
        session.settle(verdicts)
        left = f"an interrupted run left {len(verdicts)} changes open; each was looked up and is finished now"
        ctx.sink(Noted(left))
        world = replace(world, records=ctx.ledger.records(), open=ctx.ledger.open_intents())
    session.seen(_working(world))
    world, made = decided(ctx, replace(world, records=ctx.ledger.records()), saved.limit if saved else limit)
    if saved is not None:
        _same_world(saved, made)
        made = saved
    removal.check(ctx.site, world, made, yes_remove)
    if made.destroys_data:
        ask(made, confirm)
    report = carry_out(ctx, session, made, world)
    if saved is None:
        report = _rounds(ctx, session, report, made, limit)
    ctx.sink(Closed(report))
    return report


def carry_out(ctx: Context, session: Session, made: Plan, world: World, well: Collection[str] = ()) -> Report:
    """The plan is applied as it is; its decisions are in the log."""
    for note in made.notes:
        ctx.sink(Noted(note))
    for change in made.changes:
        if change.action is Action.NONE and not change.withheld:
            ctx.sink(Noted(f"{change.object}: {change.reason}"))
    held = tuple(Result(change, Ended.SKIPPED, error=change.reason) for change in made.withheld)
    if not made.work:
        if held:
            session.decided(made.withheld)
        return Report(made.verb, held)
    ctx.sink(Planned(made))
    session.decided(made.changes)
    there = {machine.name: machine for machine in world.machines}
    touched = {change.object for change in made.work}
    fine = {name for name, health in world.health.items() if health.ok and name not in touched}
    report = Apply(ctx, session, made, there, fine | set(well)).run()
    return replace(report, results=(*report.results, *held))


def ask(made: Plan, confirm: Confirm) -> None:
    """UserError unless the user agrees."""
    if not confirm(made):
        raise UserError(f"site {made.site}: nothing was changed")


def _rounds(ctx: Context, session: Session, report: Report, made: Plan, limit: str) -> Report:
    """Workers that did not come up are made again, a bounded number of times. What is removed on the
    way are machines of this run that do not work: whoever confirmed the plan confirmed these."""
    lost = {change.object for change in made.destroys_data}
    for _ in range(ctx.limits.rounds - 1):
        if report.exit_code in (0, 130):
            break
        world, plan = look(ctx, limit, well=report.well)
        session.seen(_working(world))  # what failed for its lost answer alone
        troubled = {change.object for change in plan.changes}
        report = report.still(troubled)
        more = again(plan, report)
        if more is None or {change.object for change in more.destroys_data} - lost:
            break
        many = sum(change.action is not Action.VERIFY for change in more.work)
        ctx.sink(
            Noted(f"not all came up: {many} to be made again" if many else "not all came up: looked at again")
        )
        report = report.then(carry_out(ctx, session, more, world, report.well - troubled))
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


def _same_world(saved: Plan, made: Plan) -> None:
    if saved.verb != "up" or saved.site != made.site:
        raise UserError(f"the saved plan is `{saved.verb}` of site {saved.site}, not `up` of {made.site}")
    if saved.world != made.world:
        raise UserError(
            f"site {made.site} has changed since the plan was saved; look at `orchestrate plan` and save it again"
        )
