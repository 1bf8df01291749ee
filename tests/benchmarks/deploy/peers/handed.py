"""What a peer is handed: for each host the same things that `orchestrate up` would bring to it.

Certificates, tokens and configurations are made by the product before the clock of the peer starts, and
files are rendered from the product's own templates: a peer only has to bring them in place.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.agent.bundle import agent_file
from orchestrator.configure import inventory
from orchestrator.providers._record import Record
from orchestrator.providers.base import Machine, MachineState
from orchestrator.site.load import load
from orchestrator.wiring.configure import admins_of, trust_of
from orchestrator.wiring.runtime_archive import RuntimeArchive
from orchestrator.wiring.sites import state_directory
from peers.farm import ROOT, SITE, Farm
from tests.lab.hosts import Host

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parents[3] / "templates"
PROGRAMS = ("clustermonitor", "packman", "web", "seeder")
FOLDERS = {
    "": "0755",
    "bin": "0755",
    "etc": "0755",
    "etc/tls": "0755",
    "data": "0755",
    "log": "0700",
    "run": "0700",
}
BOX_FOLDERS = {"etc/supervisor.d": "0755", "data/www": "0755", "data/www/agent": "0755"}
Values = dict[str, Any]


def handed(farm: Farm, folder: Path, voboxes: int, workers: int) -> dict[str, dict[str, Values]]:
    """Group → host → variables. Files that a peer copies are in ``folder``."""
    site = load(farm.grid.file)
    state = state_directory(farm.grid.file, site)
    trust, agent = trust_of(site, state), agent_file(farm.grid.cache)
    runtime = RuntimeArchive(farm.grid.cache, "vobox")
    archive = runtime.path()
    facts = inventory.Facts(
        python="", admins=admins_of(state, False), agent_name=agent.path.name, agent_path=str(agent.path),
        agent_sha256=agent.sha256, runtime_paths={"vobox": str(archive)}, runtime_digests={"vobox": runtime.digest},
    )  # fmt: skip
    central = _machine("central", "central", farm.hosts[0])
    made = [_machine(f"vobox{n}", "vobox", farm.hosts[n]) for n in range(1, voboxes + 1)]
    shared = {"root": ROOT, "site": SITE, "here": str(HERE), "ca": str(trust.ca), "agent": str(agent.path)}
    shared["box"] = made[0].address
    boxes = {}
    for machine in made:
        own = trust.host_files(machine.name, machine.address, "vobox")
        paths = inventory.TrustFiles(
            str(own.ca), str(own.certificate), str(own.key), str(own.token_keys), None, ""
        )
        told = inventory.host_variables(site, machine, [central, *made], facts, paths)
        boxes[machine.name] = {
            **shared,
            "address": machine.address,
            "archive": str(archive),
            "runtime": told["orchestrate_runtime"],
            "folders": [{"path": path, "mode": mode} for path, mode in (FOLDERS | BOX_FOLDERS).items()],
            "ports": [8445, 8446, 8080] + [8447] * bool(told["orchestrate_config"]["storage_elements"]),
            "files": _files(machine, told, folder / machine.name),
        }
    box = made[0]
    crew = {}
    for number, host in enumerate(farm.hosts[voboxes + 1 : voboxes + 1 + workers], 1):
        name = f"{SITE}-workers-{number}"
        crew[name] = {
            **shared,
            "address": host.address,
            "machine": name,
            "machine_group": "workers",
            "slots": site.groups["workers"].slots,
            "folders": [{"path": p, "mode": mode} for p, mode in (FOLDERS | {"data/agent": "0755"}).items()],
            "token": trust.enrolment(name),
            "clustermonitor": inventory.url_of(box, "clustermonitor"),
            "agent_url": f"{inventory.url_of(box, 'web')}/agent/{agent.path.name}",
            "agent_sha256": agent.sha256,
        }
    return {"voboxes": boxes, "workers": crew}


def _machine(group: str, role: str, host: Host) -> Machine:
    connection = {"ansible_connection": "ssh", "ansible_user": "root", "orchestrate_manager": "supervisor"}
    running = MachineState.RUNNING
    name = f"{SITE}-{group}-1"
    return Machine(name, group, role, "farm", running, host.address, ROOT, connection=connection)


def _files(machine: Machine, told: Values, folder: Path) -> list[Values]:
    """The files of a VO box: {source, path below its root, mode}."""
    folder.mkdir(parents=True)
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, loader=jinja2.FileSystemLoader(TEMPLATES / "supervisor")
    )
    environment.filters["quote"] = shlex.quote
    known = {
        **told,
        "user": "root",
        "socket": "%(ENV_ORCHESTRATE_ROOT)s/run/supervisor.sock",
        "service_module": "orchestrator.wiring.vobox",
    }
    record = Record(machine.name, machine.group, "vobox", "alice", SITE, machine.address)
    made = {
        "machine.json": (record.dump(), "0644"),
        "etc/vobox.json": (json.dumps(told["orchestrate_config"], indent=4, sort_keys=True) + "\n", "0600"),
        "bin/python": (f'#!/bin/sh\nexec {shlex.quote(told["orchestrate_python"])} "$@"\n', "0755"),
        "bin/start": (environment.get_template("start.sh.j2").render(known), "0755"),
        "etc/supervisord.conf": (environment.get_template("supervisord.conf.j2").render(known), "0644"),
    }
    program = environment.get_template("program.conf.j2")
    storage = ("se", "ftd") if told["orchestrate_config"]["storage_elements"] else ()
    for name in (*PROGRAMS, *storage):
        made[f"etc/supervisor.d/{name}.conf"] = (program.render(known, program={"name": name}), "0644")
    found = []
    for path, (text, mode) in made.items():
        source = folder / path.replace("/", "-")
        source.write_text(text)
        found.append({"source": str(source), "path": path, "mode": mode})
    for path, key, mode in (
        ("etc/tls/ca.pem", "orchestrate_ca", "0644"),
        ("etc/tls/host.pem", "orchestrate_certificate", "0644"),
        ("etc/tls/host.key", "orchestrate_key", "0600"),
        ("etc/token-keys.json", "orchestrate_token_keys", "0644"),
    ):
        found.append({"source": told[key], "path": path, "mode": mode})
    return found
