"""Sites with simulated machines: what configures them, how they are, and which clock they live by.

Only the machines of providers of kind ``sim`` are seen to here; all others go to the real adapters. Simulated
workers of a site whose central services and VO box are real have agents (``simagents``) that ask the real
broker for work; the grid itself then says how they are, as of any other worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orchestrator
from orchestrator.configure.inventory import agent_config, machine_of
from orchestrator.configure.model import Configurator, Machines, Outcome, TargetLike
from orchestrator.deploy.model import Health
from orchestrator.deploy.plan import digest
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine, Provider
from orchestrator.providers.sim.client import SimProvider
from orchestrator.runtime.clock import SystemClock, Timeline
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import Role, Site
from orchestrator.wiring import simagents
from orchestrator.wiring.configure import trust_of
from orchestrator.wiring.workload import GridWorkload

Clouds = Mapping[str, SimProvider]
_FINE = Health(True, "it does its work (simulated)")


def clouds_of(providers: Mapping[str, Provider]) -> Clouds:
    """The simulated ones among the providers."""
    return {name: provider for name, provider in providers.items() if isinstance(provider, SimProvider)}


def clock_of(site: Site, clouds: Clouds) -> Timeline:
    """A clock that jumps when every machine of the site is simulated, else the real one; all clouds go by it.

    It begins at the latest of the real time and the clouds' own: while nobody looked, they went on.
    """
    homes = {place for group in site.groups.values() for place in (group.provider, *group.fallback)}
    if not clouds or not homes <= set(clouds):
        return SystemClock()
    clock = VirtualClock(SystemClock().now())
    for cloud in clouds.values():
        cloud.clock = clock
        cloud.present()
    return clock


def served(site: Site, clouds: Clouds) -> frozenset[str]:
    """Groups of simulated workers whose central services and VO box are real."""
    real = {name for name, group in site.groups.items() if group.provider not in clouds}
    return frozenset(
        name
        for name, group in site.groups.items()
        if name not in real and group.role is Role.WORKER
        and {*site.names(Role.CENTRAL), site.vobox_of(name)} <= real
    )  # fmt: skip


@dataclass(frozen=True)
class SimAgents:
    """The processes in which simulated agents run, one beside each cloud."""

    site: Site
    clouds: Clouds
    state: Path
    machines: Machines

    def context(self, name: str, group: str) -> str:
        """The configuration of that worker's agents, with a single-use token; a process waits for the machine."""
        directory = self.clouds[self.site.groups[group].provider].directory
        vobox = machine_of(self.machines(), self.site.vobox_of(group) or "")
        config = agent_config(self.site, name, group, vobox, "", local=False)
        trust = trust_of(self.site, self.state)
        own = {
            "ca": trust.ca.read_text(), "workdir": "", "log": "",
            "session_file": str(directory / simagents.CONTEXTS / f"{name}.session"),
        }  # fmt: skip
        return json.dumps({**config, **own, "token": trust.enrolment(name)})

    def ensure(self, groups: Collection[str]) -> None:
        """The agents of those groups are served, where the cloud was used."""
        for provider in {self.site.groups[group].provider for group in groups}:
            directory = self.clouds[provider].directory
            if (directory / simagents.CONTEXTS).exists() and _unserved(directory):
                _start(directory)


def _unserved(directory: Path) -> bool:
    with simagents.alone(directory) as free:
        return free


def _start(directory: Path) -> None:
    path = os.pathsep.join([str(Path(orchestrator.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    with (directory / simagents.LOG).open("a") as log:
        subprocess.Popen(
            [sys.executable, "-m", "orchestrator.wiring.simagents", str(directory)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip


@dataclass(frozen=True)
class SimConfigurator:
    """Configures a simulated pet by writing the digest into the cloud, as Ansible writes applied.json last."""

    site: Site
    clouds: Clouds
    real: Configurator
    agents: SimAgents

    def digest(self, target: TargetLike) -> str:
        """Of what the site spec says of the machine's group and of the services on it."""
        if target.machine.provider not in self.clouds:
            return self.real.digest(target)
        if target.role == Role.WORKER:
            return ""
        site, group = self.site, target.group
        elements = {n: ce for n, ce in site.computing_elements.items() if ce.vobox == group}
        storage = {n: se for n, se in site.storage_elements.items() if se.vobox == group}
        plain = site.model_dump(mode="json", include={"vo", "site", "software", "security", "database"})
        return digest([target.role, group, target.machine.address, plain, elements, storage])

    def user_data(self, name: str, group: str) -> str:
        """For a machine that nothing runs on no token is made."""
        if group in served(self.site, self.clouds):
            return self.agents.context(name, group)
        if self.site.groups[group].provider in self.clouds:
            return f"# context of the simulated machine {name}, group {group}\n"
        return self.real.user_data(name, group)

    def configure(self, targets: Sequence[TargetLike]) -> Iterator[Outcome]:
        """Yields each machine's outcome as soon as it is known; real machines together, in one run."""
        yield from self.real.configure([t for t in targets if t.machine.provider not in self.clouds])
        for target in targets:
            cloud = self.clouds.get(target.machine.provider)
            if cloud is None:
                continue
            begun = cloud.clock.monotonic()
            try:
                cloud.configure(target.machine.name, self.digest(target))
                ok, said = True, ""
            except GridError as error:
                ok, said = False, error.message
            yield Outcome(target.machine.name, ok, cloud.clock.monotonic() - begun, said)


@dataclass(frozen=True)
class SimWorkload:
    """The grid on simulated machines: the cloud itself knows which of them would ask for work."""

    clouds: Clouds
    real: GridWorkload
    agents: SimAgents
    served: frozenset[str]  # groups whose agents are known to the real grid

    def healthy(self, machine: Machine) -> Health:
        """By the fate of the machine."""
        return self.healths([machine])[machine.name]

    def healths(self, machines: Sequence[Machine]) -> Mapping[str, Health]:
        """Of many machines at once: one question to each cloud."""
        found: dict[str, Health] = {}
        self.agents.ensure({machine.group for machine in machines} & self.served)
        for name, cloud in self.clouds.items():
            mine = [m.name for m in machines if m.provider == name and self._simulated(m)]
            ill = cloud.ill() if mine else {}
            found |= {each: Health(False, ill[each]) if each in ill else _FINE for each in mine}
        real = [machine for machine in machines if not self._simulated(machine)]
        return found | dict(self.real.healths(real)) if real else found

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        """Tasks that the real grid has given to it."""
        return () if self._simulated(machine) else self.real.jobs_on(machine)

    def jobs_of(self, machines: Sequence[Machine]) -> Mapping[str, Sequence[int]]:
        """Of many machines at once."""
        return self.real.jobs_of([machine for machine in machines if not self._simulated(machine)])

    def drain(self, machine: Machine) -> None:
        """Its agents, if the real grid knows any, get no new task."""
        if not self._simulated(machine):
            self.real.drain(machine)

    def undrain(self, machine: Machine) -> None:
        """Its agents, if the real grid knows any, get tasks again."""
        if not self._simulated(machine):
            self.real.undrain(machine)

    def _simulated(self, machine: Machine) -> bool:
        """The cloud alone knows how it is."""
        return machine.provider in self.clouds and machine.group not in self.served
