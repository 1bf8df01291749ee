"""Lookups in the file catalogue by its HTTPS API, in bulk and one by one, at 10⁵ and at many more LFNs.

    python tests/benchmarks/queue/catalogue.py [--most 10000000] [--seconds 10]

The tree is that of a production, /bench/sim/YEAR/RUN/NNN/FILE, with one to three copies of each file; it is filled by
COPY, with every index, key and trigger in place. `run` asks for the files of one run, as the split of a job does;
`scattered` for files anywhere, which no cache helps. Client, central and PostgreSQL share this host; what comes
back is checked. 10⁷ LFNs take about 10 GB in the temporary directory and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import world
from peers.figures import Figures

from orchestrator.auth.model import Person, user_claims
from orchestrator.catalogue import client, model
from orchestrator.runtime.http import Api

FEW = 100_000
FILES, PARTS = 10, 100  # files of a directory NNN, directories of a run
IN_RUN = FILES * PARTS
BULK, CLIENTS = 1000, 4
OWNER, TOP = "prod", f"/{world.VO}/sim"
NAMES = [f"{name}.root" for name in ("AliESDs", "AliAODs", "Kinematics", "galice", "TrackRefs", "QAresults")]
NAMES += ["simwatch.log", "rec.log", "histos.json", "stdout"]
ROUNDS, EPOCH = 5, 1.6e9
GOAL_BULK, GOAL_P99, GOAL_FLAT = 5000.0, 5.0, 0.8


def lfn(number: int) -> str:
    """The LFN of file ``number`` of the production."""
    run, rest = divmod(number, IN_RUN)
    part, name = divmod(rest, FILES)
    return f"{directory(run)}/{part:03d}/{NAMES[name]}"


def directory(run: int) -> str:
    """Where a run is: a thousand of them in a year."""
    return f"{TOP}/{2010 + run // 1000}/{run:06d}"


def copies(number: int) -> int:
    """How many copies file ``number`` has: half of them one, the others two or three."""
    return (1, 1, 2, 3)[number % 4]


def guid(run: int, part: int) -> str:
    """What central gave a file: a hundred jobs run at once, each one part of its run in twenty minutes."""
    group, place = divmod(run, 100)
    return model.new_guid(EPOCH + 1200.0 * (group * PARTS + part) + 12.0 * place, secrets.randbits(66))


def fill(url: str, start: int, end: int) -> None:
    """Files ``start`` to ``end`` (whole runs) are there, with their directories and copies."""
    runs = range(start // IN_RUN, end // IN_RUN)
    with psycopg.connect(url) as connection:
        above = sorted({TOP, *(directory(run).rpartition("/")[0] for run in runs)})
        for path in above:
            values = (path, path.rpartition("/")[0], OWNER)
            connection.execute(
                "INSERT INTO grid.entry (path, parent, owner, mode) VALUES (%s, %s, %s, 493) ON CONFLICT DO NOTHING",
                values,
            )
    with psycopg.connect(url) as connection:
        for first in range(runs.start, runs.stop, 100):
            block(connection, range(first, min(first + 100, runs.stop)))
            connection.commit()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE grid.entry, grid.replica")
        connection.execute("CHECKPOINT")


def block(connection: psycopg.Connection, runs: range) -> None:
    """Some runs by one COPY a table."""
    entries, replicas = [], []
    for run in runs:
        home = directory(run)
        entries.append(f"{home}\t{home.rpartition('/')[0]}\t{OWNER}\t493\t\\N\t0\t\t\n")
        for part in range(PARTS):
            folder = f"{home}/{part:03d}"
            entries.append(f"{folder}\t{home}\t{OWNER}\t493\t\\N\t0\t\t\n")
            for name in range(FILES):
                number, text = (run * PARTS + part) * FILES + name, guid(run, part)
                facts = f"{number % 1_000_000_007}\t{text.replace('-', '')}\t{number & 0xFFFFFFFF:08x}"
                entries.append(f"{folder}/{NAMES[name]}\t{folder}\t{OWNER}\t420\t{text}\t{facts}\n")
                for copy in range(copies(number)):
                    replicas.append(f"{text}\tSITE{(number * 7 + copy) % 40:02d}::SE\t/{text[:2]}/{text}\n")
    with connection.cursor() as cursor:
        columns = "(path, parent, owner, mode, guid, size, md5, adler32)"
        with cursor.copy(f"COPY grid.entry {columns} FROM STDIN") as out:
            out.write("".join(entries))
        with cursor.copy("COPY grid.replica (guid, se, pfn) FROM STDIN") as out:
            out.write("".join(replicas))


def a_run(chance: random.Random, files: int) -> list[int]:
    """The files of one run."""
    run = chance.randrange(files // IN_RUN)
    return list(range(run * IN_RUN, run * IN_RUN + BULK))


def scattered(chance: random.Random, files: int) -> list[int]:
    """Files from anywhere."""
    return [chance.randrange(files) for _ in range(BULK)]


CHOOSE: dict[str, Callable[[random.Random, int], list[int]]] = {"run": a_run, "scattered": scattered}


def check(found: dict[str, client.Placed], asked: Sequence[int]) -> None:
    """Every file came, with its size and as many storage elements as it has copies."""
    for number in asked:
        placed = found[lfn(number)]
        assert (placed.size, len(placed.ses)) == (number % 1_000_000_007, copies(number)), placed


async def bulk(
    api: Api, seconds: float, files: int, choose: Callable[[random.Random, int], list[int]]
) -> float:
    """LFNs looked up in a second, by some clients that ask for BULK at once."""
    end, done = time.perf_counter() + seconds, 0

    async def run(number: int) -> None:
        nonlocal done
        chance = random.Random(f"{files}/{number}")
        asked: list[int] = []
        while time.perf_counter() < end:
            asked = choose(chance, files)
            found = await client.lookup(api, [lfn(each) for each in asked])
            done += len(asked)
        check(found, asked)

    begin = time.perf_counter()
    await asyncio.gather(*(run(number) for number in range(CLIENTS)))
    return done / (time.perf_counter() - begin)


async def single(api: Api, seconds: float, files: int) -> list[float]:
    """Milliseconds of each lookup of one LFN anywhere, one after the other, in order of length."""
    chance, took, end = random.Random(files), list[float](), time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        number = chance.randrange(files)
        found = await client.lookup(api, [lfn(number)])
        took.append(1000 * (time.perf_counter() - begin))
        check(found, [number])
    return sorted(took)


class Measured:
    """Rates and waits of one catalogue, over some rounds."""

    def __init__(self, api: Api, files: int) -> None:
        self.api, self.files, self.took = api, files, list[float]()
        self.rates: dict[str, list[float]] = {"run": [], "scattered": [], "single": []}

    async def round(self, name: str, seconds: float) -> None:
        """One more measurement of what ``name`` says."""
        if name == "single":
            took = await single(self.api, seconds, self.files)
            self.took += took
            self.rates[name].append(1000 * len(took) / sum(took))
        else:
            self.rates[name].append(await bulk(self.api, seconds, self.files, CHOOSE[name]))

    def tell(self, figure: Figures) -> None:
        """The medians of the rounds."""
        for name, rates in self.rates.items():
            least = None if name == "single" else GOAL_BULK
            figure(f"catalogue_{name}_{self.files:.0e}", statistics.median(rates), "LFN/s", least=least)
        took = sorted(self.took)
        figure(f"catalogue_single_p50_{self.files:.0e}", took[len(took) // 2], "ms")
        figure(f"catalogue_single_p99_{self.files:.0e}", took[len(took) * 99 // 100], "ms", GOAL_P99)


async def run(url: str, most: int, seconds: float) -> int:
    """0 when all goals are met. Both catalogues are there at once and asked in turn: what else the host does hits both."""
    figure = Figures()
    print(
        "lookups by POST /v1/catalogue/lookup over HTTPS, one central process for each catalogue", flush=True
    )
    async with contextlib.AsyncExitStack() as stack:
        few, _ = await catalogue(stack, url, "few", FEW)
        begin = time.monotonic()
        many, pid = await catalogue(stack, url, "many", most)
        figure("catalogue_fill", most / (time.monotonic() - begin), "LFN/s")
        figure("catalogue_disk", size(database(url, "many")) / most, "B/LFN")
        for name in few.rates:
            for each in (few, many):
                await each.round(name, seconds)  # warms it up: the large one's pages come into memory
                each.rates[name], each.took = [], []
            for _ in range(ROUNDS):
                for each in (few, many):
                    await each.round(name, seconds / ROUNDS)
        few.tell(figure)
        many.tell(figure)
        for name, rates in many.rates.items():
            ratios = [rate / other for rate, other in zip(rates, few.rates[name], strict=True)]
            figure(f"catalogue_flat_{name}", statistics.median(ratios), "of that at 1e+05", least=GOAL_FLAT)
        figure("catalogue_rss", world.rss(pid), "MB")
    return figure.end()


async def catalogue(
    stack: contextlib.AsyncExitStack, url: str, name: str, files: int
) -> tuple[Measured, int]:
    """A database of its own with so many files, and a central process that serves it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    own = database(url, name)
    await world.tables(own)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="catalogue."))
    central = world.Central(Path(folder), own)
    stack.callback(central.stop)
    pid = central.start("central")
    api = await stack.enter_async_context(central.api("central", user_claims(Person(OWNER, ("user",)))))
    await client.stat(api, f"/{world.VO}")  # it is up, and has made the top of the tree
    await asyncio.to_thread(fill, own, 0, files)
    return Measured(api, files), pid


def database(url: str, name: str) -> str:
    return url.replace("/grid?", f"/{name}?")


def size(url: str) -> float:
    """Bytes of the database on disk."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert found is not None
        return float(found[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--most", type=int, default=10_000_000, help="LFNs of the large catalogue, whole runs of 1000"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    chosen = parser.parse_args()
    with world.server() as url:
        return uvloop.run(run(url, chosen.most // IN_RUN * IN_RUN, chosen.seconds))


if __name__ == "__main__":
    sys.exit(main())
