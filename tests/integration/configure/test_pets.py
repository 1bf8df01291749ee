"""Ansible's roles on real machines of both providers: supervised, restarted, drift seen, nothing done twice.

The programs are stand-ins for the services (a shell that sleeps, a web server): what is tested is that
they run as they should, not what they do.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.auth.authority import Authority, HostFiles
from orchestrator.configure.make import make_configurator
from orchestrator.configure.model import Configurator, Outcome, Target
from orchestrator.providers import local, ssh
from orchestrator.providers.base import Machine, MachineSpec, MachineState, Provider
from orchestrator.site.schema import Site
from tests.lab.hosts import hosts

_TINY = f"""#!/bin/sh
case "$2 $3" in
  supervisor.*) exec {sys.executable} "$@" ;;
  *' web') cd "$5/data" && exec {sys.executable} -m http.server --bind "$ORCHESTRATE_ADDRESS" 8080 ;;
esac
if [ -f "$5/data/broken.$3" ]; then echo "cannot: $3 is broken"; exit 1; fi
echo "started $*"
exec sleep 100000
"""
_SITE: dict[str, Any] = {
    "vo": "alice",
    "site": "try",
    "groups": {"central": {"role": "central"}, "vobox": {"role": "vobox"}},
    "computing_elements": {"q": {"vobox": "vobox", "batch": {"kind": "fork", "slots": 2}}},
    "storage_elements": {"disk": {"vobox": "vobox"}},
}


@dataclass
class Trust:
    """The real authority, and a token of no worth."""

    authority: Authority

    @property
    def ca(self) -> Path:
        return self.authority.ca

    def host_files(self, machine_name: str, address: str, role: str) -> HostFiles:
        return self.authority.host(machine_name, address, role, "try", time.time())

    def enrolment(self, machine: str) -> str:
        return f"token-of-{machine}"


@dataclass
class Agent:
    path: Path
    sha256: str


@dataclass
class World:
    provider: Provider
    site: Site
    state: Path
    trust: Trust
    agent: Agent
    python: str
    run: Callable[[Machine, str], str]

    def configurator(self, **changed: Any) -> Configurator:
        site = Site.model_validate(self.site.model_dump() | changed)
        return make_configurator(
            site,
            self.state,
            self.provider.list,
            self.trust,
            lambda: self.agent,
            python=self.python,
            remote_python=self.python,
            wait=4,
        )

    def machine(self, role: str) -> Machine:
        return next(machine for machine in self.provider.list() if machine.role == role)

    def pids(self, machine: Machine) -> dict[str, int]:
        """Program → pid, of the machine's own processes that its supervisor started."""
        script = (
            f"for e in /proc/[0-9]*; do tr '\\0' '\\n' 2>/dev/null <$e/environ | "
            f"grep -Fqx 'ORCHESTRATE_MACHINE={machine.root}' && "
            "echo ${e#/proc/} $(tr '\\0' '\\n' <$e/environ | grep ^SUPERVISOR_PROCESS_NAME=); done 2>/dev/null; true"
        )
        found = {}
        for line in self.run(machine, script).splitlines():
            pid, _, name = line.partition(" SUPERVISOR_PROCESS_NAME=")
            if name:
                found[name] = int(pid)
        return found


def _world(kind: str, tmp_path: Path) -> Iterator[World]:
    agent = tmp_path / "agent-1"
    agent.write_text("#!/bin/sh\nexec sleep 1000\n")
    authority = Authority(tmp_path / "keys", "alice")
    authority.ensure(time.time())
    made = Agent(agent, hashlib.sha256(agent.read_bytes()).hexdigest())
    tiny = tmp_path / "tiny"
    tiny.write_text(_TINY)
    tiny.chmod(0o755)
    if kind == "local":
        site = Site.model_validate(_SITE | {"providers": {"local": {"kind": "local"}}})
        provider = local.make("local", site.providers["local"], site, tmp_path / "state")
        run = _shell
        yield World(provider, site, tmp_path / "state", Trust(authority), made, str(tiny), run)
        for machine in provider.list():
            provider.destroy(machine.name)
        return
    with hosts(2, tmp_path / "lab") as lab:
        inventory = [{"name": h.name, "address": h.address, "key": str(lab.key)} for h in lab.hosts]
        groups = {name: value | {"provider": "farm"} for name, value in _SITE["groups"].items()}
        site = Site.model_validate(
            _SITE | {"providers": {"farm": {"kind": "ssh", "hosts": inventory}}, "groups": groups}
        )
        farm = ssh.make("farm", site.providers["farm"], site, tmp_path / "state")
        inside = {host.address: host for host in lab.hosts}
        yield World(
            farm, site, tmp_path / "state", Trust(authority), made, str(tiny),
            lambda machine, script: inside[machine.address].run(script),
        )  # fmt: skip
        for machine in farm.list():
            farm.destroy(machine.name)


def _shell(machine: Machine, script: str) -> str:
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["local", "ssh"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    for made in _world(request.param, tmp_path):
        for role in ("central", "vobox"):
            made.provider.create(MachineSpec(f"try-{role}-1", role, role))
        yield made


def _apply(configurator: Configurator, world: World) -> dict[str, Outcome]:
    targets = [Target(machine, machine.role, machine.group) for machine in world.provider.list()]
    return {outcome.machine: outcome for outcome in configurator.configure(targets)}


def _until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.05)


def _serves(machine: Machine) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://{machine.address}:8080/", timeout=5).status == 200)
    except OSError:  # it has not opened its port yet
        return False


def test_life_of_pets(world: World) -> None:
    """One long story: each run of Ansible costs seconds, and each step needs the one before."""
    configurator = world.configurator()

    # The first run: both machines are set up, and say so.
    first = _apply(configurator, world)
    assert {name: (o.ok, o.evidence) for name, o in first.items()} == {
        "try-central-1": (True, ""),
        "try-vobox-1": (True, ""),
    }
    for role in ("central", "vobox"):
        machine = world.machine(role)
        assert machine.applied == configurator.digest(Target(machine, role, role))
        assert tuple(machine.drift) == ()
        assert world.run(machine, f"stat -c %a {machine.root}/etc/tls/host.key").strip() == "600"
    vobox, central = world.machine("vobox"), world.machine("central")
    config = json.loads(world.run(vobox, f"cat {vobox.root}/etc/vobox.json"))
    assert config["central"] == f"https://{central.address}:8443"
    assert world.run(vobox, f"cat {vobox.root}/{config['agent_file']}") == world.agent.path.read_text()
    assert "token-signing" not in world.run(vobox, f"ls {vobox.root}/etc")
    programs = world.pids(vobox)
    assert set(programs) == {"clustermonitor", "packman", "web", "seeder", "se", "ftd", "ce_q"}
    assert set(world.pids(central)) == {"postgres", "central", "broker", "optimizer"}
    _until(lambda: _serves(vobox))

    # A killed program comes back; the others are left alone.
    world.run(vobox, f"kill -9 {programs['seeder']}")
    _until(lambda: world.pids(vobox).get("seeder", programs["seeder"]) != programs["seeder"])
    before = world.pids(vobox)
    assert {name for name in before if before[name] != programs[name]} == {"seeder"}

    # Nothing to do: nothing changes, nothing restarts.
    again = _apply(configurator, world)
    assert [(o.ok, o.changed) for o in again.values()] == [(True, ()), (True, ())]
    assert world.pids(vobox) == before

    # An edit by hand is seen, and mended; only that machine's programs restart.
    world.run(vobox, f"echo >>{vobox.root}/etc/vobox.json")
    assert tuple(world.machine("vobox").drift) == ("etc/vobox.json",)
    assert world.machine("vobox").applied == ""
    on_central = world.pids(central)
    mended = _apply(configurator, world)
    assert "etc/vobox.json" in mended["try-vobox-1"].changed
    assert mended["try-central-1"].changed == ()
    assert tuple(world.machine("vobox").drift) == ()
    assert all(pid != before[name] for name, pid in world.pids(vobox).items())
    assert world.pids(central) == on_central

    # So is an agent file that differs, and one that nobody wants; no program reads it at its start: none restarts.
    mended_pids, folder = world.pids(vobox), f"{vobox.root}/data/www/agent"
    world.run(vobox, f"echo >>{folder}/agent-1; chmod 600 {folder}/agent-1; touch {folder}/agent-0")
    assert set(_apply(configurator, world)["try-vobox-1"].changed) == {
        f"data/www/agent/agent-{number}" for number in (0, 1)
    }
    assert world.run(vobox, f"cat {folder}/agent-1") == world.agent.path.read_text()
    assert world.run(vobox, f"stat -c %a {folder}/* && ls -A {folder}").split() == ["755", "agent-1"]
    assert world.pids(vobox) == mended_pids

    # The site spec loses a CE: its program and its file go.
    fewer = world.configurator(computing_elements={})
    assert fewer.digest(Target(vobox, "vobox", "vobox")) != configurator.digest(
        Target(vobox, "vobox", "vobox")
    )
    assert all(outcome.ok for outcome in _apply(fewer, world).values())
    assert set(world.pids(vobox)) == {"clustermonitor", "packman", "web", "seeder", "se", "ftd"}
    assert "ce_q" not in world.run(vobox, f"ls {vobox.root}/etc/supervisor.d")

    # The supervisor is killed: its programs live on, the machine is stopped; create starts it again.
    world.run(vobox, f"kill -9 $(cat {vobox.root}/run/supervisord.pid)")
    _until(lambda: world.machine("vobox").state is MachineState.STOPPED)
    assert world.pids(vobox)
    world.provider.create(MachineSpec("try-vobox-1", "vobox", "vobox"))
    assert world.machine("vobox").state is MachineState.RUNNING
    _until(lambda: set(world.pids(vobox)) == {"clustermonitor", "packman", "web", "seeder", "se", "ftd"})
    _until(lambda: _serves(vobox))


def test_program_that_does_not_stay_up_is_told_with_its_log(world: World) -> None:
    vobox = world.machine("vobox")
    world.run(vobox, f"touch {vobox.root}/data/broken.packman")
    outcomes = _apply(world.configurator(), world)
    failed = outcomes["try-vobox-1"]
    assert not failed.ok
    assert "packman" in failed.evidence
    assert "cannot: packman is broken" in failed.evidence
    assert outcomes["try-central-1"].ok
    assert world.machine("vobox").applied == ""


def test_machine_that_cannot_be_reached_does_not_stop_the_others(tmp_path: Path) -> None:
    for world in _world("local", tmp_path):
        world.provider.create(MachineSpec("try-central-1", "central", "central"))
        here = world.machine("central")
        connection = {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": "1",
            "ansible_user": "root",
            "orchestrate_manager": "supervisor",
        }
        gone = replace(here, name="try-vobox-1", role="vobox", group="vobox", connection=connection)
        targets = [Target(machine, machine.role, machine.group) for machine in (gone, here)]
        outcomes = {o.machine: o for o in world.configurator().configure(targets)}
        assert outcomes["try-central-1"].ok
        assert not outcomes["try-vobox-1"].ok
        assert "cannot be reached" in outcomes["try-vobox-1"].evidence
        assert not [entry for entry in world.state.iterdir() if entry.name.startswith(".ansible-")]
