"""Match and claim, durable, with real ads: in process, over HTTPS, in bulk, and at 10⁴ and many more waiting tasks.

    python tests/benchmarks/queue/claims.py [--most 10000000] [--seconds 5]

Beside it, on the same server and in the same run, the bare loop that only takes the next row.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import uvloop

sys.path.insert(0, str(Path(__file__).parent / "lab"))
sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
import world
from peers.figures import Figures

from orchestrator.jobs.kind import JobKind
from orchestrator.runtime.security import new_token_key
from orchestrator.runtime.sql import Database
from orchestrator.tasks import client
from orchestrator.tasks.broker import Broker
from orchestrator.tasks.hub import Hub

CLASSES, CLIENTS = 1000, 8
_BARE = """
UPDATE bare SET state = 'ASSIGNED' WHERE id = (
    SELECT id FROM bare WHERE state = 'WAITING' ORDER BY priority DESC, id LIMIT 1 FOR UPDATE SKIP LOCKED)
"""


async def rate(seconds: float, one: Callable[[int, int], Awaitable[int]]) -> tuple[float, list[float]]:
    """Tasks per second of CLIENTS that call ``one(client, turn)`` in turn, and the seconds of each call."""
    took: list[float] = []
    done = 0
    end = time.perf_counter() + seconds

    async def run(number: int) -> None:
        nonlocal done
        turn = 0
        while (begin := time.perf_counter()) < end:
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


async def in_process(url: str, seconds: float, count: int = 1) -> float:
    """The broker itself, without HTTP; tokens are signed."""
    from orchestrator.auth.issuer import Issuer
    from orchestrator.auth.store import People
    from orchestrator.runtime.clock import SystemClock
    from orchestrator.runtime.security import TokenSigner

    async with Database(url, size=4) as database:
        clock = SystemClock()
        issuer = Issuer(TokenSigner(world.VO, new_token_key()), People(database), b"", clock)
        broker = Broker(
            database, {"job": JobKind(None)}, Hub(database, ["waiting"]), issuer.job, None, clock.now
        )

        async def one(number: int, turn: int) -> int:
            return len(
                (
                    await broker.claim(
                        world.SITE, world.ad(number, 8 * count if count > 1 else 1), count, 0.0, f"{turn}"
                    )
                ).tasks
            )

        await asyncio.gather(*(one(number, -1) for number in range(CLIENTS)))
        return (await rate(seconds, one))[0]


async def over_https(central: world.Central, seconds: float, count: int) -> tuple[float, list[float]]:
    """Clients with kept connections to a broker's process."""
    async with central.api("broker", central.vobox()) as api:

        async def one(number: int, turn: int) -> int:
            found = await client.claim(
                api,
                world.ad(number, 8 * count if count > 1 else 1),
                count=count,
                claim_id=f"{time.time_ns()}-{turn}",
            )
            return len(found.tasks)

        await asyncio.gather(*(one(number, -1) for number in range(CLIENTS)))
        return await rate(seconds, one)


async def measure(url: str, folder: Path, most: int, seconds: float) -> int:
    figure = Figures()
    await world.tables(url)
    floor = await bare(url, seconds)
    figure("claim_bare_loop", floor, "tasks/s")
    flat = {}
    for tasks in (10_000, most):
        await asyncio.to_thread(world.fill, url, max(tasks, 10_000), CLASSES)
        if tasks == 10_000:
            await asyncio.to_thread(world.fill, url, 100_000, CLASSES)
        flat[tasks] = await in_process(url, seconds)
        figure(f"claim_in_process_at_{tasks}", flat[tasks], "tasks/s")
    figure("claim_in_process_to_bare", flat[10_000] / floor, "ratio", least=0.5)
    figure("claim_flat", flat[most] / flat[10_000], "ratio", least=0.8)
    central = world.Central(folder, url)
    try:
        pid = central.start("broker")
        found, took = await over_https(central, seconds, 1)
        figure("claim_https", found, "tasks/s", least=1500)
        figure("claim_https_p99", 1000 * took[int(0.99 * len(took))], "ms", 25)
        found, _ = await over_https(central, seconds, 64)
        figure("claim_https_by_64", found, "tasks/s", least=15_000)
        figure("broker_memory", world.rss(pid), "MB")
    finally:
        central.stop()
    return figure.end()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--most", type=int, default=10_000_000, help="waiting tasks at the upper end")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    chosen = parser.parse_args()
    with world.server() as url, tempfile.TemporaryDirectory(prefix="queue.") as folder:
        return uvloop.run(measure(url, Path(folder), chosen.most, chosen.seconds))


if __name__ == "__main__":
    sys.exit(main())
