"""Everything a command of the deploy plane works with, given by the composition root."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.deploy.events import Event, Sink
from orchestrator.deploy.fleet import Fleet
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Configurator, Workload
from orchestrator.providers.base import Provider
from orchestrator.providers.guard import Allowance, Guarded
from orchestrator.runtime.clock import Clock, SystemClock, Timeline
from orchestrator.site.schema import Site


@dataclass(frozen=True)
class Limits:
    """Patience, in seconds, and how much is done at the same time."""

    boot: float = 600.0  # from created to running
    verify: float = 180.0  # until a changed group does its work
    grace: float = 10.0  # until an unchanged machine that does not answer counts as ill
    drain: float = 600.0  # until running tasks have left a machine
    tries: int = 4  # of one call to a provider that fails temporarily
    rounds: int = 5  # of making workers again that did not come up, within one `up`
    parallel: int = 8  # calls to one provider, when the site spec does not say
    gather: float = 1.0  # a configuration run waits so long for machines that are about to be made


class Tasks:
    """Where the configurator tells (machine, task) as tasks begin; whoever listens sets ``heard``."""

    heard: Callable[[str, str], None] = staticmethod(lambda *_: None)

    def __call__(self, machine: str, task: str) -> None:
        self.heard(machine, task)


def _silent(_: Event) -> None:
    return None


@dataclass(frozen=True)
class Context:
    """One site, and the way to everything outside."""

    site: Site
    ledger: Ledger
    providers: Mapping[str, Provider]
    configurator: Configurator
    workload: Workload
    clock: Timeline
    state_dir: Path
    holder: str
    dead: Callable[[str], bool] = field(default=lambda _: False)  # whether a lease's holder surely is
    sink: Sink = _silent
    limits: Limits = Limits()
    tasks: Tasks = field(default_factory=Tasks)  # the configurator tells its progress here
    wall: Clock = field(default_factory=SystemClock)  # leases: other processes live in real time
    fleet: Fleet = field(default_factory=Fleet)  # the configurator looks at the same one
    stop: threading.Event = field(default_factory=threading.Event)  # set by Ctrl-C

    guards: Mapping[str, Guarded] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing in the deploy plane calls a provider but through its guard."""
        object.__setattr__(
            self, "guards", {name: self._guarded(each) for name, each in self.providers.items()}
        )

    def provider(self, name: str) -> Guarded:
        """That provider; a machine's provider may have been removed from the spec, then KeyError."""
        return self.guards[name]

    def _guarded(self, provider: Provider) -> Guarded:
        found = self.site.providers.get(provider.name)
        allowed = Allowance(tries=self.limits.tries)
        if found is not None:
            allowed = Allowance(
                self.limits.tries, found.rate or 0.0, found.burst, found.machines or 0, found.cores or 0
            )
        return Guarded(provider, self.clock, self.stop, allowed)

    def parallel(self, provider: str) -> int:
        """How many calls to that provider run at the same time."""
        settings = self.site.providers.get(provider)
        return int(getattr(settings, "parallel", self.limits.parallel))
