"""The grid as the deploy plane sees it (``deploy.model.Workload``): asked over the services' own APIs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.deploy.model import Health
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine
from orchestrator.runtime.http import Api, tls_context
from orchestrator.site.schema import Role, Site

T = TypeVar("T")
SEEN = 150.0  # seconds since an agent last asked for work in which it counts as alive
PROGRAMS = {Role.CENTRAL: ("central", "broker"), Role.VOBOX: ("clustermonitor", "packman", "se")}


@dataclass(frozen=True)
class GridWorkload:
    """Safe for several threads: every question is an event loop of its own."""

    site: Site
    state: Path

    def healthy(self, machine: Machine) -> Health:
        """Central: manager and broker answer; VO box: its services answer and its CE keeps the idle
        agents it should; worker: an agent has asked for work."""
        try:
            return asyncio.run(self._healthy(machine))
        except GridError as error:
            return Health(False, error.message)

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        """Tasks with agents of that machine; none when central cannot be asked."""
        if not self._asked(machine):
            return ()
        try:
            return sorted({task for agent in self._agents(machine) for task in agent["tasks"]})
        except GridError:
            return ()

    def drain(self, machine: Machine) -> None:
        """The machine's present agents get no new task."""
        self._tell(machine, "drain")

    def undrain(self, machine: Machine) -> None:
        """The machine's present agents get tasks again."""
        self._tell(machine, "undrain")

    def _tell(self, machine: Machine, verb: str) -> None:
        async def act(central: Api) -> None:
            await central.post(f"/v1/resources/{verb}", {"host": machine.name})

        if self._asked(machine):
            self._central(act)

    def _asked(self, machine: Machine) -> bool:
        return machine.role != Role.CENTRAL and (self.state / "keys/ca.pem").exists()

    async def _healthy(self, machine: Machine) -> Health:
        from orchestrator.wiring.grid import PORTS

        tls = tls_context(self.state / "keys/ca.pem")
        for program in PROGRAMS.get(Role(machine.role), ()):
            async with Api(f"https://{machine.address}:{PORTS[program]}", tls, patience=0.0) as api:
                await api.get("/healthz", timeout=2.0)
        idle = sum(ce.min_idle for ce in self.site.computing_elements.values() if ce.vobox == machine.group)
        if machine.role == Role.CENTRAL:
            return Health(True, "manager and broker answer")
        if machine.role == Role.VOBOX and not idle:
            return Health(True, "its services answer")
        agents = await self._ask(lambda central: _agents_of(central, machine.name))
        alive = [agent for agent in agents if agent["age"] < SEEN or agent["tasks"]]
        if not alive:
            return Health(False, "no agent has asked for work yet")
        told = f"{len(alive)} agent{'s' if len(alive) > 1 else ''} asked for work"
        open_ones = [agent["isolation"] for agent in alive if agent["isolation"].startswith("root: ")]
        return Health(True, told, f"its jobs run as {open_ones[0]}" if open_ones else "")

    def _agents(self, machine: Machine) -> list[dict[str, Any]]:
        return self._central(lambda central: _agents_of(central, machine.name))

    def _central(self, act: Callable[[Api], Awaitable[T]]) -> T:
        return asyncio.run(self._ask(act))

    async def _ask(self, act: Callable[[Api], Awaitable[T]]) -> T:
        from orchestrator.wiring.grid import connected, identity_of

        identity = identity_of(self.site, self.state)
        async with connected(identity, self.state / "keys", patience=1.0) as connection:
            return await act(connection.central)


async def _agents_of(central: Api, host: str) -> list[dict[str, Any]]:
    return list((await central.get("/v1/resources", host=host))["resources"])


def make_workload(site: Site, state_dir: Path) -> GridWorkload:
    """The workload of that site."""
    return GridWorkload(site, state_dir)
