"""Anything may happen to a site: when the faults stop, ``up`` makes it what its spec says, and ``down`` leaves nothing."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from memory_world import Made, MemoryWorld

from orchestrator.deploy import commands, tidy
from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Stage
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Site

MANY = 1000


class Deployment(RuleBasedStateMachine):
    """A site spec that is edited, a cloud that misbehaves, and whoever runs ``up``."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.counts = {"workers": 2, "farm": 0}
        self.offering = "small"
        self.boxes = 1

    def teardown(self) -> None:
        self.world.share = 0.0
        self.converge()
        for _ in range(3):
            if commands.down(self.context(), keep_data=True).exit_code == 0:
                break
        assert self.world.made == []
        shutil.rmtree(self.root, ignore_errors=True)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = MemoryWorld(random.Random(seed))

    def site(self) -> Site:
        groups: dict[str, Any] = {"central": {"role": "central"}}
        groups |= {f"box{n}": {"role": "vobox"} for n in range(self.boxes)}
        groups |= {
            name: {"role": "worker", "count": count, "offering": self.offering, "needs": ["box0"]}
            for name, count in self.counts.items()
        }
        return Site.model_validate({"vo": "alice", "site": "lab", "groups": groups})

    def context(self) -> Context:
        return self.world.context(self.site(), self.root)

    def pick(self, number: int) -> Made | None:
        return self.world.made[number % len(self.world.made)] if self.world.made else None

    @rule(group=st.sampled_from(["workers", "farm"]), count=st.integers(0, 12))
    def edit_count(self, group: str, count: int) -> None:
        self.counts[group] = count

    @rule(offering=st.sampled_from(["small", "big"]), boxes=st.integers(1, 2), version=st.sampled_from("12"))
    def edit(self, offering: str, boxes: int, version: str) -> None:
        self.offering, self.boxes, self.world.version = offering, boxes, version

    @rule(number=st.integers(0, 50), state=st.sampled_from([*MachineState]), broken=st.booleans())
    def hurt(self, number: int, state: MachineState, broken: bool) -> None:
        if (made := self.pick(number)) is not None and state is not MachineState.UNREACHABLE:
            made.machine, made.broken, made.boots = replace(made.machine, state=state), broken, 2

    @rule(number=st.integers(0, 50))
    def lose(self, number: int) -> None:
        if (made := self.pick(number)) is not None:
            self.world.made.remove(made)

    @rule(number=st.integers(0, 50))
    def work(self, number: int) -> None:
        if (made := self.pick(number)) is not None:
            self.world.jobs[made.machine.name] = [number]

    @rule(number=st.integers(90, 99))
    def stray(self, number: int) -> None:
        name = f"lab-old-{number}"
        if name not in {made.machine.name for made in self.world.made}:
            machine = Machine(name, "old", "worker", "local", MachineState.RUNNING)
            self.world.made.append(Made(machine))

    @rule()
    def lose_the_ledger(self) -> None:
        for file in self.root.glob("ledger.db*"):
            file.unlink()

    @rule(share=st.sampled_from([0.05, 0.3]), group=st.sampled_from(["", "workers"]))
    def try_with_faults(self, share: float, group: str) -> None:
        self.world.share = share
        try:
            commands.up(self.context(), group, yes_remove=MANY)
        except GridError:
            pass  # told to the user, who tries again
        finally:
            self.world.share = 0.0

    @rule(group=st.sampled_from(["workers", "farm"]), count=st.integers(0, 6))
    def scale(self, group: str, count: int) -> None:
        self.world.share = 0.1
        try:
            commands.scale(self.context(), group, count)
        except GridError:
            return
        finally:
            self.world.share = 0.0
            self.counts[group] = count  # and it is written down

    @precondition(lambda self: self.world.made)
    @rule()
    def try_down(self) -> None:
        self.world.share = 0.3
        try:
            commands.down(self.context(), keep_data=True)
        except GridError:
            pass
        finally:
            self.world.share = 0.0

    @rule()
    def converge(self) -> None:
        for _ in range(3):
            report = commands.up(self.context(), yes_remove=MANY)
            if report.exit_code == 0:
                break
        assert report.exit_code == 0, report.summary
        ctx = self.context()
        assert commands.plan(ctx).changes == ()
        names = sorted(made.machine.name for made in self.world.made)
        wanted = {"central": 1, **{f"box{n}": 1 for n in range(self.boxes)}, **self.counts}
        assert names == sorted(f"lab-{group}-{n + 1}" for group, many in wanted.items() for n in range(many))
        assert {record.stage for record in ctx.ledger.records().values()} == {Stage.READY}
        assert ctx.ledger.open_intents() == ()
        assert all(claim.belongs for claim in tidy.proof(ctx))
        assert self.world.drained <= set()


Deployment.TestCase.settings = settings(
    max_examples=20, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
test_deployment = Deployment.TestCase
