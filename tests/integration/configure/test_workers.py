"""The context of a worker: a script that any Linux with a shell can run, at any point again."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.configure.make import make_configurator
from orchestrator.configure.model import Configurator
from orchestrator.errors import TemporaryError
from orchestrator.providers import local, ssh
from orchestrator.providers.base import Machine, MachineSpec, MachineState
from orchestrator.site.schema import Site
from tests.lab.hosts import hosts

_AGENT = '#!/bin/sh\n[ "$1" = --config ] || exit 2\necho "$$" >>"$ORCHESTRATE_ROOT/data/started"\nexec sleep 100000\n'
_GROUPS = {"central": {"role": "central"}, "vobox": {"role": "vobox"}, "w": {"role": "worker", "slots": 2}}


@dataclass
class Agent:
    path: Path
    sha256: str


class Trust:
    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.ca.write_text("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n")

    def host_files(self, machine_name: str, address: str, role: str) -> Any:
        raise AssertionError("a worker needs no host certificate")

    def enrolment(self, machine: str) -> str:
        return f"token-of-{machine}"


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    path = tmp_path / "www/agent/orchestrate-agent-1"
    path.parent.mkdir(parents=True)
    path.write_text(_AGENT)
    return Agent(path, hashlib.sha256(path.read_bytes()).hexdigest())


def _site(providers: dict[str, Any], **worker: str) -> Site:
    groups = _GROUPS | {"w": _GROUPS["w"] | worker}
    return Site.model_validate(
        {
            "vo": "alice",
            "site": "try",
            "providers": {"local": {"kind": "local"}} | providers,
            "groups": groups,
        }
    )


def _configurator(site: Site, tmp_path: Path, agent: Agent, vobox: str) -> Configurator:
    box = Machine("try-vobox-1", "vobox", "vobox", "local", MachineState.RUNNING, address=vobox)
    return make_configurator(
        site, tmp_path / "state", lambda: [box] if vobox else [], Trust(tmp_path), lambda: agent
    )


def _until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def test_local_worker_runs_its_agent_for_ever(tmp_path: Path, agent: Agent) -> None:
    site = _site({})
    provider = local.make("local", site.providers["local"], site, tmp_path / "state")
    script = _configurator(site, tmp_path, agent, "127.1.2.3").user_data("try-w-1", "w")
    try:
        machine = provider.create(MachineSpec("try-w-1", "w", "worker", user_data=script))
        _until(lambda: provider.list()[0].state is MachineState.RUNNING)
        root = Path(machine.root)
        config = json.loads((root / "etc/agent.json").read_text())
        assert config["clustermonitor"] == "https://127.1.2.3:8445"
        assert (config["token"], config["slots"]) == ("token-of-try-w-1", 2)
        assert config["listen"] == machine.address
        assert Path(config["ca"]).read_text() == (tmp_path / "ca.pem").read_text()
        assert (root / "etc/agent.json").stat().st_mode & 0o777 == 0o600
        started = root / "data/started"
        _until(lambda: started.exists() and len(started.read_text().split()) == 1)
        subprocess.run(["kill", "-9", started.read_text().split()[0]], check=True)
        _until(lambda: len(started.read_text().split()) == 2)
    finally:
        provider.destroy("try-w-1")


@pytest.fixture
def web(tmp_path: Path, agent: Agent) -> Iterator[Callable[[str], None]]:
    """Serves the agent file as a VO box does, on the address it is given."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(address: str) -> None:
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                return

        handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
        servers.append(http.server.ThreadingHTTPServer((address, 8080), handler))
        threading.Thread(target=servers[0].serve_forever, daemon=True).start()

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_worker_host_fetches_the_agent_and_refuses_a_wrong_one(
    tmp_path: Path, agent: Agent, web: Callable[[str], None]
) -> None:
    with hosts(1, tmp_path / "lab") as lab:
        host = lab.hosts[0]
        gateway = host.address.rsplit(".", 1)[0] + ".1"
        web(gateway)
        inventory = [{"name": host.name, "address": host.address, "key": str(lab.key)}]
        site = _site({"farm": {"kind": "ssh", "hosts": inventory}}, provider="farm")
        provider = ssh.make("farm", site.providers["farm"], site, tmp_path / "state")
        script = _configurator(site, tmp_path, agent, gateway).user_data("try-w-1", "w")
        assert f"http://{gateway}:8080/agent/orchestrate-agent-1" in script
        agent.path.write_text(_AGENT + "# not what was pinned\n")
        machine = provider.create(MachineSpec("try-w-1", "w", "worker", user_data=script))
        _until(lambda: "is not the agent file" in provider.console("try-w-1"))
        assert provider.list()[0].state is MachineState.BOOTING
        agent.path.write_text(_AGENT)
        _until(lambda: provider.list()[0].state is MachineState.RUNNING, 20)
        started = f"cat {machine.root}/data/started 2>/dev/null || true"
        _until(lambda: len(host.run(started).split()) == 1)
        host.run(f"kill -9 {host.run(started).split()[0]}")
        _until(lambda: len(host.run(started).split()) == 2)
        assert host.run(f"stat -c %a {machine.root}/etc/agent.json").strip() == "600"
        provider.destroy("try-w-1")
        assert host.run("pgrep -x sleep || true") == ""


def test_worker_without_vo_box_waits(tmp_path: Path, agent: Agent) -> None:
    with pytest.raises(TemporaryError, match="VO box"):
        _configurator(_site({}), tmp_path, agent, "").user_data("try-w-1", "w")


def test_pet_has_no_context(tmp_path: Path, agent: Agent) -> None:
    assert _configurator(_site({}), tmp_path, agent, "127.1.2.3").user_data("try-vobox-1", "vobox") == ""
