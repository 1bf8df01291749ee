"""A PostgreSQL with waiting tasks of real classes, and the ads of resources that ask: what the queue benches share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from load import Line

from orchestrator.agent.model import machine_ad
from orchestrator.auth import model as auth
from orchestrator.auth.authority import Authority
from orchestrator.jobs.requirements import task_ad
from orchestrator.runtime import postgres
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.http import Api, tls_context
from orchestrator.runtime.signing import TokenSigner
from orchestrator.runtime.sql import Database, migrate
from orchestrator.wiring.central import COMPONENTS

GIB = 1024**3
SITE, VO = "CERN", "bench"


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of an embedded PostgreSQL in a temporary folder, as `orchestrate up` runs it."""
    with tempfile.TemporaryDirectory(prefix="queue.") as folder:
        root = Path(folder)
        process = subprocess.Popen(postgres.command(root), stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(postgres.url(root)).close()
                    break
                time.sleep(0.1)
            yield postgres.url(root)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


async def tables(url: str) -> None:
    """The project's tables are there."""
    async with Database(url, size=1) as database:
        await migrate(database, COMPONENTS)


async def database(server: str, name: str) -> str:
    """The URL of a new database with the project's tables on this server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = server.replace("/grid?", f"/{name}?")
    await tables(url)
    return url


def disk(url: str, table: str) -> float:
    """Bytes of a table with its indexes and what stands out of line."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_total_relation_size(%s)", (table,)).fetchone()
    assert found is not None
    return float(found[0])


def jdl(number: int, users: int = 20) -> dict[str, Any]:
    """What the jobs of class ``number`` ask for: some users, packages, times, sizes; a tenth is for big nodes."""
    return {
        "Executable": "/bin/simulate",
        "Arguments": f"--run {number}",
        "OutputDir": f"/{VO}/sim/2026/{number:05d}",
        "OutputFile": ["histos.root", "stdout"],
        "Packages": [f"AliRoot::v5-{number % 10:02d}"],
        "TTL": 3600 * (1 + number % 7),
        "CPUCores": 8 if number % 10 == 3 else 1,
        "MemorySize": (2 + number % 3) * GIB,
        "WorkDirectorySize": (2 + number % 50) * GIB // 2,
        "Price": 1.0,
        "User": f"user{number % users}",
    }


def fill(url: str, tasks: int, classes: int, users: int = 20, apart: float = 1.0) -> None:
    """``tasks`` jobs of some users wait in ``classes`` classes, each of them ``apart`` seconds longer than the one before.

    Nothing is left to tidy up behind it: rows come frozen, statistics are made, all is on disk.
    """
    with psycopg.connect(url) as connection:
        connection.execute(
            "TRUNCATE grid.task_event, grid.task, grid.task_class, grid.class_taken, grid.resource CASCADE"
        )
        each, lines = tasks // classes, []
        (now,) = connection.execute("SELECT now()").fetchone() or ()
        for number in range(classes):
            wanted, since = jdl(number, users), now - timedelta(seconds=number * apart)
            ad, owner = task_ad(wanted, wanted["User"], ""), wanted["User"]
            row = connection.execute(
                "INSERT INTO grid.task_class (kind, owner, site, digest, ad, waiting, best_priority, oldest)"
                " VALUES ('job', %s, '', %s, %s, %s, 1, %s) RETURNING id",
                (owner, ad.digest(), ad.canonical(), each, since),
            ).fetchone()
            assert row is not None
            spec = json.dumps({"jdl": wanted, "own": ""})
            lines.append(f"job\t{owner}\tWAITING\t1\t{row[0]}\t{spec}\t2030-01-01\t{since.isoformat()}\n")
        columns = "(kind, owner, state, priority, class, spec, deadline, submitted)"
        with connection.cursor().copy(f"COPY grid.task {columns} FROM STDIN (FREEZE)") as copy:
            for line in lines:
                for start in range(0, each, 1000):
                    copy.write(line * min(1000, each - start))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE grid.task, grid.task_class")
        connection.execute("CHECKPOINT")


def ad(number: int, cores: int = 1) -> dict[str, Any]:
    """What a slot of ``cores`` cores on node ``number`` offers."""
    return {"Name": f"agent-{number}"} | machine_ad(
        site=SITE, ce="q", host=f"node{number}.cern.ch", cores=cores, memory=cores * 5 * GIB, disk=cores * 60 * GIB, ttl=86_400,
        arch="x86_64", os="linux", methods=("torrent", "http"), close_se=(f"{SITE}::SE",), isolation="uid",
    )  # fmt: skip


class Central:
    """A central machine's folder with real keys, and its programs as processes, over a given database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.root, self.processes = folder / "central", []
        self.clock = SystemClock()
        self.authority = Authority(folder / "keys", VO)
        self.authority.ensure(self.clock.now())
        self.signer = TokenSigner(VO, read_json(self.authority.directory / "token-signing.json"))
        files = self.authority.host("central", "127.0.0.1", "central", SITE, self.clock.now())
        assert files.token_signing is not None
        places = {
            "tls/ca.pem": files.ca, "tls/host.pem": files.certificate, "tls/host.key": files.key,
            "token-keys.json": files.token_keys, "token-signing.json": files.token_signing,
        }  # fmt: skip
        for name, source in places.items():
            (self.root / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / "etc" / name).write_bytes(source.read_bytes())
        self.ports = {name: free_port() for name in ("central", "broker")}
        config = {
            "vo": VO,
            "database": url,
            "address": "127.0.0.1",
            "ports": self.ports,
            "token_lifetime": 3600.0,
        }
        (self.root / "etc/central.json").write_text(json.dumps(config))

    def start(self, program: str) -> int:
        """Its process id; it listens a little later."""
        command = [sys.executable, "-m", "orchestrator.wiring.central", program, "--root", str(self.root)]
        process = subprocess.Popen(command)
        self.processes.append(process)
        return process.pid

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)

    @contextlib.asynccontextmanager
    async def api(self, program: str, claims: dict[str, Any]) -> AsyncIterator[Api]:
        """A client of one program with a token of these claims."""
        token = self.token(claims)

        async def source() -> str:
            return token

        base = f"https://127.0.0.1:{self.ports[program]}"
        async with Api(base, tls_context(self.authority.ca), source, patience=30.0) as api:
            yield api

    def token(self, claims: dict[str, Any]) -> str:
        """A token of these claims."""
        return self.signer.sign(claims, self.clock.now(), 3600.0)

    def line(self, program: str) -> Line:
        """A connection of the load generator to one program, which may be starting."""
        tls = tls_context(self.authority.ca)
        for _ in range(300):
            with contextlib.suppress(ConnectionRefusedError):
                return Line("127.0.0.1", self.ports[program], tls)
            time.sleep(0.1)
        raise TimeoutError(f"{program} does not listen")

    def vobox(self) -> dict[str, Any]:
        return auth.host_claims(f"{SITE}-vobox-1", "vobox", SITE)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def rss(pid: int) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    return sum(_stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


def postgres_cpu(url: str) -> float:
    """Seconds of CPU that a server and all its processes have used, ended ones included."""
    with psycopg.connect(url) as connection:
        mine = connection.info.backend_pid
        postmaster = _stat(mine)[1]
        pids = (
            int(each.name)
            for each in Path("/proc").iterdir()
            if each.name.isdecimal() and int(each.name) != mine
        )
        alive = 0.0
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = _stat(pid)
                alive += (fields[11] + fields[12]) * (fields[1] == postmaster)
        return (alive + sum(_stat(postmaster)[11:15])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat from the state on: [1] is the parent, [11:15] the clock ticks (proc(5))."""
    return [0, *map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1:])]
