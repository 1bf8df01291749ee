"""A site in a directory, used as a person does: by the command line, and by the client that it stands on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.catalogue import client as catalogue
from orchestrator.errors import NotFound
from orchestrator.jobs import client as jobs
from orchestrator.jobs.model import FINAL
from orchestrator.runtime.http import Api
from orchestrator.wiring.grid import connect
from tests.e2e import traces

ROOT = Path(__file__).parents[2]
SITES, PRODUCTION = ROOT / "templates/sites", ROOT / "templates/production"
ORCHESTRATE = (sys.executable, "-m", "orchestrator.cli.main")
ECHO = 'Executable = "/bin/echo";\nArguments = "hello $1";\nOutputFile = {"stdout"};\nTTL = 600;\n'
Json = dict[str, Any]
T = TypeVar("T")


def wait_for(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """What ``look`` gives as soon as it is true; AssertionError after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; last seen: {found!r}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Machine:
    """One machine as the inventory tells it."""

    name: str
    root: Path
    address: str


@dataclass(frozen=True)
class Grid:
    """The site of ``file``. ``cache`` keeps the agent file for all sites of a test run."""

    file: Path
    cache: Path

    @classmethod
    def of(cls, directory: Path, spec: str | Path, cache: Path) -> Grid:
        """A site spec (text, or the name of a shipped one) in ``directory``; nothing is up."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "site.yaml"
        file.write_text(spec if isinstance(spec, str) else (SITES / spec).read_text())
        return cls(file, cache)

    @property
    def directory(self) -> Path:
        return self.file.parent

    @property
    def environment(self) -> dict[str, str]:
        dropped = ("ORCHESTRATE_SITE", "ORCHESTRATE_VO", "ORCHESTRATE_DEBUG")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return kept | {"ORCHESTRATE_CACHE": str(self.cache), "COLUMNS": "200"}

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """``orchestrate words`` in the site's directory, running."""
        return subprocess.Popen(
            [*ORCHESTRATE, *map(str, words)],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str | Path, code: int = 0) -> str:
        """What ``orchestrate words`` printed; AssertionError when its exit code is another."""
        begun = self.start(*words)
        try:
            said, _ = begun.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            os.killpg(begun.pid, signal.SIGKILL)
            raise
        assert begun.returncode == code, (
            f"orchestrate {' '.join(map(str, words))}: {begun.returncode}\n{said}"
        )
        return said

    def json(self, *words: str | Path) -> Any:
        """What a verb prints for programs."""
        return json.loads(self.run(*words, "--json"))

    def machines(self) -> list[Machine]:
        """All machines of the site."""
        hosts = self.json("inventory")["_meta"]["hostvars"]
        return [
            Machine(name, Path(told["orchestrate_root"]), told["orchestrate_address"])
            for name, told in hosts.items()
        ]

    def machine(self, group: str) -> Machine:
        """The machine of a group that has one."""
        (found,) = (each for each in self.machines() if f"-{group}-" in each.name)
        return found

    def ask(self, act: Callable[[Api], Awaitable[T]]) -> T:
        """``act`` with a connection to central; a central that is away for a while is waited for."""

        async def main() -> T:
            async with connect(self.file, patience=60.0) as grid:
                return await act(grid.central)

        return asyncio.run(main())

    def submit(self, jdl: str, *arguments: str) -> int:
        """The number of a new job, by the command line."""
        file = self.directory / f"job-{time.monotonic_ns()}.jdl"
        file.write_text(jdl)
        return int(self.json("job", "submit", file, *arguments)["task"])

    def job(self, number: int) -> Json:
        """All about one job."""
        return self.ask(lambda central: jobs.show(central, number))

    def parts(self, master: int) -> list[Json]:
        """The parts of a master."""
        return self.ask(lambda central: jobs.listing(central, master=master))

    def finished(self, number: int, seconds: float = 60.0) -> Json:
        """That job, once it is final."""

        def look() -> Json | None:
            found = self.job(number)
            return found if found["state"] in FINAL else None

        return wait_for(f"job {number} is final", seconds, look)

    def hello(self, word: str = "world") -> Json:
        """An echo job, run to its end and its output read back."""
        done = self.finished(self.submit(ECHO, word))
        assert done["state"] == "DONE", done
        assert self.run("job", "output", str(done["id"])) == f"hello {word}\n"
        return done

    def put_production(self) -> None:
        """The production's scripts are in the catalogue."""

        async def put(central: Api) -> None:
            for name in ("generate.py", "merge.py", "merge.jdl"):
                try:
                    await catalogue.stat(central, f"/alice/pythia/{name}")
                except NotFound:
                    await catalogue.put(central, PRODUCTION / name, f"/alice/pythia/{name}")

        self.ask(put)

    def produce(self, run: int, parts: int, events: int) -> int:
        """The shipped production with so many parts and events a part; returns the master's number."""
        text = (PRODUCTION / "production.jdl").read_text()
        for old, new in (("production:1-4", f"production:1-{parts}"), (" 500 ", f" {events} ")):
            assert old in text
            text = text.replace(old, new)
        return self.submit(text, str(run))

    def merged(self, run: int) -> bytes:
        """The merged result, fetched from the catalogue."""
        target = self.directory / f"merged-{run}.json"
        self.run("file", "get", f"/alice/sim/pythia/run{run}/merged/merged.json", target)
        return target.read_bytes()

    def down(self) -> None:
        """Nothing is left of the site on this host: no process, no listener, no file but what we wrote."""
        machines = self.machines()
        self.run("down", "--yes")
        self.nothing_left(machines)

    def nothing_left(self, machines: Sequence[Machine]) -> None:
        """AssertionError when anything of those machines, or of the site, is on this host."""
        assert not traces.processes(self.directory)
        assert not traces.listeners({each.address for each in machines})
        assert not (self.directory / ".orchestrate").exists()


@contextlib.contextmanager
def leaving_nothing(grid: Grid) -> Iterator[Grid]:
    """Whatever happens inside, nothing is left of the site after."""
    try:
        yield grid
    finally:
        if (grid.directory / ".orchestrate").exists():
            grid.down()


@contextlib.contextmanager
def standing(grid: Grid) -> Iterator[Grid]:
    """The site is up inside, and nothing is left of it after."""
    with leaving_nothing(grid):
        print(grid.run("up"))
        yield grid


def echo_turnarounds(grid: Grid, count: int) -> list[float]:
    """Seconds from the submit request received to the DONE event, by central's clock, of ``count`` jobs in a row."""

    async def one(central: Api) -> float:
        number = (await jobs.submit(central, ECHO, ["again"]))["task"]
        times = {}
        async for event in jobs.watch(central, number):
            times[event["new"]] = event["at"]
            if event["new"] in FINAL:
                break
        assert "DONE" in times, times
        return float(times["DONE"] - times["INSERTING"])

    async def all_of_them(central: Api) -> list[float]:
        return [await one(central) for _ in range(count)]

    return grid.ask(all_of_them)


def figure(name: str, value: float, unit: str, limit: float) -> str:
    """A figure as `make bench` prints it."""
    return f"figure {name} {value:.3g} {unit} goal <= {limit:g}"
