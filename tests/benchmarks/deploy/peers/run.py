"""The peers' programs: where they are installed, and how each is run over hosts.

They live in a virtual environment of their own under the cache directory, made once, in pinned versions.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import orchestrator
from orchestrator.agent.bundle import agent_file
from orchestrator.wiring.runtime_archive import RuntimeArchive
from peers.handed import HERE, Values

PINNED = ("pyinfra==3.10.0", "ansible-core==2.19.14", "IM==2.0.0")
LONGEST = 900.0  # seconds of one run


def cache() -> Path:
    """Where what is costly to make is kept between runs."""
    return Path(os.environ.get("ORCHESTRATE_CACHE") or Path.home() / ".cache/orchestrate-bench")


def prepare() -> None:
    """The peers' programs, the agent file and the runtime are made, and our modules compiled as pip compiled
    theirs: no tool is charged for it."""
    programs()
    compileall.compile_dir(Path(orchestrator.__file__).parent, quiet=1)
    agent_file(cache())
    for role in ("central", "vobox"):
        RuntimeArchive(cache(), role).path()


def programs() -> Path:
    """The ``bin`` with the peers of the deploy benches."""
    return environment(cache(), "bench-peers", PINNED)


def environment(folder: Path, name: str, pinned: Sequence[str]) -> Path:
    """The ``bin`` of a virtual environment with these packages; made anew when a version changes."""
    venv = folder / name
    stamp, wanted = venv / "pinned", "\n".join((sys.version, *pinned))
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, *pinned], check=True, timeout=900)
        stamp.write_text(wanted)
    return venv / "bin"


def _run(command: list[str], folder: Path, bin_: Path, variables: dict[str, str]) -> None:
    log = folder / "said.log"
    (folder / ".ssh").mkdir(mode=0o700, exist_ok=True)
    with log.open("ab") as out:
        done = subprocess.run(
            command,
            cwd=folder,
            env={
                "PATH": f"{bin_}:{os.environ['PATH']}",
                "HOME": str(folder),
                "LC_ALL": "C.UTF-8",
                "COLUMNS": "150",
            }
            | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            timeout=LONGEST,
        )
    if done.returncode != 0:
        raise SystemExit(f"{command[0]}: {done.returncode}\n{log.read_text(errors='replace')[-3000:]}")


def ansible(bin_: Path, folder: Path, key: Path, groups: dict[str, dict[str, Values]]) -> None:
    """One ``ansible-playbook`` over all hosts, as fast as its settings make it."""
    inventory = {
        "all": {
            "vars": {"ansible_user": "root", "ansible_python_interpreter": "/usr/bin/python3",
                     "ansible_ssh_private_key_file": str(key)},
            "children": {
                group: {"hosts": {name: {**told, "ansible_host": told["address"]} for name, told in hosts.items()}}
                for group, hosts in groups.items()
            },
        }
    }  # fmt: skip
    (folder / "inventory.json").write_text(json.dumps(inventory))
    settings = {
        "ANSIBLE_FORKS": "20",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_HOST_KEY_CHECKING": "0",
        "ANSIBLE_INVENTORY_ENABLED": "yaml",
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [str(bin_ / "ansible-playbook"), "-i", str(folder / "inventory.json"), str(HERE / "site.yml")]
    _run(command, folder, bin_, settings)


def pyinfra(bin_: Path, folder: Path, key: Path, groups: dict[str, dict[str, Values]]) -> None:
    """One ``pyinfra`` over all hosts; it works on all of them at once."""
    lines = []
    for group, hosts in groups.items():
        told = [
            (name, {"ssh_hostname": values["address"], "ssh_user": "root", "ssh_key": str(key),
                    "ssh_strict_host_key_checking": "accept-new", "values": values})
            for name, values in hosts.items()
        ]  # fmt: skip
        lines.append(f"{group} = {told!r}\n")
    (folder / "inventory.py").write_text("".join(lines))
    _run([str(bin_ / "pyinfra"), "-y", "inventory.py", str(HERE / "deploy.py")], folder, bin_, {})
