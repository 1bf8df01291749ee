"""The configurator: pets by Ansible, workers by their context."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.configure import ansible, content, context
from orchestrator.configure import inventory as pure
from orchestrator.configure.model import (
    AgentFile,
    Configurator,
    Machines,
    Outcome,
    Runtimes,
    TargetLike,
    Trust,
)  # fmt: skip
from orchestrator.errors import UserError
from orchestrator.providers.base import Machine
from orchestrator.runtime.files import shipped
from orchestrator.site.schema import EnvReference, FileReference, Reference, Role, Site

WAIT = 20  # seconds that a program may take until it stays up


class SiteConfigurator:
    """The port ``Configurator`` for one site. ``machines`` tells what exists; it is asked often, so it must
    answer from memory."""

    def __init__(
        self,
        site: Site,
        state_dir: Path,
        machines: Machines,
        trust: Trust,
        agent_file: Callable[[], AgentFile | None],
        runtimes: Runtimes | None,
        python: str,
        remote_python: str,
        admins: Sequence[str],
        progress: ansible.Progress | None,
        wait: int,
    ) -> None:
        self._site = site
        self._state = state_dir.resolve()
        self._machines = machines
        self._trust = trust
        self._agent_file = agent_file
        self._runtimes = runtimes
        self._python = python
        self._remote_python = remote_python
        self._admins = tuple(admins)
        self._progress = progress
        self._wait = wait

    def digest(self, target: TargetLike) -> str:
        """Of everything that configures this pet; "" for a worker and for a machine without an address."""
        if target.role == Role.WORKER or not target.machine.address:
            return ""
        facts = self._facts((target,))
        return self._digest(self._variables(target.machine, facts))

    def user_data(self, name: str, group: str) -> str:
        """The context of the worker ``name``; "" for a pet."""
        site = self._site
        if site.groups[group].role is not Role.WORKER:
            return ""
        vobox_group = site.vobox_of(group) or ""
        vobox = pure.machine_of(self._machines(), vobox_group)
        agent = self._agent_file()
        if agent is None:
            raise UserError(
                "workers need the agent file, and this installation cannot build one", group=group
            )
        local = site.providers[site.groups[group].provider].kind == "local"
        web = f"{pure.url_of(vobox, 'web')}/agent/{agent.path.name}"
        source = context.AgentSource(f"file://{agent.path.resolve()}" if local else web, agent.sha256)
        config = pure.agent_config(site, name, group, vobox, "", local=local)
        config["token"] = self._trust.enrolment(name)  # last: it is spent from now on
        return context.worker(name, site.site, config, self._trust.ca.read_text(), source)

    def configure(self, targets: Sequence[TargetLike]) -> Iterator[Outcome]:
        """One Ansible run over all targets; yields each one's outcome as soon as it is known."""
        if not targets:
            return
        facts = self._facts(targets, deliver=True)
        hosts: dict[str, dict[str, Any]] = {}
        for target in targets:
            variables = self._variables(target.machine, facts)
            hosts[target.machine.name] = variables | {"orchestrate_digest": self._digest(variables)}
        shared = {"orchestrate_templates": str(shipped("templates")), "orchestrate_wait": self._wait}
        yield from ansible.run(pure.inventory(hosts, shared), list(hosts), self._state, self._progress)

    def rendered(self, target: TargetLike) -> Mapping[str, str]:
        """The role's configuration and the public files of the VO's trust, as Ansible would place them."""
        variables = self._variables(target.machine, self._facts((target,)))
        config = json.dumps(variables["orchestrate_config"], indent=4, sort_keys=True)  # as to_nice_json does
        files = {
            "etc/tls/ca.pem": "orchestrate_ca",
            "etc/tls/host.pem": "orchestrate_certificate",
            "etc/token-keys.json": "orchestrate_token_keys",
        }
        public = {path: Path(variables[name]).read_text() for path, name in files.items()}
        return {f"etc/{target.role}.json": masked(config) + "\n", **public}

    def _variables(self, machine: Machine, facts: pure.Facts) -> dict[str, Any]:
        files = self._trust.host_files(machine.name, machine.address, machine.role)
        public = [files.ca, files.certificate, files.token_keys]
        trust = pure.TrustFiles(
            ca=str(files.ca),
            certificate=str(files.certificate),
            key=str(files.key),
            token_keys=str(files.token_keys),
            token_signing=str(files.token_signing) if files.token_signing else None,
            fingerprint=pure.digest_of([file.read_text() for file in public]),
        )
        return pure.host_variables(self._site, machine, self._machines(), facts, trust)

    def _digest(self, variables: dict[str, Any]) -> str:
        return pure.role_digest(variables, content.roles_digest(variables["orchestrate_role"]))

    def _facts(self, targets: Sequence[TargetLike], *, deliver: bool = False) -> pure.Facts:
        """The agent file and the runtimes are asked for only where they go: making them takes seconds. A
        runtime itself is made only when it is going to be delivered."""
        agent = self._agent_file() if any(target.role == Role.VOBOX for target in targets) else None
        remote = {t.role for t in targets if t.machine.connection.get("ansible_connection") != "local"}
        runtimes = {role: self._runtimes(role) for role in remote} if self._runtimes else {}
        return pure.Facts(
            python=self._python,
            remote_python=self._remote_python,
            database=resolve(self._site.database, self._state.parent.parent),
            admins=self._admins,
            agent_name=agent.path.name if agent else "",
            agent_path=str(agent.path.resolve()) if agent else "",
            agent_sha256=agent.sha256 if agent else "",
            runtime_paths={role: str(each.path()) for role, each in runtimes.items() if deliver},
            runtime_digests={role: each.digest for role, each in runtimes.items()},
            code_digest=content.code_digest(),
        )


def masked(text: str) -> str:
    """``text`` without the passwords of URLs in it."""
    return re.sub(r"(\w+://[^\s:/@\"]*):[^\s@\"]*@", r"\1:…@", text)


def resolve(reference: Reference | None, folder: Path) -> str | None:
    """The value that a reference stands for; a relative file is looked for in ``folder``. UserError."""
    if reference is None or isinstance(reference, str):
        return reference
    if isinstance(reference, EnvReference):
        value = os.environ.get(reference.env, "")
        if not value:
            raise UserError(f"environment variable {reference.env} is not set; the site spec wants it")
        return value
    assert isinstance(reference, FileReference)
    try:
        return (folder / Path(reference.file).expanduser()).read_text().strip()
    except OSError as error:
        raise UserError(f"{reference.file}: {error.strerror}; the site spec wants it") from error


def make_configurator(
    site: Site,
    state_dir: Path,
    machines: Machines,
    trust: Trust,
    agent_file: Callable[[], AgentFile | None],
    *,
    runtimes: Runtimes | None = None,
    python: str = sys.executable,
    remote_python: str = "/usr/bin/python3",
    admins: Sequence[str] = (),
    progress: ansible.Progress | None = None,
    wait: int = WAIT,
) -> Configurator:
    """The configurator of ``site``. ``python`` runs the programs here, on other hosts the one of ``runtimes``
    that is delivered to them; without these their ``remote_python`` must have orchestrator installed.
    ``progress`` is told (machine, task) as tasks begin, from the caller's thread; a program that does not
    stay up within ``wait`` seconds fails its machine."""
    return SiteConfigurator(
        site,
        state_dir,
        machines,
        trust,
        agent_file,
        runtimes,
        python,
        remote_python,
        admins,
        progress,
        wait,
    )
