"""The grid as the deploy plane sees it (``deploy.model.Workload``): asked over the services' own APIs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.deploy.model import Health
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine
from orchestrator.runtime.http import Api, tls_context
from orchestrator.site.schema import Role, Site

T = TypeVar("T")
Agents = list[dict[str, Any]]
SEEN = 150.0  # seconds since an agent last asked for work in which it counts as alive
PROGRAMS = {Role.CENTRAL: ("central", "broker"), Role.VOBOX: ("clustermonitor", "packman", "se")}
FEW = 3  # machines; of more, central is asked for all agents of the site at once


@dataclass(frozen=True)
class GridWorkload:
    """Safe for several threads: every question is an event loop of its own."""

    site: Site
    state: Path
    machines: Callable[[], Sequence[Machine]] = tuple  # those just listed; asked of the providers when none

    def healthy(self, machine: Machine) -> Health:
        """Central: manager and broker answer; VO box: its services answer and its CE keeps the idle
        agents it should; worker: an agent has asked for work."""
        return self.healths([machine])[machine.name]

    def healths(self, machines: Sequence[Machine]) -> Mapping[str, Health]:
        """Of all those: each pet's services are asked, and central once for the agents of all machines."""
        return asyncio.run(self._healths(machines))

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        """Tasks with agents of that machine; none when central cannot be asked."""
        return self.jobs_of([machine]).get(machine.name, ())

    def jobs_of(self, machines: Sequence[Machine]) -> Mapping[str, Sequence[int]]:
        """Of many machines at once."""
        asked = [machine.name for machine in machines if self._asked(machine)]
        try:
            found = self._central(lambda central: agents_of(central, self.site.site, asked)) if asked else {}
        except GridError:
            return {}
        return {name: sorted({task for a in found.get(name, ()) for task in a["tasks"]}) for name in asked}

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

    async def _healths(self, machines: Sequence[Machine]) -> dict[str, Health]:
        pets = [machine for machine in machines if PROGRAMS.get(Role(machine.role))]
        answers = await asyncio.gather(*(self._services(machine) for machine in pets))
        found = {machine.name: answer for machine, answer in zip(pets, answers, strict=True)}
        central = [m.name for m in pets if m.role == Role.CENTRAL and found[m.name].ok]
        if central and (warning := await self._read_only()):
            found |= {name: replace(found[name], warning=warning) for name in central}
        asked = [m.name for m in machines if self._has_agents(m) and found.get(m.name, _FINE).ok]
        if asked:
            try:
                agents = await self._ask(lambda central: agents_of(central, self.site.site, asked))
                found |= {name: judged(agents.get(name, [])) for name in asked}
            except GridError as error:
                found |= dict.fromkeys(asked, Health(False, error.message))
        return found

    async def _read_only(self) -> str:
        """Why central takes no writes; "" when it does, or does not say."""
        from orchestrator.operations import client

        try:
            mode = await self._ask(client.look)
        except GridError:
            return ""
        return f"read-only for maintenance: {mode.reason}" if mode.on else ""

    def _has_agents(self, machine: Machine) -> bool:
        """Some of its agents should always be there: on a VO box those that its CEs keep idle."""
        if machine.role != Role.VOBOX:
            return machine.role == Role.WORKER
        return any(ce.min_idle for ce in self.site.computing_elements.values() if ce.vobox == machine.group)

    def _programs(self, machine: Machine) -> tuple[str, ...]:
        """Those that answer on that machine: a VO box without a storage element of its own has no ``se``."""
        stores = any(se.vobox == machine.group for se in self.site.storage_elements.values())
        return tuple(each for each in PROGRAMS[Role(machine.role)] if stores or each != "se")

    async def _services(self, machine: Machine) -> Health:
        from orchestrator.wiring.grid import PORTS

        try:
            tls = tls_context(self.state / "keys/ca.pem")
            for program in self._programs(machine):
                async with Api(f"https://{machine.address}:{PORTS[program]}", tls, patience=0.0) as api:
                    await api.get("/healthz", timeout=2.0)
        except GridError as error:
            return Health(False, error.message)
        told = "manager and broker answer" if machine.role == Role.CENTRAL else "its services answer"
        return Health(True, told)

    def _central(self, act: Callable[[Api], Awaitable[T]]) -> T:
        return asyncio.run(self._ask(act))

    async def _ask(self, act: Callable[[Api], Awaitable[T]]) -> T:
        from orchestrator.wiring.grid import connected, first_addresses, identity_of

        known = first_addresses(self.machines()) or None
        identity = identity_of(self.site, self.state, addresses=known)
        async with connected(identity, self.state / "keys", patience=1.0) as connection:
            return await act(connection.central)


_FINE = Health(True)


def judged(agents: Agents) -> Health:
    """How the machine of those agents is."""
    alive = [agent for agent in agents if agent["age"] < SEEN or agent["tasks"]]
    if not alive:
        return Health(False, "no agent has asked for work yet")
    told = f"{len(alive)} agent{'s' if len(alive) > 1 else ''} asked for work"
    open_ones = [agent["isolation"] for agent in alive if agent["isolation"].startswith("root: ")]
    return Health(True, told, f"its jobs run as {open_ones[0]}" if open_ones else "")


async def agents_of(central: Api, site: str, hosts: Sequence[str]) -> dict[str, Agents]:
    """Host → its agents, of those hosts; one question when they are many."""
    some = hosts if len(hosts) <= FEW else [None]
    found: dict[str, Agents] = {host: [] for host in hosts}
    for one in some:
        whole = site if one is None else None
        for agent in (await central.get("/v1/resources", host=one, site=whole))["resources"]:
            host = str(agent["name"]).partition("/")[0]
            if host in found:
                found[host].append(agent)
    return found


def make_workload(
    site: Site, state_dir: Path, machines: Callable[[], Sequence[Machine]] = tuple
) -> GridWorkload:
    """The workload of that site; ``machines`` tells from memory which there are."""
    return GridWorkload(site, state_dir, machines)
