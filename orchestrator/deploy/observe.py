"""Look at the world once: every provider lists, every machine is asked how it is, the ledger is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Action, HasHealths, HasJobs, Health, Target, World
from orchestrator.deploy.plan import Change
from orchestrator.deploy.spec import is_pet, wanted
from orchestrator.errors import GridError, TemporaryError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.runtime.clock import each

_FIRST, _LONGEST, _GROWTH = 0.1, 5.0, 1.2  # seconds between looks at machines that do not answer
_EACH = 0.002  # seconds more for each of many
_ASKERS = 16


def machines(ctx: Context) -> tuple[Machine, ...]:
    """All machines of ours at all providers. One provider that does not answer fails it: half a
    world would make a plan that destroys or doubles the other half."""
    lists = each(ctx.clock, ctx.guards.values(), lambda provider: provider.list(), _ASKERS)
    found = tuple(machine for listed in lists for machine in listed)
    ctx.fleet.remember(found)
    return found


def observe(ctx: Context, *, grace: float = 0.0, health: bool = True, well: Collection[str] = ()) -> World:
    """The world as ``decide`` may see it. Machines that do not answer get ``grace`` seconds to do so;
    those in ``well`` were seen working just now and are not asked."""
    there = machines(ctx)
    overrides = ctx.ledger.overrides()
    want = wanted(ctx.site, overrides)
    digests = {
        machine.name: ctx.configurator.digest(Target(machine, machine.role, machine.group))
        for machine in there
        if machine.name in want and is_pet(machine.role) and machine.role == want[machine.name].spec.role
    }
    asked = [
        machine
        for machine in there
        if machine.state is MachineState.RUNNING
        and machine.name in want
        and machine.name not in well
        and machine.applied == digests.get(machine.name, machine.applied)
    ]
    known = {m.name: Health(True) for m in there if m.name in well and m.state is MachineState.RUNNING}
    return World(
        now=ctx.clock.now(),
        machines=there,
        records=ctx.ledger.records(),
        open=ctx.ledger.open_intents(),
        overrides=overrides,
        digests=digests,
        health=healths(ctx, asked, grace) | known if health else {},
        seconds=ctx.ledger.seconds(),
        failures=ctx.ledger.failures(),
        offerings={name: guard.offerings() for name, guard in ctx.guards.items()},
    )


def leaving(ctx: Context, world: World, changes: Iterable[Change]) -> World:
    """``world`` with the running tasks of the workers that ``changes`` take away."""
    names = {c.object for c in changes if c.action in (Action.DESTROY, Action.REPLACE) and not is_pet(c.role)}
    return replace(world, jobs=_jobs(ctx, [machine for machine in world.machines if machine.name in names]))


def healths(
    ctx: Context,
    asked: Sequence[Machine],
    patience: float,
    tell: Callable[[Mapping[str, Health]], None] = lambda _: None,
) -> dict[str, Health]:
    """How each machine is: asked in parallel, and again those that are not well, until all are, or
    ``patience`` seconds have passed, or the user stops. ``tell`` hears who is not well yet. While some come up
    the others are asked again soon; else ever more rarely."""
    until = ctx.clock.monotonic() + patience
    found: dict[str, Health] = {}
    pause = _FIRST
    left = list(asked)
    while left:
        before = len(left)
        found |= answers(ctx, left)
        left = [machine for machine in left if not found[machine.name].ok]
        if len(left) < before:
            pause = max(_FIRST, _EACH * len(left))
        if not left or ctx.clock.monotonic() + pause > until:
            break
        tell({machine.name: found[machine.name] for machine in left})
        if ctx.clock.wait(ctx.stop, pause):
            break
        pause = min(pause * _GROWTH, _LONGEST)
    return found


def returned(ctx: Context, cut: Sequence[Machine], until: float) -> list[Machine]:
    """Of machines that cannot be reached, those that can be again before the clock says ``until``."""
    names, pause = {machine.name for machine in cut}, _FIRST
    while True:
        if ctx.clock.wait(ctx.stop, pause):
            return []
        listed: list[Machine] = []
        for provider in {machine.provider for machine in cut}:
            with suppress(TemporaryError):
                listed += ctx.provider(provider).list()
        back = [m for m in listed if m.name in names and m.state is MachineState.RUNNING]
        if len(back) == len(names) or ctx.clock.monotonic() + pause > until:
            return back
        pause = min(pause * _GROWTH, _LONGEST)


def answers(ctx: Context, asked: Sequence[Machine]) -> dict[str, Health]:
    """How each machine is now; one question for all where the workload can do that."""
    found: dict[str, Health] = {}
    if isinstance(ctx.workload, HasHealths):
        with suppress(GridError):
            found |= ctx.workload.healths(asked)
    left = [machine for machine in asked if machine.name not in found]
    answers = each(ctx.clock, left, lambda machine: ask(ctx, machine), _ASKERS)
    return found | {machine.name: answer for machine, answer in zip(left, answers, strict=True)}


def ask(ctx: Context, machine: Machine) -> Health:
    """How one machine is; a call that fails is an answer too."""
    try:
        return ctx.workload.healthy(machine)
    except GridError as error:
        return Health(False, error.message)


def _jobs(ctx: Context, leaving: Sequence[Machine]) -> dict[str, tuple[int, ...]]:
    """Running tasks of the workers that are to go; unknown counts as none: it is asked again before they go."""

    workers = [m for m in leaving if m.state is MachineState.RUNNING]
    if isinstance(ctx.workload, HasJobs):
        told = ctx.workload.jobs_of(workers) if workers else {}
        return {name: tuple(tasks) for name, tasks in told.items() if tasks}

    def on(machine: Machine) -> tuple[int, ...]:
        try:
            return tuple(ctx.workload.jobs_on(machine))
        except GridError:
            return ()

    found = zip(workers, each(ctx.clock, workers, on, _ASKERS), strict=True)
    return {machine.name: tasks for machine, tasks in found if tasks}
