"""Sites of every role for the crash sweeps, on a simulated cloud and on this host: what is wanted of them,
and what of them is leaked, doubled or unconverged, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Stage
from orchestrator.providers.sim.client import SimProvider
from orchestrator.wiring.deploy import context
from tests.e2e import traces
from tests.support.crash import run
from tests.support.crash_sweep import Step

NEEDS = {"vobox": ["central"], "workers": ["vobox"]}
PETS = ("lab-central-1", "lab-vobox-1")


def workers(many: int) -> tuple[str, ...]:
    """All machines of a site with so many workers."""
    return (*PETS, *(f"lab-workers-{number}" for number in range(1, many + 1)))


def life(many: int, more: int) -> tuple[Step, ...]:
    """From nothing, up and down in scale, a rolling update, and to nothing."""
    return (up(many), *scalings(many, more), rolls(many)[0], down())


def up(many: int) -> Step:
    """A site that has nothing yet."""
    return Step("up", ("up", "site.yaml"), workers(many))


def scalings(many: int, more: int) -> tuple[Step, Step]:
    """A group grows, and shrinks again."""
    grown = Step("scale_up", ("scale", "workers", str(more), "--site", "site.yaml"), workers(more))
    return grown, Step("scale_down", ("scale", "workers", str(many), "--site", "site.yaml"), workers(many))


def rolls(many: int) -> tuple[Step, Step]:
    """An edit of the site spec that replaces each worker, and back."""
    words = ("up", "site.yaml", "--yes")
    return Step("roll", words, workers(many), 2), Step("roll", words, workers(many), 1)


def down() -> Step:
    """Nothing is left."""
    return Step("down", ("down", "site.yaml", "--yes"), ())


class _Site:
    def __init__(self, folder: Path, many: int, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.environment = folder, dict(environment or {})
        self._many = many
        self.state = folder / ".orchestrate/lab"
        folder.mkdir(parents=True, exist_ok=True)

    def _write(self, providers: Mapping[str, Any], worker: Mapping[str, Any], **more: Any) -> None:
        where = {"provider": next(iter(providers))} if providers else {}
        groups: dict[str, dict[str, Any]] = {
            "central": {"role": "central"},
            "vobox": {"role": "vobox"},
            "workers": {"role": "worker", "count": self._many, **worker},
        }
        told = {name: {**group, **where, "needs": NEEDS.get(name, [])} for name, group in groups.items()}
        data = {"vo": "alice", "site": "lab", "groups": told, "providers": dict(providers), **more}
        (self.folder / "site.yaml").write_text(json.dumps(data))

    def ledger(self) -> Ledger:
        """Opened; whoever asked closes it."""
        return Ledger.of_file(self.state / "ledger.db", "lab")

    def _ledger(self, step: Step) -> list[str]:
        """What the ledger and the plan of now say."""
        found = []
        ledger = self.ledger()
        try:
            records, left = ledger.records(), ledger.open_intents()
        finally:
            ledger.close()
        if left:
            found.append(f"unconverged: open intents {left}")
        if set(records) != set(step.machines):
            found.append(f"unconverged: the ledger knows {sorted(records)}")
        if slow := [record for record in records.values() if record.stage is not Stage.READY]:
            found.append(f"unconverged: {slow}")
        plan = run(self.folder, ("plan", "site.yaml", "--json"), environment=self.environment)
        if plan.code or (changes := json.loads(plan.said)["changes"]):
            told = plan.said[-500:] if plan.code else {each["id"]: each["reason"] for each in changes}
            found.append(f"unconverged: the plan is {told}")
        if odd := _strays(self.state):
            found.append(f"leaked: {odd} in the state directory")
        return found

    def _names(self, step: Step, names: list[str]) -> list[str]:
        found = [f"leaked: machine {name}" for name in sorted(set(names) - set(step.machines))]
        found += [f"unconverged: no machine {name}" for name in step.machines if name not in names]
        return found + [f"doubled: machine {n}" for n in sorted(set(names)) if names.count(n) > 1]


def _strays(state: Path) -> list[str]:
    """Temporary files and folders that no process uses any more."""
    return sorted(str(path.relative_to(state)) for path in state.glob(".*"))


class SimSite(_Site):
    """On a simulated cloud whose answers are lost and whose list lags behind."""

    def want(self, step: Step) -> None:
        cloud = {"kind": "sim", "lost_replies": "10 %", "eventual_list": "5 s", "duplicate_listing": "10 %"}
        security = {"token_lifetime": f"{step.version} h"}  # the pets are configured again
        self._write({"cloud": cloud}, {"image": f"image-{step.version}"}, security=security)

    def troubles(self, step: Step) -> list[str]:
        if not step.machines:
            left = [] if not self.state.exists() else [f"leaked: {self.state}"]
            if not _soon(lambda: not self.clouds()):
                left.append("leaked: a cloud that still has machines")
            return left
        with context(self.folder / "site.yaml") as ctx:
            cloud = ctx.providers["cloud"]
            assert isinstance(cloud, SimProvider)
            ctx.clock.sleep(10)  # until the cloud's list has caught up
            seen = cloud.figures()
            found = self._names(step, sorted({machine.name for machine in ctx.provider("cloud").list()}))
        wanted, tally = len(step.machines), seen["tally"]
        if seen["machines"] != wanted:
            found.append(f"leaked: {seen['machines']} machines exist")
        if tally["created"] - tally.get("destroyed", 0) != wanted:
            found.append(f"doubled: {tally}")
        if len(seen["ready"]) != wanted:
            found.append(f"unconverged: {len(seen['ready'])} machines work")
        return found + self._ledger(step)

    def clouds(self) -> list[int]:
        """Processes of this site's clouds, known to it or not."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                text = entry.read_bytes()
                if b"providers.sim.server" in text and os.fsencode(f"{self.folder}/") in text:
                    found.append(int(entry.parent.name))
        return found

    def close(self) -> None:
        """No process of the cloud is left."""
        for pid in self.clouds():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert _soon(lambda: not self.clouds())


class LocalSite(_Site):
    """Real services on this host."""

    def __init__(self, folder: Path, many: int, cache: Path, pets: bool = False) -> None:
        """With ``pets`` a rolling update configures the pets again, which takes Ansible its time."""
        super().__init__(folder, many, {"ORCHESTRATE_CACHE": str(cache), "COLUMNS": "200"})
        self._pets = pets
        self._addresses: dict[str, str] = {}  # every one that a machine of the site ever had → its last owner

    def want(self, step: Step) -> None:
        hours = step.version if self._pets else 1
        self._write({}, {"slots": step.version}, security={"token_lifetime": f"{hours} h"})

    def troubles(self, step: Step) -> list[str]:
        roots = {path.name: path for path in self.state.glob("machines/*/")}
        for root in roots.values():
            with suppress(OSError):
                self._addresses[json.loads((root / "machine.json").read_text())["address"]] = root.name
        gone = {address for address, name in self._addresses.items() if name not in roots}
        found = self._names(step, list(roots))
        if not _soon(lambda: not traces.listeners(gone)):
            found.append(f"leaked: {traces.listeners(gone)}")
        if not step.machines:
            found += [f"leaked: process {text}" for text in traces.processes(self.folder).values()]
            return found + ([f"leaked: {self.state.parent}"] if self.state.parent.exists() else [])
        return found + self._processes() + self._ledger(step)

    def _processes(self) -> list[str]:
        """One supervisor a machine, and every process of a machine below its supervisor."""
        found = []
        alive = traces.processes(self.folder)
        for root in self.state.glob("machines/*/"):
            mine = {pid: text for pid, text in alive.items() if traces.machine(pid) == root}
            tops = [pid for pid in mine if traces.parent(pid) not in mine]
            if len(tops) != 1 or "supervisord" not in mine[tops[0]]:
                found.append(f"doubled: at the top of {root.name} are {[mine[pid] for pid in tops]}")
        return found

    def close(self) -> None:
        """Nothing of the site is left."""
        if self.state.exists():
            ended = run(self.folder, down().words, environment=self.environment)
            assert ended.code == 0, ended.said
        assert not traces.processes(self.folder)


def _soon(look: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
