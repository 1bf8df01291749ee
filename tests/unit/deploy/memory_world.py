"""A world in memory with faults by dice: provider, configurator and workload for the state-machine test."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.deploy.context import Context, Limits
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Health, Outcome, Target
from orchestrator.errors import NotFound, PermanentError, TemporaryError
from orchestrator.providers.base import Machine, MachineSpec, MachineState
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import Site


@dataclass
class Made:
    """One machine that exists."""

    machine: Machine
    boots: int = 0  # lists until it runs
    hidden: int = 0  # lists until it is listed
    broken: bool = False  # it runs, and never does its work
    context: str = ""


@dataclass
class MemoryWorld:
    """All that exists. ``share`` of calls go wrong, as the dice fall."""

    dice: random.Random
    share: float = 0.0
    made: list[Made] = field(default_factory=list)
    jobs: dict[str, list[int]] = field(default_factory=dict)
    drained: set[str] = field(default_factory=set)
    version: str = "1"
    name: str = "local"
    now: float = 1e9
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def bad(self) -> bool:
        return self.dice.random() < self.share

    # --- Provider

    def list(self) -> Sequence[Machine]:
        with self.mutex:
            if self.bad():
                raise TemporaryError("throttled", retry_in=2.0)
            seen = []
            for made in self.made:
                if made.hidden:
                    made.hidden -= 1
                    continue
                if made.boots:
                    made.boots -= 1
                    if not made.boots and made.machine.state is MachineState.BOOTING:
                        made.machine = replace(made.machine, state=MachineState.RUNNING)
                seen += [made.machine] * (2 if self.bad() else 1)
            return seen

    def create(self, spec: MachineSpec) -> Machine:
        with self.mutex:
            if self.bad():
                raise TemporaryError("not now") if self.dice.random() < 0.8 else PermanentError("refused")
            found = next((made for made in self.made if made.machine.name == spec.name), None)
            if found is None:
                state = MachineState.FAILED if self.bad() else MachineState.BOOTING
                found = Made(
                    Machine(spec.name, spec.group, spec.role, self.name, state, "10.0.0.1", "/m", spec.tags),
                    boots=self.dice.randint(1, 3),
                    hidden=2 if self.bad() else 0,
                    broken=self.bad(),
                    context=spec.user_data,
                )
                self.made.append(found)
            elif found.machine.state is MachineState.STOPPED:
                found.machine = replace(found.machine, state=MachineState.BOOTING)
                found.boots = 1
            if self.bad():
                raise TemporaryError("the answer was lost")
            return found.machine

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        with self.mutex:
            if self.bad():
                raise TemporaryError("not now")
            self.made = [made for made in self.made if made.machine.name != name]
            self.drained.discard(name)
            self.jobs.pop(name, None)
            if self.bad():
                raise TemporaryError("the answer was lost")

    def console(self, name: str) -> str:
        return f"console of {name}"

    # --- Configurator

    def digest(self, target: Target) -> str:
        return f"{target.role}-{self.version}"

    def user_data(self, name: str, group: str) -> str:
        return f"token of {name}"

    def configure(self, targets: Sequence[Target]) -> Iterator[Outcome]:
        for target in targets:
            with self.mutex:
                if self.bad():
                    yield Outcome(target.machine.name, False, 0.1, "TASK [start]: it failed")
                    continue
                for made in self.made:
                    if made.machine.name == target.machine.name:
                        made.broken = False
                        made.machine = replace(made.machine, applied=self.digest(target), drift=())
                yield Outcome(target.machine.name, True, 0.1)

    # --- Workload

    def healthy(self, machine: Machine) -> Health:
        with self.mutex:
            found = next((made for made in self.made if made.machine.name == machine.name), None)
            if found is None:
                raise NotFound(f"{machine.name} is not there")
            if self.bad():
                return Health(False, "it does not answer")
            works = bool(found.context) if machine.role == "worker" else bool(found.machine.applied)
            works = works and not found.broken and machine.name not in self.drained
            return Health(works, "" if works else "no agent has asked for work")

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        with self.mutex:
            return self.jobs.pop(machine.name, [])  # they finish as soon as somebody looks

    def drain(self, machine: Machine) -> None:
        with self.mutex:
            if self.bad():
                raise TemporaryError("central is away")
            self.drained.add(machine.name)

    def undrain(self, machine: Machine) -> None:
        with self.mutex:
            if self.bad():
                raise TemporaryError("central is away")
            self.drained.discard(machine.name)

    def context(self, site: Site, root: Path) -> Context:
        """A fresh look at it all, as another process would have; later than the one before."""
        self.now += 60.0
        clock = VirtualClock(self.now)
        return Context(
            site=site, ledger=Ledger.of_file(root / "ledger.db", site.site), providers={"local": self},
            configurator=self, workload=self, clock=clock, state_dir=root, holder="me",
            dead=lambda holder: True, limits=Limits(boot=120.0, verify=30.0, grace=2.0, drain=20.0, gather=0.1),
        )  # fmt: skip
