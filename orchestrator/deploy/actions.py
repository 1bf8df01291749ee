"""What each change does to the world. Runs in a worker thread; the ledger is not touched here."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Health
from orchestrator.deploy.observe import healths
from orchestrator.deploy.plan import Change
from orchestrator.deploy.spec import is_pet, machine_spec, with_context
from orchestrator.errors import GridError, TemporaryError
from orchestrator.providers.base import HasConsole, Machine
from orchestrator.runtime.files import write_atomic

T = TypeVar("T")
_DRAIN_POLL = 1.0


class Interrupted(TemporaryError):
    """The user stopped the work before this change was finished."""


def create(ctx: Context, change: Change) -> Machine:
    """The machine is being made, or started again. A worker's context is rendered for this call alone."""
    spec = machine_spec(ctx.site, change.group, change.object)
    if not is_pet(spec.role):
        spec = with_context(spec, ctx.configurator.user_data(change.object, change.group))
    return patiently(ctx, lambda: ctx.provider(change.provider).create(spec))


def replace(ctx: Context, change: Change) -> Machine:
    """The old machine is gone, and the new one is being made."""
    old = ctx.provider(change.previous or change.provider)
    patiently(ctx, lambda: old.destroy(change.object))
    return create(ctx, change)


def destroy(ctx: Context, change: Change, *, keep_data: bool) -> None:
    """The machine is gone, or surely going."""
    patiently(ctx, lambda: ctx.provider(change.provider).destroy(change.object, keep_data=keep_data))


def drain(ctx: Context, change: Change, machine: Machine) -> None:
    """No task runs on the machine, or its time to finish is over (its tasks then wait again)."""
    ctx.workload.drain(machine)
    until = ctx.clock.monotonic() + ctx.limits.drain
    while ctx.workload.jobs_on(machine) and ctx.clock.monotonic() < until:
        if ctx.clock.wait(ctx.stop, _DRAIN_POLL):
            raise Interrupted(f"{change.object} still has running tasks; it takes no new ones")


def verify(
    ctx: Context,
    change: Change,
    machines: Sequence[Machine],
    missing: Sequence[str],
    tell: Callable[[str], None],
) -> list[str]:
    """Every machine of the group does its work; returns their names. TemporaryError tells which do not."""

    def waiting(ill: Mapping[str, Health]) -> None:
        name, health = next(iter(ill.items()))
        tell(f"{name}: {health.what}" + (f" (and {len(ill) - 1} more)" if len(ill) > 1 else ""))

    if missing:
        raise TemporaryError(
            f"group {change.object}: {', '.join(missing[:5])} not running", machines=list(missing)
        )
    found = healths(ctx, machines, ctx.limits.verify, waiting)
    ill = {name: health.what for name, health in found.items() if not health.ok}
    if ill and ctx.stop.is_set():
        raise Interrupted(f"group {change.object} was not ready yet")
    if ill:
        told = "; ".join(f"{name}: {what}" for name, what in list(ill.items())[:5])
        raise TemporaryError(f"{told} (waited {ctx.limits.verify:.0f} s)", machines=sorted(ill))
    return [machine.name for machine in machines]


def patiently(ctx: Context, call: Callable[[], T]) -> T:
    """``call``, again when it fails temporarily, a bounded number of times."""
    for _ in range(ctx.limits.tries - 1):
        try:
            return call()
        except TemporaryError as error:
            if ctx.clock.wait(ctx.stop, error.retry_in):
                raise
    return call()


def evidence(ctx: Context, change: Change, error: BaseException, more: str = "") -> str:
    """Write down why a change failed, with what the machine's console shows; returns the file's path."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(ctx.clock.now()))
    path = ctx.state_dir / "evidence" / f"{stamp}-{change.object}-{change.action}.txt"
    text = [f"{change.action} {change.object} (group {change.group}, provider {change.provider})", str(error)]
    if isinstance(error, GridError):
        text += [f"{key}: {value}" for key, value in error.facts.items()]
    else:
        text += ["".join(traceback.format_exception(error))]
    if more:
        text += ["", more]
    text += _consoles(ctx, change, error)
    write_atomic(path, "\n".join(text) + "\n", 0o600)
    return str(path)


def _consoles(ctx: Context, change: Change, error: BaseException) -> list[str]:
    facts = error.facts if isinstance(error, GridError) else {}
    provider: object = ctx.providers.get(change.provider)
    if not isinstance(provider, HasConsole):
        return []
    told = []
    for name in facts.get("machines", [change.object])[:5]:
        try:
            told += ["", f"--- console of {name}", provider.console(name)]
        except GridError as unseen:
            told += ["", f"--- console of {name}: {unseen.message}"]
    return told
