"""What Ansible is told follows from the site spec and the machines alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.configure import inventory as pure
from orchestrator.errors import TemporaryError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.schema import Site

_SITE: dict[str, Any] = {
    "vo": "alice",
    "site": "try",
    "providers": {"local": {"kind": "local"}},
    "groups": {
        "central": {"role": "central"},
        "vobox": {"role": "vobox"},
        "workers": {"role": "worker", "count": 2, "slots": 3},
    },
    "computing_elements": {"q": {"vobox": "vobox", "batch": {"kind": "fork", "slots": 2}, "min_idle": 1}},
    "storage_elements": {"disk": {"vobox": "vobox", "capacity": "1 GB"}},
    "software": {"repositories": {"alice.example.org": {"server": "vobox"}}},
}
SITE = Site.model_validate(_SITE)
FACTS = pure.Facts(python="/py", agent_name="agent-1", agent_path="/cache/agent-1", agent_sha256="aa")
TRUST = pure.TrustFiles("/k/ca", "/k/cert", "/k/key", "/k/keys", None, "fingerprint")


def _machine(role: str, number: int = 1, address: str = "127.1.1.1") -> Machine:
    return Machine(
        f"try-{role}-{number}", role, role, "local", MachineState.RUNNING, address, f"/m/{role}",
        connection={"ansible_connection": "local", "orchestrate_manager": "supervisor"},
    )  # fmt: skip


CENTRAL, VOBOX = _machine("central"), _machine("vobox", address="127.1.1.2")
ALL = (CENTRAL, VOBOX)


def test_vobox_is_told_where_everything_is() -> None:
    config = pure.vobox_config(SITE, VOBOX, ALL, FACTS)
    assert config["central"] == "https://127.1.1.1:8443"
    assert config["broker"] == "https://127.1.1.1:8444"
    assert config["clustermonitor"] == "https://127.1.1.2:8445"
    assert config["agent_file"] == "data/www/agent/agent-1"
    assert config["repositories"] == ["alice.example.org"]
    assert config["storage_elements"] == [{"name": "disk", "capacity": 10**9}]
    assert config["close_se"] == ["disk"]
    (ce,) = config["computing_elements"]
    assert (ce["name"], ce["batch"], ce["min_idle"], ce["max_agents"]) == (
        "q",
        {"kind": "fork", "slots": 2},
        1,
        2,
    )


def test_only_the_first_vo_box_of_a_group_serves_its_queues() -> None:
    second = replace(VOBOX, name="try-vobox-2", address="127.1.1.3")
    config = pure.vobox_config(SITE, second, (*ALL, second), FACTS)
    assert (config["computing_elements"], config["storage_elements"], config["repositories"]) == ([], [], [])
    assert config["close_se"] == ["disk"]  # of another VO box of the site


def test_the_tenth_machine_is_not_the_first() -> None:
    tenth = replace(VOBOX, name="try-vobox-10")
    assert pure.machine_of((tenth, VOBOX), "vobox") == VOBOX


def test_everything_is_json() -> None:
    for machine in ALL:
        json.dumps(pure.host_variables(SITE, machine, ALL, FACTS, TRUST))


@pytest.mark.parametrize(("budgets", "wanted"), [({}, 0), ({"replication": "500 GB"}, 500 * 10**9)])
def test_the_optimizer_copies_by_itself_only_what_the_site_spec_allows(
    budgets: dict[str, Any], wanted: int
) -> None:
    spec = Site.model_validate(_SITE | {"budgets": budgets})
    assert (
        pure.host_variables(spec, CENTRAL, ALL, FACTS, TRUST)["orchestrate_config"]["replication"] == wanted
    )


def test_central_alone_gets_no_agent_file() -> None:
    variables = pure.host_variables(SITE, CENTRAL, ALL, FACTS, TRUST)
    assert variables["agent_file_source"] == ""
    assert pure.host_variables(SITE, VOBOX, ALL, FACTS, TRUST)["agent_file_source"] == "/cache/agent-1"


def _digest(
    machine: Machine = VOBOX, facts: pure.Facts = FACTS, trust: pure.TrustFiles = TRUST, **site: Any
) -> str:
    spec = Site.model_validate(_SITE | site)
    machines = tuple(machine if known.name == machine.name else known for known in ALL)
    return pure.role_digest(pure.host_variables(spec, machine, machines, facts, trust), "roles")


def test_digest_stays_while_only_places_change() -> None:
    elsewhere = replace(TRUST, ca="/x/ca", certificate="/x/cert", key="/x/key", token_keys="/x/keys")
    assert _digest() == _digest(trust=elsewhere)
    assert _digest() == _digest(facts=replace(FACTS, agent_path="/elsewhere/agent-1"))


@pytest.mark.parametrize(
    "changed",
    [
        _digest(trust=replace(TRUST, fingerprint="renewed")),
        _digest(facts=replace(FACTS, agent_sha256="bb")),
        _digest(facts=replace(FACTS, code_digest="new")),
        _digest(facts=replace(FACTS, python="/other")),
        _digest(machine=replace(VOBOX, address="127.9.9.9")),
        _digest(computing_elements={}),
        _digest(vo="bob"),
    ],
)
def test_digest_changes_with_what_matters(changed: str) -> None:
    assert changed != _digest()


def test_another_groups_agent_does_not_touch_central() -> None:
    none = replace(FACTS, agent_name="", agent_path="", agent_sha256="")
    assert _digest(machine=CENTRAL) == _digest(machine=CENTRAL, facts=none)


def test_runtime_is_only_for_other_hosts() -> None:
    facts = replace(
        FACTS,
        runtime_paths={"vobox": "/r.tar.gz", "central": "/c.tar.gz"},
        runtime_digests={"vobox": "0123456789abcdef0123", "central": "ff"},
        remote_python="/usr/bin/python3",
    )
    far = replace(VOBOX, connection={"ansible_connection": "ssh", "orchestrate_manager": "systemd"})
    assert pure.host_variables(SITE, VOBOX, ALL, facts, TRUST)["orchestrate_python"] == "/py"
    variables = pure.host_variables(SITE, far, ALL, facts, TRUST)
    assert variables["orchestrate_python"] == "/opt/orchestrate/runtime/0123456789abcdef/bin/python3"
    assert variables["orchestrate_runtime_archive"] == "/r.tar.gz"
    seen = pure.host_variables(SITE, far, ALL, replace(facts, runtime_paths={}), TRUST)
    assert pure.role_digest(seen, "r") == pure.role_digest(variables, "r"), "as when it is delivered"
    bare = pure.host_variables(SITE, far, ALL, replace(facts, runtime_digests={}), TRUST)
    assert bare["orchestrate_python"] == "/usr/bin/python3"


def test_agent_configuration_is_one_the_agent_reads() -> None:
    from orchestrator.agent.model import AgentConfig

    told = pure.agent_config(SITE, "try-workers-1", "workers", VOBOX, "token", local=True)
    config = AgentConfig.of(told)
    assert (config.slots, config.token, config.clustermonitor) == (3, "token", "https://127.1.1.2:8445")


def test_worker_without_vo_box() -> None:
    with pytest.raises(TemporaryError, match="try-workers-1"):
        pure.agent_config(SITE, "try-workers-1", "workers", None, "token", local=True)
