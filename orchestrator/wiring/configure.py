"""The configurator of one site: its trust, the agent file, and who administers it."""

from __future__ import annotations

import functools
import getpass
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.auth.authority import Authority, HostFiles
from orchestrator.auth.model import enrolment_claims
from orchestrator.configure import make as configure
from orchestrator.configure.model import AgentFile, Configurator, Machines
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.signing import TokenSigner
from orchestrator.site.schema import Site

_ENROLMENT = 3600.0  # seconds that a new worker has to boot and start its agents


@dataclass(frozen=True)
class SiteTrust:
    """The VO's CA and token keys in ``<state>/keys``, made when they are first needed."""

    authority: Authority
    site: str
    clock: Clock

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        self.authority.ensure(self.clock.now())
        return self.authority.ca

    def host_files(self, machine_name: str, address: str, role: str) -> HostFiles:
        """Certificate and keys of that host."""
        now = self.clock.now()
        self.authority.ensure(now)
        return self.authority.host(machine_name, address, role, self.site, now)

    def enrolment(self, machine: str) -> str:
        """A single-use token with which the agent of a new worker enrols."""
        self.authority.ensure(self.clock.now())
        signer = TokenSigner(self.authority.vo, read_json(self.authority.directory / "token-signing.json"))
        group = machine.removeprefix(f"{self.site}-").rpartition("-")[0]
        claims = enrolment_claims(secrets.token_urlsafe(16), self.site, group)
        return signer.sign(claims, self.clock.now(), _ENROLMENT)


def trust_of(site: Site, state_dir: Path) -> SiteTrust:
    """The trust of that site's VO."""
    lifetime = float(site.security.certificate_lifetime)
    return SiteTrust(Authority(state_dir / "keys", site.vo, lifetime), site.site, SystemClock())


def admins_of(state_dir: Path, remember: bool) -> tuple[str, ...]:
    """The VO's first administrators: whoever ran the first ``up``. Kept, or another person's ``up``
    would configure central anew."""
    file = state_dir / "admins.json"
    if file.exists():
        return tuple(read_json(file))
    found = (getpass.getuser(),)
    if remember:
        write_json(file, found, 0o600)
    return found


def make_configurator(
    site: Site,
    state_dir: Path,
    machines: Machines,
    progress: Callable[[str, str], None] | None = None,
    *,
    reading: bool = False,
) -> Configurator:
    """Pets by Ansible, workers by their context. Nothing is made before it is needed."""

    cache = Path(os.environ.get("ORCHESTRATE_CACHE") or state_dir / "cache")

    making, made = threading.Lock(), list[AgentFile]()

    def agent_file() -> AgentFile:
        """Built or looked up once for all machines of this command."""
        from orchestrator.agent.bundle import agent_file as built

        with making:
            if not made:
                made.append(built(cache))
            return made[0]

    runtimes = None
    if any(settings.kind != "local" for settings in site.providers.values()):
        from orchestrator.wiring.runtime_archive import RuntimeArchive

        runtimes = functools.cache(functools.partial(RuntimeArchive, cache))
    return configure.make_configurator(
        site, state_dir, machines, trust_of(site, state_dir), agent_file,
        runtimes=runtimes, admins=admins_of(state_dir, not reading), progress=progress,
    )  # fmt: skip
