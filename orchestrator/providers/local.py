"""Machines on this host: each one a directory, a loopback address and a supervisor of its own.

No root, no virtualisation. ``<state>/machines/<name>`` is the machine's root directory; its
machine.json is written last by ``create`` and removed last by ``destroy``, so a call that was killed
half-way is finished by the next one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from orchestrator.errors import PermanentError
from orchestrator.providers import _addresses, _record, _supervisord
from orchestrator.providers.base import Machine, MachineSpec, MachineState
from orchestrator.runtime import postgres
from orchestrator.runtime.files import remove_tree, write_atomic
from orchestrator.site.schema import LocalProvider as Settings
from orchestrator.site.schema import Site
from orchestrator.site.virtual import addresses_of

_Arguments = list[str]  # inside the class, ``list`` is a verb of the port
_FOLDERS = ("etc", "etc/supervisor.d", "data", "log", "run", "bin")
_CONTEXT = "etc/context"  # the user data; it holds a token, so it is deleted as soon as it was used
# A retry of the context starts from the beginning; only success ends it.
_RUN_CONTEXT = """#!/bin/sh
cd "$ORCHESTRATE_ROOT" || exit 1
[ -f etc/context ] || exit 0
sh etc/context >>log/context.log 2>&1 </dev/null || { sleep 1; exit 1; }
: >etc/context.done && rm -f etc/context
"""


class LocalProvider:
    """The port ``Provider`` on this host."""

    def __init__(self, name: str, settings: Settings, site: Site, state_dir: Path) -> None:
        self.name = name
        self._site = site
        self._settings = settings
        self._state = state_dir.resolve()
        self._machines = self._state / "machines"

    def list(self) -> Sequence[Machine]:
        """All machines of this state directory that this provider made, by name."""
        return [
            self._machine(root, record)
            for root, record in self._records()
            if record.tags.get("provider") == self.name
        ]

    def create(self, spec: MachineSpec) -> Machine:
        """The machine exists and its supervisor runs; user data runs under it, until it succeeds once.

        PermanentError when the name is taken by a machine of another role or group.
        """
        root = self._machines / spec.name
        with self._locked(spec.name):
            record = self._reserve(root, spec)
            if not (root / "etc/context.done").exists():
                _put_context(root, spec)  # a later one replaces it: its token is younger
            if _supervisord.pid(root) is None:
                _supervisord.write_configuration(root, context=(root / "bin/context").exists())
                _supervisord.start(root, record.address)
        return self._machine(root, record)

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        """No process, listener or file of the machine is left, but ROOT/data when ``keep_data``."""
        root = self._machines / name
        with self._locked(name):
            _supervisord.stop(root)
            sockets = postgres.socket_directory(root)
            if sockets != root / "run/pg":
                _remove(sockets)
            for entry in sorted(root.iterdir()) if root.is_dir() else ():
                if entry.name != "machine.json" and not (keep_data and entry.name == "data"):
                    _remove(entry)
            (root / "machine.json").unlink(missing_ok=True)
            if root.is_dir() and not any(root.iterdir()):
                root.rmdir()
        with suppress(OSError):  # others are in it
            self._machines.rmdir()

    def console(self, name: str) -> str:
        """The last lines of what its context and its supervisor printed."""
        return "\n".join(
            _tail(self._machines / name / "log" / log) for log in ("context.log", "supervisord.log")
        )

    def shell(self, name: str, command: Sequence[str]) -> _Arguments:
        """Runs ``command`` (or a shell) in the machine's root directory."""
        record = {root.name: record for root, record in self._records()}.get(name)
        address = record.address if record else ""
        root = self._machines / name
        inside = [*command] or [os.environ.get("SHELL", "/bin/sh"), "-i"]
        enter = 'cd "$ORCHESTRATE_ROOT" && exec "$@"'
        facts = [f"ORCHESTRATE_ROOT={root}", f"ORCHESTRATE_ADDRESS={address}"]
        return ["env", *facts, "sh", "-c", enter, "sh", *inside]

    @property
    def _addresses(self) -> Iterable[str]:
        """Those of the site spec, else loopback addresses of this state directory."""
        given = self._settings.addresses
        return addresses_of(given) if given else _addresses.candidates(self._state)

    def _reserve(self, root: Path, spec: MachineSpec) -> _record.Record:
        """The machine's record; a new one gets a free address, told to nobody else."""
        with self._locked():
            known = {other.name: record for other, record in self._records()}
            found = known.get(spec.name)
            if found is not None and (found.role, found.group) != (spec.role, spec.group):
                raise PermanentError(
                    f"{spec.name} exists as {found.role} of group {found.group}; destroy it first",
                    machine=spec.name,
                )
            for folder in _FOLDERS:
                (root / folder).mkdir(parents=True, exist_ok=True)
            for private in ("run", "log"):  # jobs run on this host, as accounts of their own
                (root / private).chmod(0o700)
            if found is not None:
                return found
            address = _addresses.choose(self._addresses, {record.address for record in known.values()})
            tagged = {**spec.tags, "provider": self.name}
            site = self._site
            fresh = _record.Record(spec.name, spec.group, spec.role, site.vo, site.site, address, tagged)
            _put_context(root, spec)  # before the record: a machine that exists never lacks its context
            write_atomic(root / "machine.json", fresh.dump())
            return fresh

    def _records(self) -> Iterator[tuple[Path, _record.Record]]:
        for root in sorted(self._machines.glob("*/")) if self._machines.is_dir() else ():
            try:
                record = _record.parse_record((root / "machine.json").read_text())
            except (FileNotFoundError, NotADirectoryError):
                continue
            if record is not None:
                yield root, record

    def _machine(self, root: Path, record: _record.Record) -> Machine:
        state = MachineState.RUNNING
        if _supervisord.pid(root) is None:
            state = MachineState.STOPPED
        elif (root / _CONTEXT).exists():
            state = MachineState.BOOTING
        applied, drift = _managed(root)
        return Machine(
            name=record.name,
            group=record.group,
            role=record.role,
            provider=self.name,
            state=state,
            address=record.address,
            root=str(root),
            tags=record.tags,
            connection={
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "orchestrate_manager": "supervisor",
            },
            applied=applied,
            drift=drift,
        )

    @contextmanager
    def _locked(self, name: str = "") -> Iterator[None]:
        """One caller at a time for this machine (or for all), over threads and processes.

        The lock dies with its holder; the lock file goes when the machine does.
        """
        path = self._machines / (f".{name}.lock" if name else ".lock")
        while True:
            with _open(path) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _same(lock.fileno(), path):
                    continue  # its last holder removed it while we waited
                try:
                    yield
                finally:
                    if not (self._machines / name / "machine.json").exists():
                        path.unlink()
                return


def _put_context(root: Path, spec: MachineSpec) -> None:
    if spec.user_data:
        write_atomic(root / _CONTEXT, spec.user_data, 0o600)
        write_atomic(root / "bin/context", _RUN_CONTEXT)


def _open(path: Path) -> TextIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w")
        except FileNotFoundError:  # the last machine just went, and the folder with it
            continue


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _managed(root: Path) -> tuple[str, tuple[str, ...]]:
    try:
        applied = _record.parse_applied((root / "etc/applied.json").read_text())
    except OSError:
        return "", ()
    sums = {}
    for name in applied.files if applied else ():
        try:
            sums[name] = hashlib.sha256((root / name).read_bytes()).hexdigest()
        except OSError:
            continue
    return _record.compare(applied, sums)


def _remove(path: Path) -> None:
    """Remove a file or a tree, also one whose folders were made unreadable by a job."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path)
    except (PermissionError, RecursionError):
        remove_tree(path)


def _tail(path: Path, size: int = 4000) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - size))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def make(name: str, settings: Settings, site: Site, state_dir: Path) -> LocalProvider:
    """The local provider called ``name`` in the site spec."""
    return LocalProvider(name, settings, site, state_dir)
