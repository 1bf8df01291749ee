"""Hosts that exist: farm nodes, bare metal. A machine is a host that carries our record.

The record is /opt/orchestrate/<site>/machine.json on the host itself; what was last seen of each
host is kept in the state directory, so a host that cannot be asked is still known to be a machine.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from orchestrator.errors import PermanentError
from orchestrator.providers import _record
from orchestrator.providers._ssh_connection import Connection, Unreachable, leave
from orchestrator.providers._ssh_probe import Probe, parse
from orchestrator.providers.base import Machine, MachineSpec, MachineState, QuotaExceeded
from orchestrator.runtime.files import read_json, write_json
from orchestrator.site.schema import Site, SshHost
from orchestrator.site.schema import SshProvider as Settings

_Arguments = list[str]  # inside the class, ``list`` is a verb of the port


class SshProvider:
    """The port ``Provider`` over an inventory of hosts."""

    def __init__(self, name: str, settings: Settings, site: Site, state_dir: Path) -> None:
        self.name = name
        self._site = site
        self._settings = settings
        self._state = state_dir.resolve()
        self._root = f"/opt/orchestrate/{site.site}"
        self._hosts = {host.name: host for host in settings.hosts}
        self._memory = self._state / "ssh" / f"{name}.json"
        self._lock = threading.Lock()
        self._records: dict[str, _record.Record] = self._remembered()
        self._free: list[str] | None = None  # hosts seen without a record; None: nobody looked yet
        self._silent: dict[str, str] = {}  # host that did not answer → why
        self._busy: set[str] = set()  # hosts that a create or destroy is changing now

    def list(self) -> Sequence[Machine]:
        """The hosts that carry our record, in the order of the inventory; asked in parallel."""
        probes = self._probes(self._hosts)
        with self._lock:
            for host, probe in probes.items():
                if probe is None or host in self._busy:
                    continue
                if probe.record is not None and probe.record.vo == self._site.vo:
                    self._records[host] = probe.record
                else:
                    self._records.pop(host, None)
            self._free = [
                host
                for host, probe in probes.items()
                if probe is not None and probe.record is None and host not in self._busy
            ]
            self._remember()
            known = dict(self._records)
        return [
            self._machine(self._hosts[host], known[host], probes[host]) for host in probes if host in known
        ]

    def some(self, names: Collection[str]) -> Sequence[Machine]:
        """Of those machines, the ones whose hosts carry our record or cannot be asked."""
        with self._lock:
            known = {host: record for host, record in self._records.items() if record.name in names}
        probes = self._probes(known)
        return [
            self._machine(self._hosts[host], record, probes[host])
            for host, record in known.items()
            if (probe := probes[host]) is None or (probe.record and probe.record.name == record.name)
        ]

    def create(self, spec: MachineSpec) -> Machine:
        """A free host carries the record of the machine and runs its user data.

        QuotaExceeded when no host is free, TemporaryError when the machine's own host cannot be asked.
        """
        host = self._host_of(spec.name) or self._take(spec.avoid)
        while (probe := self._claim(host, spec)) is None:
            host = self._take(spec.avoid)
        found = probe.record or self._records[host]
        if (found.role, found.group) != (spec.role, spec.group):
            raise PermanentError(
                f"{spec.name} exists as {found.role} of group {found.group}; destroy it first",
                machine=spec.name,
            )
        return self._machine(self._hosts[host], found, probe)

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        """Our services are stopped and our root is removed from the machine's host; the host stays.

        TemporaryError when the host cannot be asked: unreachable is not gone.
        """
        host = self._host_of(name)
        if host is None:
            return
        connection = self._connection(self._hosts[host])
        variables = {"ROOT": self._root, "SITE": self._site.site, "NAME": name, "KEEP": str(int(keep_data))}
        with self._changing(host):
            connection.run("remove", variables=variables)
            connection.close()
        with self._lock:
            self._records.pop(host, None)
            if self._free is not None and host not in self._free:
                self._free = [name for name in self._hosts if name in {*self._free, host}]
            self._remember()

    def leave(self) -> None:
        """No connection is open."""
        leave(self._state)

    def console(self, name: str) -> str:
        """The last lines of what its context printed."""
        command = self.shell(name, ["tail", "-c", "4000", "log/context.log"])
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
        return done.stdout + done.stderr

    def shell(self, name: str, command: Sequence[str]) -> _Arguments:
        """Runs ``command`` (or a login shell) in the machine's root directory."""
        host = self._host_of(name)
        if host is None:
            raise PermanentError(f"no host of provider {self.name} is the machine {name}", machine=name)
        inside = shlex.join(command) if command else "exec ${SHELL:-/bin/sh} -l"
        connection = self._connection(self._hosts[host])
        remote = f"cd {shlex.quote(self._root)} && {inside}"
        return connection.command(*(["--"] if command else ["-t", "--"]), remote)

    def _claim(self, host: str, spec: MachineSpec) -> Probe | None:
        """The host, which now is the machine; None when somebody else took it in between."""
        connection = self._connection(self._hosts[host])
        address = connection.host.address
        tagged = {**spec.tags, "provider": self.name, "host": host}
        site = self._site
        record = _record.Record(spec.name, spec.group, spec.role, site.vo, site.site, address, tagged)
        variables = {
            "ROOT": self._root, "SITE": site.site, "NAME": spec.name, "ADDRESS": address,
            "RECORD": record.dump().strip(), "CONTEXT": spec.user_data,
        }  # fmt: skip
        with self._changing(host):
            with self._lock:  # before the call: if its answer is lost, the host is still known to be taken
                self._records.setdefault(host, record)
                self._remember()
            told = connection.run("claim", "probe", variables=variables)
            if told.strip() == "taken":
                with self._lock:
                    self._records.pop(host, None)
                    self._remember()
                return None
        return parse(told, self._root)

    @contextmanager
    def _changing(self, host: str) -> Iterator[None]:
        with self._lock:
            self._busy.add(host)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(host)

    def _host_of(self, name: str) -> str | None:
        """The host that is (or may be) the machine; looks at all hosts once if nobody did."""
        if self._free is None:
            self.list()
        with self._lock:
            return next((host for host, record in self._records.items() if record.name == name), None)

    def _take(self, avoid: Sequence[str]) -> str:
        with self._lock:
            if self._free:
                best = min(self._free, key=lambda host: host in avoid)
                self._free.remove(best)
                return best
        silent = "; ".join(self._silent.values())
        raise QuotaExceeded(
            f"provider {self.name} has no free host that answers ({len(self._hosts)} in the inventory); "
            f"add hosts to the site spec or lower the counts. {silent}".strip(),
            retry_in=30.0,
            provider=self.name,
            silent=dict(self._silent),
        )

    def _connection(self, host: SshHost) -> Connection:
        return Connection(host, self._state)

    def _probes(self, hosts: Collection[str]) -> dict[str, Probe | None]:
        with ThreadPoolExecutor(self._settings.parallel) as pool:
            asked = pool.map(self._probe, (self._hosts[host] for host in hosts))
            return dict(zip(hosts, asked, strict=True))

    def _probe(self, host: SshHost) -> Probe | None:
        self._silent.pop(host.name, None)
        try:
            variables = {"ROOT": self._root, "SITE": self._site.site}
            return parse(self._connection(host).run("probe", variables=variables), self._root)
        except Unreachable as error:
            self._silent[host.name] = error.message
            return None

    def _machine(self, host: SshHost, record: _record.Record, probe: Probe | None) -> Machine:
        applied, drift = _record.compare(probe.applied, probe.sums) if probe else ("", ())
        manager = probe.facts.get("manager", "supervisor") if probe else "supervisor"
        return Machine(
            name=record.name,
            group=record.group,
            role=record.role,
            provider=self.name,
            state=_state(probe),
            address=host.address,
            root=self._root,
            tags=record.tags,
            connection=self._variables(host) | {"orchestrate_manager": manager},
            applied=applied,
            drift=drift,
            place=host.name,
        )

    def _variables(self, host: SshHost) -> dict[str, str]:
        return {
            "ansible_connection": "ssh",
            "ansible_host": host.address,
            "ansible_port": str(host.port),
            "ansible_user": host.user,
            "ansible_ssh_common_args": shlex.join(self._connection(host).options()),
        }

    def _remembered(self) -> dict[str, _record.Record]:
        if not self._memory.exists():
            return {}
        content = read_json(self._memory)
        return {host: _record.Record(**value) for host, value in content.items() if host in self._hosts}

    def _remember(self) -> None:
        write_json(self._memory, {host: asdict(record) for host, record in self._records.items()})


def _state(probe: Probe | None) -> MachineState:
    if probe is None:
        return MachineState.UNREACHABLE
    if probe.facts.get("supervisor") == "dead":
        return MachineState.STOPPED
    return MachineState.BOOTING if "context" in probe.facts else MachineState.RUNNING


def make(name: str, settings: Settings, site: Site, state_dir: Path) -> SshProvider:
    """The ssh provider called ``name`` in the site spec."""
    return SshProvider(name, settings, site, state_dir)
