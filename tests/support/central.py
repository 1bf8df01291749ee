"""Central as its real processes, of this version or of another, on a database of a test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from orchestrator.auth import model as auth
from orchestrator.auth.authority import Authority
from orchestrator.auth.model import Person
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.http import Api, tls_context
from orchestrator.runtime.signing import TokenSigner
from orchestrator.tasks import client
from orchestrator.tasks.model import Assignment, Output, Report, ReportResult

VO, SITE = "testvo", "cern"
AD = {
    "Name": "node-1/agent-1", "Host": "node-1", "TTL": 86400, "Cores": 1, "Memory": 64 << 30, "Disk": 500 << 30,
    "CloseSE": ["SE"], "Packages": [], "InstallMethods": ["http"], "Requirements": 'other.Type == "job"',
}  # fmt: skip
ECHO = 'Executable = "/bin/echo";\nArguments = "hello";\nOutputFile = {"stdout"};\nTTL = 600;\n'
# Ends when there is a file of that name.
WAITS = (
    'Executable = "/bin/sh";\nArguments = "-c \'while [ ! -e {file} ]; do sleep 0.1; done\'";\nTTL = 600;\n'
)


def new_database(server: str, name: str) -> str:
    """The URL of an empty database of that name."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[arg-type]
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return server.replace("/grid?", f"/{name}?")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Central:
    """The machine of central: its root, its programs by name ("central-1", "broker-2"), and clients of it."""

    def __init__(self, root: Path, database: str) -> None:
        self.root, self.url = root, database
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.authority, now = Authority(root / "keys", VO), SystemClock().now()
        self.authority.ensure(now)
        files = self.authority.host("central", "127.0.0.1", "central", SITE, now)
        assert files.token_signing is not None
        for folder in ("etc/tls", "log", "data", "run", "bin"):
            (root / folder).mkdir(parents=True)
        for name, source in {
            "tls/ca.pem": files.ca, "tls/host.pem": files.certificate, "tls/host.key": files.key,
            "token-keys.json": files.token_keys, "token-signing.json": files.token_signing,
        }.items():  # fmt: skip
            (root / "etc" / name).write_bytes(source.read_bytes())
        (root / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (root / "bin/python").chmod(0o755)
        self.ports = {name: _free_port() for name in ("central", "broker")}
        config = {
            "vo": VO, "database": database, "address": "127.0.0.1", "ports": self.ports, "token_lifetime": 3600.0,
            "admins": ["root"],
        }  # fmt: skip
        (root / "etc/central.json").write_text(json.dumps(config))
        self._signer = TokenSigner(VO, read_json(self.authority.directory / "token-signing.json"))

    def sign(self, claims: Mapping[str, Any], lifetime: float = 3600.0, ago: float = 0.0) -> str:
        """A token that was issued ``ago`` seconds before now."""
        return self._signer.sign(dict(claims), SystemClock().now() - ago, lifetime + ago)

    def user(self, name: str) -> str:
        return self.sign(auth.user_claims(Person(name, ("user", "admin") if name == "root" else ("user",))))

    @property
    def vobox(self) -> str:
        return self.sign(auth.host_claims("vobox-1", "vobox", SITE))

    def command(self, program: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator.wiring.central", program, "--root", str(self.root)]

    def start(self, *names: str, code: Path | None = None) -> None:
        """Start programs; ``code``: of the version that is unpacked there."""
        for name in names:
            self.processes[name] = started(self.command(name.partition("-")[0]), code)

    def stop(self, *names: str, how: int = signal.SIGTERM) -> None:
        for name in names or tuple(self.processes):
            self.processes[name].send_signal(how)
        for name in names or tuple(self.processes):
            self.processes.pop(name).wait(30)

    async def ready(self, *ports: str, within: float = 30.0) -> None:
        """These answer."""
        context = tls_context(self.authority.ca)
        give_up = time.monotonic() + within
        for port in ports or ("central", "broker"):
            while not await asyncio.to_thread(
                _answers, f"https://127.0.0.1:{self.ports[port]}/healthz", context
            ):
                ended = {
                    name: each.poll() for name, each in self.processes.items() if each.poll() is not None
                }
                assert not ended, f"{ended}\n{self.log()}"
                assert time.monotonic() < give_up, f"{port} does not answer\n{self.log()}"
                await asyncio.sleep(0.05)

    async def serving(self, *names: str, within: float = 30.0) -> None:
        """These programs themselves listen, whoever else does on the same address."""
        give_up = time.monotonic() + within
        for name in names:
            while not _listens(self.processes[name].pid):
                assert self.processes[name].poll() is None, self.log()
                assert time.monotonic() < give_up, self.log()
                await asyncio.sleep(0.05)

    def log(self) -> str:
        return "\n".join(
            f"{file.name}:\n{file.read_text()[-3000:]}" for file in (self.root / "log").glob("*.log")
        )

    @contextlib.asynccontextmanager
    async def api(self, who: str, port: str = "central", patience: float = 5.0) -> AsyncIterator[Api]:
        """As a user, or as "vobox"."""
        token = self.vobox if who == "vobox" else self.user(who)

        async def source() -> str:
            return token

        base = f"https://127.0.0.1:{self.ports[port]}"
        async with Api(base, tls_context(self.authority.ca), source, patience=patience) as api:
            yield api

    async def claim(self, count: int = 1, wait: float = 10.0, **ad: Any) -> list[Assignment]:
        """What a resource of the site gets."""
        async with self.api("vobox", "broker") as broker:
            return list((await client.claim(broker, AD | ad, count=count, wait=wait)).tasks)

    async def report(self, job: Assignment, *states: str) -> list[ReportResult]:
        """What an agent says of its attempt; DONE with an output for each name of OutputFile."""
        reports = [
            Report(job.task, job.attempt, state, outputs=_outputs(job) if state == "DONE" else ())
            for state in states
        ]
        async with self.api("vobox") as central:
            return await client.report(central, reports)

    def rows(self, statement: str, *values: object, maintainer: bool = False) -> list[Any]:
        """What the database says; a ``maintainer`` may write while central is read-only."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            if maintainer:
                connection.execute("SET orchestrate.maintainer = 'on'")
            found = connection.execute(statement, values)  # type: ignore[arg-type]
            return found.fetchall() if found.description else []

    def state(self, task: int) -> str:
        return str(self.rows("SELECT state FROM grid.task WHERE id = %s", task)[0][0])


def started(command: Sequence[str], code: Path | None, **environment: str) -> subprocess.Popen[bytes]:
    """A program; with ``code`` of the version that is unpacked there, which goes before the installed one."""
    more = environment | ({"PYTHONPATH": str(code)} if code else {})
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=dict(os.environ) | more, cwd="/", **quiet)


class VoBox:
    """A VO box of that central: its root, and its programs by name ("clustermonitor", "se", "ce")."""

    def __init__(self, root: Path, central: Central, address: str) -> None:
        self.root, self.address = root, address
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        files = central.authority.host("box", address, "vobox", SITE, SystemClock().now())
        (root / "etc/tls").mkdir(parents=True)
        for folder in ("log", "data", "run"):
            (root / folder).mkdir()
        for name, source in {
            "tls/ca.pem": files.ca, "tls/host.pem": files.certificate, "tls/host.key": files.key,
            "token-keys.json": files.token_keys,
        }.items():  # fmt: skip
            (root / "etc" / name).write_bytes(source.read_bytes())
        config = {
            "vo": VO, "site": SITE, "machine": "box", "address": address, "method": "http", "repositories": [],
            "central": f"https://127.0.0.1:{central.ports['central']}",
            "broker": f"https://127.0.0.1:{central.ports['broker']}",
            "clustermonitor": f"https://{address}:8445", "storage_elements": [{"name": "SE"}],
            "computing_elements": [{"name": "farm", "batch": {"kind": "fork", "slots": 2}, "min_idle": 1, "ttl": 7200}],
        }  # fmt: skip
        (root / "etc/vobox.json").write_text(json.dumps(config))

    def start(self, *programs: str, code: Path | None = None) -> None:
        for program in programs:
            command = [sys.executable, "-m", "orchestrator.wiring.vobox", program, "--root", str(self.root)]
            command += ["--name", "farm"] if program == "ce" else []
            self.processes[program] = started(command, code, ORCHESTRATE_MACHINE=str(self.root))

    def stop(self) -> None:
        """No program and no agent is left."""
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait(30)
        for file in (self.root / "data/ce/farm").glob("*/pid"):
            with contextlib.suppress(OSError, ValueError):
                os.killpg(int(file.read_text().split()[0]), signal.SIGKILL)

    def log(self) -> str:
        return "\n".join(f"{file.name}:\n{file.read_text()[-3000:]}" for file in self.root.rglob("*.log"))


def _outputs(job: Assignment) -> tuple[Output, ...]:
    guid = f"{job.task:08x}-0000-4000-8000-{job.attempt:012x}"
    return tuple(
        Output(f"{job.jdl['OutputDir']}/{name}", guid, 3, "0" * 32, "0" * 8, "SE", f"/{guid}/{name}")
        for name in job.jdl["OutputFile"]
    )


def _listens(pid: int) -> bool:
    """Whether a process has a socket that listens on TCP."""
    listening = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(file)
                if target.startswith("socket:[") and target[8:-1] in listening:
                    return True
    return False


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, context=context, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def standing(root: Path, database: str) -> Iterator[Central]:
    """A machine whose programs are all gone after."""
    made = Central(root, database)
    try:
        yield made
    finally:
        made.stop(how=signal.SIGKILL)
