"""Agents, brokers, central and PostgreSQL as real processes, killed at random: every task ends once, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.auth import model as auth
from orchestrator.auth.authority import Authority
from orchestrator.classads import Ad
from orchestrator.jobs import model
from orchestrator.runtime import postgres
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.signing import TokenSigner
from orchestrator.runtime.sql import Database, migrate
from orchestrator.tasks import store
from orchestrator.tasks.store import New
from orchestrator.wiring.central import COMPONENTS

TASKS, AGENTS, BROKERS, KILLS = 600, 6, 2, 14
SITE, VO = "CERN", "vo"
FINAL = sorted(model.FINAL)


class World:
    """The processes, by name; each can be killed and comes back."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, SystemClock()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.authority = Authority(root / "keys", VO)
        self.authority.ensure(self.clock.now())
        files = self.authority.host("central", "127.0.0.1", "central", SITE, self.clock.now())
        assert files.token_signing is not None
        (root / "etc/tls").mkdir(parents=True)
        for name, source in {
            "tls/ca.pem": files.ca, "tls/host.pem": files.certificate, "tls/host.key": files.key,
            "token-keys.json": files.token_keys, "token-signing.json": files.token_signing,
        }.items():  # fmt: skip
            (root / "etc" / name).write_bytes(source.read_bytes())
        self.ports = {name: _free_port() for name in ("central", "broker")}
        config = {
            "vo": VO, "database": "", "address": "127.0.0.1", "ports": self.ports, "token_lifetime": 3600.0,
        }  # fmt: skip
        (root / "etc/central.json").write_text(json.dumps(config))
        signer = TokenSigner(VO, read_json(self.authority.directory / "token-signing.json"))
        self.token = signer.sign(auth.host_claims("vobox-1", "vobox", SITE), self.clock.now(), 3600.0)
        self.born = 0

    @property
    def url(self) -> str:
        return postgres.url(self.root)

    def start(self, name: str) -> None:
        kind = name.partition("-")[0]
        if kind == "postgres":
            command = postgres.command(self.root)
        elif kind == "agent":
            self.born += 1
            base = [f"https://127.0.0.1:{self.ports[each]}" for each in ("broker", "central")]
            own = f"{name}-{self.born}"
            command = [
                sys.executable, str(Path(__file__).with_name("agent_process.py")), *base, str(self.authority.ca), self.token,
                own, str(self.root / f"{own}.journal"), str(self.born),
            ]  # fmt: skip
        else:
            command = [sys.executable, "-m", "orchestrator.wiring.central", kind, "--root", str(self.root)]
        self.processes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        """PostgreSQL crashes (its backends too), the others get SIGKILL; a new one is started."""
        self.processes[name].send_signal(signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
        self.processes[name].wait(30)
        self.start(name)

    def accepted(self) -> Counter[tuple[int, int, str]]:
        """What agents were told to be accepted, and how often."""
        found: Counter[tuple[int, int, str]] = Counter()
        for journal in self.root.glob("*.journal"):
            for line in journal.read_text().splitlines():
                with contextlib.suppress(ValueError):  # the last line of one that was killed
                    task, attempt, state, taken = json.loads(line)
                    found[task, attempt, state] += taken
        return found


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        for name, process in sorted(made.processes.items()):  # PostgreSQL goes last but for nothing
            process.send_signal(signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
        for process in made.processes.values():
            process.wait(30)


async def fill(url: str) -> None:
    """Tasks of several classes and owners wait."""
    async with Database(url, size=1) as database:
        await migrate(database, COMPONENTS)
        spec = {"jdl": {"TTL": 60, "Executable": "x", "OutputDir": "/vo/x"}, "own": ""}
        for number in range(6):
            owner = f"user{number % 3}"
            async with database.transaction() as connection:
                ad = Ad({"Type": "job", "User": owner, "CPUCores": 1 + number % 2, "Number": number})
                known = await store.class_id(connection, "job", owner, ad, SITE if number == 5 else "")
                new = [New(spec, known, 1.0 + number)] * (TASKS // 6)
                await store.submit(
                    connection, "job", owner, "WAITING", new, actor="test", max_attempts=50, lasts=3600.0
                )


def open_tasks(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM grid.task WHERE state <> ALL(%s)", (FINAL,)
        ).fetchone()
        return int(found[0]) if found else -1


@pytest.mark.timeout(240)
def test_every_task_ends_once_whoever_is_killed(world: World) -> None:
    chance = random.Random(int(os.environ.get("SEED", "7")))
    world.start("postgres")
    until(lambda: psycopg.connect(world.url).close() is None)
    asyncio.run(fill(world.url))
    for name in ("central-1", *(f"broker-{n}" for n in range(BROKERS)), "optimizer-1"):
        world.start(name)
    for number in range(AGENTS):
        world.start(f"agent-{number}")
    until(lambda: open_tasks(world.url) < TASKS - 20)
    killed: Counter[str] = Counter()
    while killed.total() < KILLS:
        victims = [name for name in world.processes if name.partition("-")[0] in ("broker", "agent")]
        name = (
            "postgres" if killed.total() in (4, 9) else chance.choice([*victims, "central-1", "optimizer-1"])
        )
        world.kill(name)
        killed[name.partition("-")[0]] += 1
        left = open_tasks(world.url) if name != "postgres" else TASKS
        some = left - chance.randint(1, 20)  # work goes on before the next one is killed
        until(lambda some=some: open_tasks(world.url) <= max(0, some))  # type: ignore[misc]
    until(lambda: open_tasks(world.url) == 0, within=150)
    check(world, killed)


def check(world: World, killed: Counter[str]) -> None:
    with psycopg.connect(world.url) as connection:
        states = Counter(row[0] for row in connection.execute("SELECT state FROM grid.task"))
        events = connection.execute(
            "SELECT task, seq, attempt, old, new FROM grid.task_event ORDER BY task, seq"
        ).fetchall()
        counts = connection.execute("SELECT sum(waiting) FROM grid.class_now").fetchone()
    assert states == {"DONE": TASKS}, states
    assert counts == (0,)
    told = world.accepted()
    by_task: dict[int, list[tuple[int, int, str, str]]] = {}
    for task, *event in events:
        by_task.setdefault(task, []).append(tuple(event))
    again = 0
    for task, known in by_task.items():
        assert [seq for seq, *_ in known] == list(range(1, len(known) + 1)), f"{task}: a gap in {known}"
        for (_, _, _, new), (_, _, old, _) in itertools.pairwise(known):
            assert new == old, f"{task}: {known}"
        attempts = [attempt for _, attempt, *_ in known]
        assert attempts == sorted(attempts), f"{task}: an attempt spoke after the next had begun: {known}"
        given = Counter(attempt for _, attempt, _, new in known if new == "ASSIGNED")
        assert set(given.values()) == {1}, f"{task}: an attempt was given twice: {known}"
        assert [new for *_, new in known].count("DONE") == 1
        last = attempts[-1]
        again += last > 1
        done = {
            attempt: count
            for (of, attempt, state), count in told.items()
            if of == task and state == "DONE" and count
        }
        assert set(done) <= {last}, f"{task}: done in {done}, by the record in attempt {last}"
    assert len(by_task) == TASKS
    assert again > 0, f"nobody who was killed ({killed}) had a task"


def until(true: object, within: float = 60.0) -> None:
    """``true()`` has come true; a database that is away is waited for."""
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        with contextlib.suppress(psycopg.OperationalError):
            if true():  # type: ignore[operator]
                return
        time.sleep(0.02)
    raise AssertionError(f"not so within {within} s")
