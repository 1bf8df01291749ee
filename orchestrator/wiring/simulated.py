"""Sites with simulated machines: what configures them, how they are, and which clock they live by.

Only the machines of providers of kind ``sim`` are seen to here; all others go to the real adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.configure.model import Configurator, Outcome, TargetLike
from orchestrator.deploy.model import Health, Workload
from orchestrator.deploy.plan import digest
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine, Provider
from orchestrator.providers.sim.client import SimProvider
from orchestrator.runtime.clock import SystemClock, Timeline
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import Role, Site

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


@dataclass(frozen=True)
class SimConfigurator:
    """Configures a simulated pet by writing the digest into the cloud, as Ansible writes applied.json last."""

    site: Site
    clouds: Clouds
    real: Configurator

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
        """No simulated machine runs it: no token is made for one."""
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
    real: Workload

    def healthy(self, machine: Machine) -> Health:
        """By the fate of the machine."""
        return self.healths([machine])[machine.name]

    def healths(self, machines: Sequence[Machine]) -> Mapping[str, Health]:
        """Of many machines at once: one question to each cloud."""
        found: dict[str, Health] = {}
        for name, cloud in self.clouds.items():
            mine = [machine.name for machine in machines if machine.provider == name]
            ill = cloud.ill() if mine else {}
            found |= {each: Health(False, ill[each]) if each in ill else _FINE for each in mine}
        for machine in machines:
            if machine.provider not in self.clouds:
                found[machine.name] = self.real.healthy(machine)
        return found

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        """Simulated agents run no tasks."""
        return () if machine.provider in self.clouds else self.real.jobs_on(machine)

    def drain(self, machine: Machine) -> None:
        """Simulated agents run no tasks."""
        if machine.provider not in self.clouds:
            self.real.drain(machine)

    def undrain(self, machine: Machine) -> None:
        """Simulated agents run no tasks."""
        if machine.provider not in self.clouds:
            self.real.undrain(machine)
