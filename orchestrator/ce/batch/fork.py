"""The shipped batch system: slots are processes of this machine, known by files alone.

Each slot has a directory with ``spec.json`` (written first: the intent), the files of its spec,
``pid`` and ``exit`` (written by templates/batch/fork.sh), ``output``. A slot is a process group of its
own: it survives the CE, and the next CE finds it by pid and start time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ce.batch.base import Slot, SlotSpec, SlotState
from orchestrator.errors import PermanentError, UserError
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.files import read_json, shipped, write_atomic, write_json

_INHERITED = ("ORCHESTRATE_MACHINE", "ORCHESTRATE_AGENT_CACHE", "TZ")
_UNBORN = 10.0  # seconds in which a slot that was spawned must have written its pid
_PATIENCE = 60.0  # seconds from SIGTERM to SIGKILL


@dataclass(frozen=True)
class _Process:
    pid: int
    start: str


class ForkBatch:
    """At most ``slots`` run at once; more wait in the queue, which ``list`` serves. One CE uses ``folder``."""

    def __init__(self, folder: Path, slots: int, clock: Clock) -> None:
        self._folder = folder
        self._slots = slots
        self._clock = clock
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._script = str(shipped("templates") / "batch/fork.sh")
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        folder.chmod(0o711)  # a job that has an account of its own comes to its work directory through here

    def submit(self, spec: SlotSpec) -> str:
        if not spec.name or "/" in spec.name or spec.name.startswith("."):
            raise UserError(f"{spec.name!r} is no name for a slot")
        folder = self._folder / spec.name
        if not (folder / "spec.json").exists():
            folder.mkdir(mode=0o711, exist_ok=True)
            for name, content in spec.files.items():
                write_atomic(folder / name, content.replace("@SLOT@", str(folder)), 0o600)
            command = [part.replace("@SLOT@", str(folder)) for part in spec.command]
            write_json(folder / "spec.json", {"command": command, "submitted": self._clock.now()}, 0o600)
        self._start_queued()
        return spec.name

    def list(self) -> Sequence[Slot]:
        self._start_queued()
        return self._look()

    def cancel(self, slot: str) -> None:
        folder = self._folder / slot
        if not (folder / "spec.json").exists() or (folder / "exit").exists():
            return
        mark = folder / "cancelled"
        first = not mark.exists()
        if first:
            mark.touch(mode=0o600)
        process = _alive(folder)
        if process is not None:
            late = self._clock.now() - mark.stat().st_mtime > _PATIENCE
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if late else signal.SIGTERM)
        elif not (folder / "spawned").exists():
            write_atomic(folder / "exit", "143\n")

    def forget(self, slot: str) -> None:
        folder = self._folder / slot
        self._reap(slot)
        if folder.is_dir() and _alive(folder) is not None:
            raise PermanentError(f"slot {slot} runs; cancel it first", slot=slot)
        shutil.rmtree(folder, ignore_errors=True)

    def _look(self) -> Sequence[Slot]:
        return [self._slot(folder.parent) for folder in sorted(self._folder.glob("*/spec.json"))]

    def _slot(self, folder: Path) -> Slot:
        self._reap(folder.name)
        submitted = float(read_json(folder / "spec.json")["submitted"])
        spawned = _time(folder / "spawned")
        if (folder / "exit").exists():
            status = int((folder / "exit").read_text().strip() or "1")
            return Slot(
                folder.name, folder.name, SlotState.ENDED, submitted, spawned, _time(folder / "exit"), status
            )
        if spawned is None:
            return Slot(folder.name, folder.name, SlotState.QUEUED, submitted)
        unborn = not (folder / "pid").exists() and self._clock.now() - spawned < _UNBORN
        if unborn or _alive(folder) is not None:
            return Slot(folder.name, folder.name, SlotState.RUNNING, submitted, spawned)
        if (folder / "exit").exists():  # written since we looked
            return self._slot(folder)
        write_atomic(folder / "lost", "")  # killed before it could write its end
        return Slot(folder.name, folder.name, SlotState.ENDED, submitted, spawned, _time(folder / "lost"))

    def _start_queued(self) -> None:
        slots = self._look()
        free = self._slots - sum(slot.state is SlotState.RUNNING for slot in slots)
        queued = sorted(
            (slot for slot in slots if slot.state is SlotState.QUEUED), key=lambda slot: slot.submitted
        )
        for slot in queued[: max(0, free)]:
            self._spawn(self._folder / slot.id)

    def _spawn(self, folder: Path) -> None:
        """Noted before it is done: killed in between, the slot counts as lost, never as run twice."""
        command = [str(part) for part in read_json(folder / "spec.json")["command"]]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
        environment |= {key: os.environ[key] for key in _INHERITED if key in os.environ}
        (folder / "spawned").touch(mode=0o600)
        kept = os.open(folder / "output", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(kept, "ab") as output:
            self._children[folder.name] = subprocess.Popen(
                ["/bin/sh", self._script, str(folder), *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _reap(self, name: str) -> None:
        child = self._children.get(name)
        if child is not None and child.poll() is not None:
            del self._children[name]


def _alive(folder: Path) -> _Process | None:
    """The slot's process, if the pid that it noted still is that process, and no zombie."""
    try:
        pid, start = (folder / "pid").read_text().split()
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (OSError, ValueError):
        return None
    words = stat.rpartition(")")[2].split()
    return _Process(int(pid), start) if words[19] == start and words[0] != "Z" else None


def _time(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
