"""Match and claim, durable, with real ads: in process, over HTTPS, in bulk, at 10⁴ and many more waiting tasks, and
when all of them are of one class.

    python tests/benchmarks/queue/claims.py [--most 10000000] [--seconds 5]

Beside it, on the same server and in the same run, the bare loop that only takes the next row. A machine's speed
changes from one minute to the next: what is compared is measured in turn, some laps of each, and a figure is the median
of the laps, a ratio that of the laps' ratios. 10⁷ tasks take about 8 GB in the temporary directory and five minutes
to fill.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import load
import world
from peers.figures import Figures

from orchestrator.auth.issuer import Issuer
from orchestrator.auth.store import People
from orchestrator.jobs.kind import JobKind
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.daemon import collect_seldom
from orchestrator.runtime.security import new_token_key
from orchestrator.runtime.signing import TokenSigner
from orchestrator.runtime.sql import Database
from orchestrator.tasks.broker import Broker
from orchestrator.tasks.hub import Hub

CLASSES, CLIENTS = 1000, 8
FEW, LAPS = 10_000, 5
WARM = 1_000  # claims before a lap
LAP = 6_000  # claims of a lap at most: of FEW, a tenth is for larger nodes, and some are to be left
_BARE = """
UPDATE bare SET state = 'ASSIGNED' WHERE id = (
    SELECT id FROM bare WHERE state = 'WAITING' ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED)
"""


async def rate(
    seconds: float, one: Callable[[int, int], Awaitable[int]], most: float = float("inf")
) -> tuple[float, list[float]]:
    """Tasks per second of CLIENTS that call ``one(client, turn)`` in turn until they have ``most``, and the seconds of
    each call."""
    took: list[float] = []
    done = 0
    end = time.perf_counter() + seconds

    async def run(number: int) -> None:
        nonlocal done
        turn = 0
        while (begin := time.perf_counter()) < end and done < most:
            got = await one(number, turn)
            assert got, "nothing was left to claim"
            took.append(time.perf_counter() - begin)
            done += got
            turn += 1

    begin = time.perf_counter()
    await asyncio.gather(*(run(number) for number in range(CLIENTS)))
    return done / (time.perf_counter() - begin), sorted(took)


async def bare(url: str, seconds: float) -> float:
    """The bare loop: one connection for each client, nothing but the next row, each commit durable."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("DROP TABLE IF EXISTS bare")
        await connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, priority float8, state text)")
        await connection.execute(
            "INSERT INTO bare (priority, state) SELECT 1, 'WAITING' FROM generate_series(1, 100000)"
        )
        await connection.execute("CREATE INDEX ON bare (priority DESC, id) WHERE state = 'WAITING'")
        await connection.execute("VACUUM ANALYZE bare")
    opened = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(CLIENTS)]

    async def one(number: int, _turn: int) -> int:
        return (await opened[number].execute(_BARE)).rowcount

    found, _ = await rate(seconds, one)
    for connection in opened:
        await connection.close()
    return found


async def in_process(url: str, seconds: float, count: int = 1, most: float = float("inf")) -> float:
    """The broker itself, without HTTP; tokens are signed."""
    async with Database(url, size=4) as database:
        clock = SystemClock()
        issuer = Issuer(TokenSigner(world.VO, new_token_key()), People(database), b"", clock)
        hub = Hub(database, ["waiting"])
        broker = Broker(database, {"job": JobKind(None)}, hub, issuer.job, None, clock.now)
        cores = 8 * count if count > 1 else 1
        ads = [world.ad(number, cores) for number in range(CLIENTS)]

        async def one(number: int, turn: int) -> int:
            found = await broker.claim(world.SITE, ads[number], count, 0.0, f"{time.time_ns()}-{turn}")
            return len(found.tasks)

        await rate(seconds, one, WARM)  # plans are made, classes judged
        return (await rate(seconds, one, most))[0]


def over_https(
    central: world.Central, seconds: float, count: int, most: float = float("inf")
) -> tuple[float, list[float]]:
    """Clients with kept connections to a central's brokers: tasks a second, and the seconds of each call."""
    host, token = f"127.0.0.1:{central.ports['broker']}", central.token(central.vobox())
    cores = 8 * count if count > 1 else 1
    mark = 19 * "0"  # as many digits as time.time_ns() has
    requests = []
    for number in range(CLIENTS):
        body = json.dumps({"ad": world.ad(number, cores), "count": count, "wait": 0.0, "claim": mark})
        requests.append(load.post("/v1/broker/claim", host, token, body.encode()).split(mark.encode()))

    def request(number: int) -> bytes:
        before, after = requests[number]
        return before + str(time.time_ns()).encode() + after

    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(contextlib.closing(central.line("broker"))) for _ in range(CLIENTS)]
        load.drive(lines, request, _tasks, 0.0, 1)
        return load.drive(lines, request, _tasks, seconds, most)


def _tasks(body: bytes) -> int:
    return body.count(b'"attempt":')  # one in each assignment


async def flat(few: str, one: str, many: str, seconds: float, figure: Figures) -> None:
    """In process: the bare loop, few waiting tasks, those of one class, and ``many``, in turn."""
    rates: dict[str, list[float]] = {"bare": [], "few": [], "one": [], "many": []}
    for _ in range(LAPS):
        await asyncio.to_thread(world.fill, few, FEW, CLASSES)
        rates["bare"].append(await bare(few, seconds / LAPS))
        for name, url in (("few", few), ("one", one), ("many", many)):
            rates[name].append(await in_process(url, seconds, most=LAP))

    def ratio(name: str, to: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[name], rates[to], strict=True))

    figure("claim_bare_loop", statistics.median(rates["bare"]), "tasks/s")
    figure("claim_in_process_at_few", statistics.median(rates["few"]), "tasks/s")
    figure("claim_in_process_at_most", statistics.median(rates["many"]), "tasks/s")
    figure("claim_in_process_to_bare", ratio("few", "bare"), "ratio", least=0.5)
    figure("claim_flat", ratio("many", "few"), "ratio", least=0.8)
    figure("claim_one_class_to_many_classes", ratio("one", "few"), "ratio", least=0.5)


def https(central: world.Central, tasks: int, seconds: float, figure: Figures) -> None:
    """Over HTTPS; then with as many brokers behind one address as there are cores."""
    for brokers in (1, 2):
        central.start("broker")
        over_https(central, seconds, 1, most=LAP // 2)
        name = "claim_https" if brokers == 1 else "claim_https_two_brokers"
        most = tasks / (8 * LAPS)
        laps = [over_https(central, seconds / 2, count, most) for count in (1, 64) * LAPS]
        found, bulk = laps[::2], laps[1::2]
        took = sorted(seconds for _, each in found for seconds in each)
        figure(
            name, statistics.median(lap for lap, _ in found), "tasks/s", least=1500 if brokers == 1 else None
        )
        figure(f"{name}_p99", 1000 * took[int(0.99 * len(took))], "ms", 25)
        least = 15_000 if brokers == 1 else None
        figure(f"{name}_by_64", statistics.median(lap for lap, _ in bulk), "tasks/s", least=least)


async def measure(server: str, folder: Path, most: int, seconds: float) -> int:
    figure = Figures()
    few, one, many = [await world.database(server, name) for name in ("few", "one", "many")]
    await asyncio.to_thread(world.fill, one, 10 * FEW, 1)
    begin = time.monotonic()
    await asyncio.to_thread(world.fill, many, most, CLASSES)
    figure("tasks_waiting", most, "tasks")
    figure("task_fill", most / (time.monotonic() - begin), "tasks/s")
    figure("task_disk", world.disk(many, "grid.task") / most, "B/task")
    await flat(few, one, many, seconds, figure)
    central = world.Central(folder, many)
    try:
        https(central, most, seconds, figure)
    finally:
        central.stop()
    return figure.end()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--most", type=int, default=10_000_000, help="waiting tasks at the upper end, 200000 or more"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    chosen = parser.parse_args()
    collect_seldom()  # as the programs of a central do; the bare loop has the same
    with world.server() as url, tempfile.TemporaryDirectory(prefix="queue.") as folder:
        return uvloop.run(measure(url, Path(folder), chosen.most, chosen.seconds))


if __name__ == "__main__":
    sys.exit(main())
