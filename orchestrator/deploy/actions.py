"""What each change does to the world. Runs in a worker thread; the ledger is not touched here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Health
from orchestrator.deploy.observe import healths, returned
from orchestrator.deploy.plan import Change
from orchestrator.deploy.spec import is_pet, machine_spec, with_context
from orchestrator.errors import GridError, TemporaryError
from orchestrator.providers.base import Machine, MachineState

_DRAIN_POLL = 1.0


class Interrupted(TemporaryError):
    """The user stopped the work before this change was finished."""


@dataclass(frozen=True)
class Checked:
    """Machines of a group that do their work, and what is wrong with the others."""

    well: tuple[str, ...]
    error: GridError | None = None
    ill: tuple[str, ...] = ()


def create(ctx: Context, change: Change) -> Machine:
    """The machine is being made, or started again. A worker's context is rendered for this call alone."""
    spec = replace(machine_spec(ctx.site, change.group, change.object), avoid=change.avoid)
    if not is_pet(spec.role):
        spec = with_context(spec, ctx.configurator.user_data(change.object, change.group))
    return ctx.provider(change.provider).create(spec)


def remake(ctx: Context, change: Change, machine: Machine | None) -> Machine:
    """The old machine is gone, and the new one is being made."""
    let_go(ctx, change, machine)
    ctx.provider(change.previous or change.provider).destroy(change.object)
    return create(ctx, change)


def destroy(ctx: Context, change: Change, machine: Machine | None, *, keep_data: bool) -> None:
    """The machine is gone, or surely going. A worker finishes tasks first that it got since the plan was made."""
    let_go(ctx, change, machine)
    ctx.provider(change.provider).destroy(change.object, keep_data=keep_data)


def let_go(ctx: Context, change: Change, machine: Machine | None) -> None:
    """The worker gets no new task, and has none. What cannot be asked is taken for idle."""
    drained = f"drain:{change.object}" in change.needs
    if machine is None or drained or is_pet(change.role) or machine.state is not MachineState.RUNNING:
        return
    with suppress(GridError):
        ctx.workload.drain(machine)
    _finish(ctx, change, machine)


def drain(ctx: Context, change: Change, machine: Machine) -> None:
    """No task runs on the machine, or its time to finish is over (its tasks then wait again)."""
    ctx.workload.drain(machine)
    _finish(ctx, change, machine)


def _finish(ctx: Context, change: Change, machine: Machine) -> None:
    until = ctx.clock.monotonic() + ctx.limits.drain
    while _busy(ctx, machine) and ctx.clock.monotonic() < until:
        if ctx.clock.wait(ctx.stop, _DRAIN_POLL):
            raise Interrupted(f"{change.object} still has running tasks; it takes no new ones")


def _busy(ctx: Context, machine: Machine) -> bool:
    try:
        return bool(ctx.workload.jobs_on(machine))
    except GridError:
        return False


def verify(
    ctx: Context,
    change: Change,
    machines: Sequence[Machine],
    missing: Sequence[str],
    tell: Callable[[str], None],
) -> Checked:
    """Which machines of the group do their work, after all had their time; ``missing`` do not exist."""

    def waiting(ill: Mapping[str, Health]) -> None:
        name, health = next(iter(ill.items()))
        tell(f"{name}: {health.what}" + (f" (and {len(ill) - 1} more)" if len(ill) > 1 else ""))

    until = ctx.clock.monotonic() + ctx.limits.verify
    found = healths(ctx, [m for m in machines if m.state is MachineState.RUNNING], ctx.limits.verify, waiting)
    cut = [machine for machine in machines if machine.state is MachineState.UNREACHABLE]
    back = returned(ctx, cut, until) if cut else []
    found |= healths(ctx, back, until - ctx.clock.monotonic(), waiting)
    down = [*(m.name for m in machines if m.name not in found), *missing]
    well = tuple(name for name, health in found.items() if health.ok)
    ill = {name: health.what for name, health in found.items() if not health.ok}
    if (ill or down) and ctx.stop.is_set():
        return Checked(well, Interrupted(f"group {change.object} was not ready yet"))
    told = [f"{name}: {what}" for name, what in list(ill.items())[:5]]
    if down:
        told.append(f"group {change.object}: {', '.join(down[:5])} not running")
    if not told:
        return Checked(well)
    waited = f" (waited {ctx.limits.verify:.0f} s)" if ill or cut else ""
    error = TemporaryError("; ".join(told) + waited, machines=[*sorted(ill), *down])
    return Checked(well, error, tuple(ill))
