"""From the site spec and the machines that exist to what Ansible is told. Pure.

Every variable of ours begins with ``orchestrate_``. Secrets are named by their path, never by content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import TemporaryError
from orchestrator.providers.base import Machine
from orchestrator.site.schema import Role, Site

PORTS: Mapping[str, int] = {
    "central": 8443,
    "broker": 8444,
    "clustermonitor": 8445,
    "packman": 8446,
    "se": 8447,
    "web": 8080,
    "seeder": 6881,
}

RUNTIMES = "/opt/orchestrate/runtime"  # on hosts with nothing of ours; shared by the sites of a host


@dataclass(frozen=True)
class Facts:
    """What is the same for all machines of a run, beside the site spec."""

    python: str  # interpreter of the programs on this host
    remote_python: str = ""  # on other hosts; the runtime's own when a runtime is delivered
    database: str | None = None
    admins: tuple[str, ...] = ()
    agent_name: str = ""  # file name of the agent file; "" when there is none
    agent_path: str = ""
    agent_sha256: str = ""
    # Role → archive, digest. Without a path it is not going to be delivered now; without a digest other hosts have
    # orchestrator installed themselves.
    runtime_paths: Mapping[str, str] = field(default_factory=dict)
    runtime_digests: Mapping[str, str] = field(default_factory=dict)
    code_digest: str = ""  # of the installed code: services restart when it changes


@dataclass(frozen=True)
class TrustFiles:
    """Paths of a machine's certificate and keys on this side, and the digest of the public ones."""

    ca: str
    certificate: str
    key: str
    token_keys: str
    token_signing: str | None
    fingerprint: str


def digest_of(value: Any) -> str:
    """Hex SHA-256 of JSON-serialisable data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def machine_of(machines: Sequence[Machine], group: str) -> Machine | None:
    """The machine that serves for its group: the first by number."""
    found = [machine for machine in machines if machine.group == group and machine.address]
    return min(found, key=lambda machine: (len(machine.name), machine.name), default=None)


def url_of(machine: Machine | None, program: str) -> str:
    """Where a program of the machine is reached; "" when the machine does not exist (yet)."""
    scheme = "http" if program == "web" else "https"
    return f"{scheme}://{machine.address}:{PORTS[program]}" if machine is not None else ""


def central_config(site: Site, machine: Machine, facts: Facts) -> dict[str, Any]:
    """ROOT/etc/central.json."""
    return {
        "vo": site.vo,
        "site": site.site,
        "machine": machine.name,
        "address": machine.address,
        "database": facts.database,
        "processes": {"central": 1, "broker": 1},
        "admins": list(facts.admins),
        "token_lifetime": site.security.token_lifetime,
        "archive": {"after": site.archive.after, "keep": site.archive.keep},
        "replication": int(site.budgets.replication or 0),
        "ports": {"central": PORTS["central"], "broker": PORTS["broker"]},
    }


def vobox_config(site: Site, machine: Machine, machines: Sequence[Machine], facts: Facts) -> dict[str, Any]:
    """ROOT/etc/vobox.json. The site's CEs, SEs and repositories are on the first VO box of their group."""
    central_group = next(iter(site.names(Role.CENTRAL)), "")
    central = machine_of(machines, central_group)
    first = machine_of(machines, machine.group)
    mine = machine.group if first is None or first.name == machine.name else ""
    return {
        "vo": site.vo,
        "site": site.site,
        "machine": machine.name,
        "address": machine.address,
        "central": url_of(central, "central"),
        "broker": url_of(central, "broker"),
        "clustermonitor": url_of(machine, "clustermonitor"),
        "computing_elements": [
            {
                "name": name,
                "batch": ce.batch.model_dump(mode="json"),
                "min_idle": ce.min_idle,
                "max_agents": ce.agent_limit,
                "ttl": ce.ttl,
                "partitions": list(ce.partitions),
                "close_se": list(ce.close_se),
            }
            for name, ce in site.computing_elements.items()
            if ce.vobox == mine
        ],
        "storage_elements": [
            {"name": name, "capacity": se.capacity}
            for name, se in site.storage_elements.items()
            if se.vobox == mine
        ],
        "close_se": sorted(site.storage_elements),
        "repositories": [
            fqrn for fqrn, repository in site.software.repositories.items() if repository.server == mine
        ],
        "method": str(site.software.method),
        "agent_file": f"data/www/agent/{facts.agent_name}" if facts.agent_name else None,
    }


def host_variables(
    site: Site, machine: Machine, machines: Sequence[Machine], facts: Facts, trust: TrustFiles
) -> dict[str, Any]:
    """All variables of one machine but the role digest."""
    local = machine.connection.get("ansible_connection") == "local"
    config = (
        central_config(site, machine, facts)
        if machine.role == Role.CENTRAL
        else vobox_config(site, machine, machines, facts)
    )
    vobox = machine.role == Role.VOBOX
    digest = facts.runtime_digests.get(machine.role, "")
    runtime = "" if local else digest[:16]
    python = facts.python if local else facts.remote_python
    ansible = {}
    if runtime:
        python = f"{RUNTIMES}/{runtime}/bin/python3"
        ansible = {"ansible_python_interpreter": python}  # a host needs no Python of its own
    code = facts.code_digest if local else digest
    return {
        **machine.connection,
        **ansible,
        "orchestrate_vo": site.vo,
        "orchestrate_site": site.site,
        "orchestrate_name": machine.name,
        "orchestrate_role": machine.role,
        "orchestrate_root": machine.root,
        "orchestrate_address": machine.address,
        "orchestrate_python": python,
        "orchestrate_runtime_archive": facts.runtime_paths.get(machine.role, "") if runtime else "",
        "orchestrate_runtime": f"{RUNTIMES}/{runtime}" if runtime else "",
        "orchestrate_config": config,
        "orchestrate_inputs": digest_of([config, trust.fingerprint, code, python])[:16],
        "orchestrate_ca": trust.ca,
        "orchestrate_certificate": trust.certificate,
        "orchestrate_key": trust.key,
        "orchestrate_token_keys": trust.token_keys,
        "orchestrate_token_signing": trust.token_signing or "",
        "agent_file_source": facts.agent_path if vobox else "",
        "agent_file_name": facts.agent_name if vobox else "",
        "agent_file_sha256": facts.agent_sha256 if vobox else "",
    }


# Where something lies on this side does not matter for what a machine becomes; its content does.
_PLACES = ("orchestrate_ca", "orchestrate_certificate", "orchestrate_key", "orchestrate_token_keys",
           "orchestrate_token_signing", "orchestrate_runtime_archive", "agent_file_source",
           "ansible_ssh_common_args", "ansible_python_interpreter")  # fmt: skip


def role_digest(variables: Mapping[str, Any], roles: str) -> str:
    """Of everything that configures the machine: ``roles`` is the digest of the playbooks' content."""
    told = {key: value for key, value in variables.items() if key not in _PLACES}
    return digest_of([told, roles])


def inventory(hosts: Mapping[str, Mapping[str, Any]], shared: Mapping[str, Any]) -> dict[str, Any]:
    """Ansible's inventory: variables of each host, and those that all share."""
    return {
        "all": {"hosts": {name: dict(variables) for name, variables in hosts.items()}, "vars": dict(shared)}
    }


def agent_config(
    site: Site, name: str, group: str, vobox: Machine | None, token: str, *, local: bool
) -> dict[str, Any]:
    """ROOT/etc/agent.json of a worker machine; ``@ROOT@`` stands for its root directory.

    TemporaryError when its VO box does not exist yet.
    """
    if vobox is None:
        raise TemporaryError(f"{name} has no VO box yet; start its VO box first", machine=name)
    return {
        "clustermonitor": url_of(vobox, "clustermonitor"),
        "ca": "@ROOT@/etc/tls/ca.pem",
        "workdir": "@ROOT@/data/agent",
        "session_file": "@ROOT@/data/session",
        "log": "@ROOT@/log/agent.log",
        "listen": "@ADDRESS@" if local else "0.0.0.0",  # noqa: S104
        "site": site.site,
        "ce": group,
        "host": name,
        "token": token,
        "slots": site.groups[group].slots,
    }
