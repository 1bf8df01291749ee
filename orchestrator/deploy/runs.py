"""Configuration in few runs: changes that become ready together go into one Ansible run (3 s a start)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Outcome, Target
from orchestrator.deploy.plan import Change
from orchestrator.errors import PermanentError
from orchestrator.providers.base import Machine

MOST = 3  # runs at the same time: a slow host must not hold up the next group


class Failed(PermanentError):
    """A machine could not be configured; the evidence holds the task that failed."""


class Gather:
    """Ready configurations, until a run takes them all. Owned by the apply loop; not thread-safe."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._ready: list[Change] = []
        self._since = 0.0
        self._now = 0.0
        self.active = 0

    def add(self, change: Change, now: float) -> None:
        """That machine may be configured."""
        if not self._ready:
            self._since = now
        self._ready.append(change)

    def take(self, now: float, more_soon: Callable[[], bool]) -> list[Change]:
        """All that are ready, when a run should start now; none while more are about to join."""
        self._now = now
        if not self._ready or self.active >= MOST:
            return []
        if now - self._since < self._patience and more_soon():
            return []
        taken, self._ready = self._ready, []
        return taken

    @property
    def waiting(self) -> bool:
        """Some configuration waits for others to join its run."""
        return bool(self._ready)

    @property
    def pause(self) -> float:
        """Seconds until a waiting run must start anyway; large when none waits."""
        return max(0.01, self._patience - (self._now - self._since)) if self._ready else 60.0


def target(change: Change, machine: Machine) -> Target:
    """What the configurator is asked to configure."""
    return Target(machine, change.role, change.group)


def run(ctx: Context, targets: Sequence[Target], heard: Callable[[Outcome], None]) -> None:
    """One run; ``heard`` gets each machine's outcome as it finishes."""
    for outcome in ctx.configurator.configure(targets):
        heard(outcome)
