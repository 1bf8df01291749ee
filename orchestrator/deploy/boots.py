"""Machines that boot: each provider is listed once for all of them, at growing intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from orchestrator.deploy.context import Context
from orchestrator.deploy.plan import Change
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers.base import Machine, MachineState

_FIRST, _LONGEST, _GROWTH = 0.1, 5.0, 1.5  # seconds between lists
_SLOWEST = 30.0  # seconds between very long lists
_EACH = 0.002  # seconds more between lists for each machine in one: a long list costs both sides


@dataclass
class _Watch:
    """The booting machines of one provider."""

    changes: dict[str, tuple[Change, float]] = field(default_factory=dict)  # machine → change, deadline
    next: float = 0.0
    pause: float = _FIRST
    least: float = _FIRST
    asking: bool = False


class Boots:
    """Owned by the apply loop; not thread-safe."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._watches: dict[str, _Watch] = {}

    def add(self, change: Change, machine: Machine) -> None:
        """Wait for that machine to run."""
        watch = self._watches.setdefault(machine.provider, _Watch())
        now = self._ctx.clock.monotonic()
        watch.changes[machine.name] = (change, now + self._ctx.limits.boot)
        watch.pause = watch.least
        watch.next = min(watch.next, now + watch.least) if watch.next > now else now + watch.least

    def poll(self, submit: Callable[[str, Callable[[], object]], None]) -> None:
        """Have every provider asked for its booting machines whose time has come."""
        now = self._ctx.clock.monotonic()
        for name, watch in self._watches.items():
            if watch.changes and not watch.asking and watch.next <= now:
                watch.asking = True
                submit(name, partial(self._ctx.provider(name).some, tuple(watch.changes)))

    def listed(self, provider: str, answer: object) -> Iterator[tuple[Change, Machine | GridError]]:
        """Changes that are decided by a list: the running machine, or why it will never run.

        ``answer`` is None when the provider did not answer this time.
        """
        watch, now = self._watches[provider], self._ctx.clock.monotonic()
        watch.asking = False
        seen = {machine.name: machine for machine in cast(Sequence[Machine], answer or ())}
        watch.least = min(max(_FIRST, _EACH * len(seen)), _SLOWEST)
        watch.pause = max(min(watch.pause * _GROWTH, _LONGEST), watch.least)
        watch.next = now + watch.pause
        for name, (change, deadline) in list(watch.changes.items()):
            verdict = _verdict(name, seen.get(name), now > deadline, self._ctx.limits.boot)
            if verdict is not None:
                del watch.changes[name]
                yield change, verdict

    def drop(self, provider: str | None = None) -> list[Change]:
        """Wait no longer (for any machine, or those of one provider); returns the changes that waited."""
        dropped = []
        for name, watch in self._watches.items():
            if provider in (None, name):
                dropped += [change for change, _ in watch.changes.values()]
                watch.changes = {}
        return dropped

    @property
    def pause(self) -> float:
        """Seconds until the next list is due; large when none is."""
        now = self._ctx.clock.monotonic()
        due = [watch.next - now for watch in self._watches.values() if watch.changes and not watch.asking]
        return max(0.0, min(due, default=_LONGEST))


def _verdict(name: str, machine: Machine | None, late: bool, patience: float) -> Machine | GridError | None:
    if machine is not None and machine.state is MachineState.RUNNING:
        return machine
    if machine is not None and machine.state is MachineState.FAILED:
        return PermanentError(f"{name} failed to boot", machine=name)
    if late:
        state = machine.state if machine else "not listed"
        return TemporaryError(f"{name} is {state} after {patience:.0f} s; it should be running", machine=name)
    return None
