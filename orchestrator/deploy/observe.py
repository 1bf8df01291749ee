"""Look at the world once: every provider lists, every machine is asked how it is, the ledger is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Health, Target, World
from orchestrator.deploy.spec import is_pet, wanted
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.runtime.clock import each

_POLL = 0.25  # seconds between looks at a machine that does not answer
_ASKERS = 16


def machines(ctx: Context) -> tuple[Machine, ...]:
    """All machines of ours at all providers. One provider that does not answer fails it: half a
    world would make a plan that destroys or doubles the other half."""
    lists = each(ctx.clock, ctx.providers.values(), lambda provider: provider.list(), _ASKERS)
    found = tuple(machine for listed in lists for machine in listed)
    ctx.fleet.remember(found)
    return found


def observe(ctx: Context, *, grace: float = 0.0, health: bool = True) -> World:
    """The world as ``decide`` may see it. Machines that do not answer get ``grace`` seconds to do so."""
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
        and machine.applied == digests.get(machine.name, machine.applied)
    ]
    return World(
        now=ctx.clock.now(),
        machines=there,
        records=ctx.ledger.records(),
        open=ctx.ledger.open_intents(),
        overrides=overrides,
        digests=digests,
        health=healths(ctx, asked, grace) if health else {},
        jobs=_jobs(ctx, [machine for machine in there if machine.name not in want]),
        seconds=ctx.ledger.seconds(),
    )


def healths(
    ctx: Context,
    asked: Sequence[Machine],
    patience: float,
    tell: Callable[[Mapping[str, Health]], None] = lambda _: None,
) -> dict[str, Health]:
    """How each machine is: asked in parallel, and again those that are not well, until all are, or
    ``patience`` seconds have passed, or the user stops. ``tell`` hears who is not well yet."""
    until = ctx.clock.monotonic() + patience
    found: dict[str, Health] = {}
    left = list(asked)
    while left:
        answers = each(ctx.clock, left, lambda machine: ask(ctx, machine), _ASKERS)
        found |= {machine.name: answer for machine, answer in zip(left, answers, strict=True)}
        left = [machine for machine in left if not found[machine.name].ok]
        if not left or ctx.clock.monotonic() + _POLL > until:
            break
        tell({machine.name: found[machine.name] for machine in left})
        if ctx.clock.wait(ctx.stop, _POLL):
            break
    return found


def ask(ctx: Context, machine: Machine) -> Health:
    """How one machine is; a call that fails is an answer too."""
    try:
        return ctx.workload.healthy(machine)
    except GridError as error:
        return Health(False, error.message)


def _jobs(ctx: Context, leaving: Sequence[Machine]) -> dict[str, tuple[int, ...]]:
    """Running tasks of the workers that are to go; unknown counts as none: ``drain`` asks again."""

    def on(machine: Machine) -> tuple[int, ...]:
        try:
            return tuple(ctx.workload.jobs_on(machine))
        except GridError:
            return ()

    workers = [m for m in leaving if not is_pet(m.role) and m.state is MachineState.RUNNING]
    found = zip(workers, each(ctx.clock, workers, on, _ASKERS), strict=True)
    return {machine.name: tasks for machine, tasks in found if tasks}
