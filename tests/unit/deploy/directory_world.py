"""A world in a directory: provider, configurator and workload whose state survives any process.

Each machine is one directory with a random name of its own, so that a machine made twice is seen
as two. Test support only: it satisfies the contract of the ports with as little as possible.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.deploy.context import Context, Limits
from orchestrator.deploy.events import Sink
from orchestrator.deploy.holder import myself, surely_dead
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Health, Outcome, Target
from orchestrator.errors import GridError
from orchestrator.providers.base import Machine, MachineSpec, MachineState
from orchestrator.runtime.clock import Timeline
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.virtual import VirtualClock
from orchestrator.site.schema import Site

Fault = Callable[[str, str], GridError | None]  # (verb, machine) → what goes wrong


def _no_fault(verb: str, name: str) -> GridError | None:
    return None


class DirectoryProvider:
    """Machines are directories below ``root``; ``calls`` counts what was asked in this process."""

    def __init__(self, name: str, root: Path, fault: Fault = _no_fault, boots: int = 0) -> None:
        self.name, self.root, self.fault, self.boots = name, root, fault, boots
        self.calls: list[tuple[str, str]] = []
        self.busy = self.most = 0
        self._mutex = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _call(self, verb: str, name: str) -> Iterator[None]:
        with self._mutex:
            self.calls.append((verb, name))
            self.busy += 1
            self.most = max(self.most, self.busy)
        try:
            if (error := self.fault(verb, name)) is not None:
                raise error
            yield
        finally:
            with self._mutex:
                self.busy -= 1

    def folders(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob("[!.]*/machine.json"))

    def list(self) -> Sequence[Machine]:
        with self._alone():
            return [self._machine(folder) for folder in self.folders()]

    def create(self, spec: MachineSpec) -> Machine:
        with self._call("create", spec.name), self._alone():
            folder = next(
                (f for f in self.folders() if read_json(f / "machine.json")["name"] == spec.name), None
            )
            if folder is None:
                part = self.root / f".new-{spec.name}"
                part.mkdir(exist_ok=True)
                facts = {
                    "name": spec.name, "group": spec.group, "role": spec.role, "tags": dict(spec.tags),
                    "boots": self.boots, "context": spec.user_data,
                    "failed": self.fault("boot", spec.name) is not None,
                }  # fmt: skip
                write_json(part / "machine.json", facts)
                folder = part.rename(self.root / secrets.token_hex(6))
            (folder / "stopped").unlink(missing_ok=True)
            return self._machine(folder)

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        with self._call("destroy", name), self._alone():
            for folder in self.folders():
                if read_json(folder / "machine.json")["name"] == name:
                    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == "machine.json"):
                        entry.unlink()  # machine.json last: until then the machine is listed
                    folder.rmdir()
            shutil.rmtree(self.root / f".new-{name}", ignore_errors=True)

    def console(self, name: str) -> str:
        return f"console of {name}"

    def _machine(self, folder: Path) -> Machine:
        facts: dict[str, Any] = read_json(folder / "machine.json")
        state = MachineState.RUNNING
        for word in ("stopped", "unreachable", "failed"):
            if (folder / word).exists():
                state = MachineState(word)
        if facts["failed"]:
            state = MachineState.FAILED
        if facts["boots"] > 0:  # each look brings it nearer to running
            write_json(folder / "machine.json", {**facts, "boots": facts["boots"] - 1})
            state = MachineState.BOOTING
        applied, drift = "", ()
        if (folder / "applied").exists():
            applied = (folder / "applied").read_text()
        if (folder / "drift").exists():
            applied, drift = "", ("etc/central.json",)
        return Machine(
            facts["name"], facts["group"], facts["role"], self.name, state, "127.0.0.1", str(folder), facts["tags"],
            connection={"ansible_connection": "local"},
            applied=applied, drift=drift,
        )  # fmt: skip


class DirectoryConfigurator:
    """Writes the digest into the machine's directory, last, as Ansible does."""

    def __init__(self, version: str = "1", fault: Fault = _no_fault) -> None:
        self.version, self.fault = version, fault
        self.runs: list[list[str]] = []
        self.contexts: list[str] = []

    def digest(self, target: Target) -> str:
        return f"{target.role}-{self.version}"

    def user_data(self, spec_name: str, group: str) -> str:
        self.contexts.append(spec_name)
        return f"token for {spec_name}"

    def configure(self, targets: Sequence[Target]) -> Iterator[Outcome]:
        self.runs.append([target.machine.name for target in targets])
        for target in targets:
            folder = Path(target.machine.root)
            if (error := self.fault("configure", target.machine.name)) is not None:
                yield Outcome(target.machine.name, False, 0.1, f"TASK [start]: {error.message}")
                continue
            (folder / "drift").unlink(missing_ok=True)
            (folder / "applied").write_text(self.digest(target))
            yield Outcome(target.machine.name, True, 0.1)


class DirectoryWorkload:
    """A pet works once it is configured, a worker once it has its context."""

    def __init__(self, fault: Fault = _no_fault) -> None:
        self.fault = fault
        self.jobs: dict[str, list[int]] = {}
        self.drained: list[str] = []

    def healthy(self, machine: Machine) -> Health:
        if (error := self.fault("healthy", machine.name)) is not None:
            return Health(False, error.message)
        folder = Path(machine.root)
        if machine.role == "worker":
            return Health(bool(read_json(folder / "machine.json")["context"]), "its agent asked for work")
        return Health((folder / "applied").exists(), "it is configured")

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        return self.jobs.get(machine.name, [])

    def drain(self, machine: Machine) -> None:
        if (error := self.fault("drain", machine.name)) is not None:
            raise error
        self.drained.append(machine.name)
        self.jobs.pop(machine.name, None)

    def undrain(self, machine: Machine) -> None:
        if machine.name in self.drained:
            self.drained.remove(machine.name)


def a_site(workers: int = 2, **groups: Mapping[str, Any]) -> Site:
    """A small site of every role."""
    plain = {
        "central": {"role": "central"},
        "vobox": {"role": "vobox", "needs": ["central"]},
        "workers": {"role": "worker", "count": workers, "needs": ["vobox"]},
    }
    return Site.model_validate({"vo": "alice", "site": "lab", "groups": plain | groups})


class DirectoryWorld:
    """A context over one directory, made anew by every process that looks at it."""

    def __init__(
        self,
        root: Path,
        site: Site | None = None,
        fault: Fault = _no_fault,
        boots: int = 0,
        clock: Timeline | None = None,
    ) -> None:
        self.root, self.site, self.clock = root, site or a_site(), clock or VirtualClock(time.time())
        self.clouds = {
            name: DirectoryProvider(name, root / ("cloud" if name == "local" else name), fault, boots)
            for name in self.site.providers
        }
        self.provider = self.clouds["local"]
        self.configurator = DirectoryConfigurator(fault=fault)
        self.workload = DirectoryWorkload(fault)
        self.events: list[Any] = []

    def context(self, sink: Sink | None = None, **limits: float) -> Context:
        patience: dict[str, Any] = {
            "boot": 5.0,
            "verify": 2.0,
            "grace": 0.0,
            "drain": 2.0,
            "gather": 0.2,
        } | limits
        state = self.root / "state"
        return Context(
            site=self.site,
            ledger=Ledger.of_file(state / "ledger.db", self.site.site),
            providers=self.clouds,
            configurator=self.configurator,
            workload=self.workload,
            clock=self.clock,
            state_dir=state,
            holder=myself(),
            dead=surely_dead,
            sink=sink or self.events.append,
            limits=Limits(**patience),
        )

    def names(self) -> list[str]:
        """Names of all machines that exist, doubles too."""
        folders = (folder for cloud in self.clouds.values() for folder in cloud.folders())
        return sorted(read_json(folder / "machine.json")["name"] for folder in folders)

    def everything(self) -> str:
        """What exists, as text."""
        return json.dumps([read_json(folder / "machine.json") for folder in self.provider.folders()])
