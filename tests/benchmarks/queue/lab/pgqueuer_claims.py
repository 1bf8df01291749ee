"""Claims per second of pgqueuer: URL SECONDS CLIENTS JOBS BATCH. Run by its own Python, prints one number."""

import asyncio
import sys
import time
import uuid
from datetime import timedelta

import psycopg
from pgqueuer.db import PsycopgDriver
from pgqueuer.queries import EntrypointExecutionParameter, Queries


async def main(url, seconds, clients, jobs, batch):
    async def opened():
        return Queries(PsycopgDriver(await psycopg.AsyncConnection.connect(url, autocommit=True)))

    queries = [await opened() for _ in range(clients)]
    await queries[0].install()
    for _ in range(0, jobs, 1000):
        await queries[0].enqueue(["work"] * 1000, [None] * 1000, [0] * 1000)
    await queries[0].driver.execute("ANALYZE")
    done, end = 0, time.perf_counter() + seconds

    async def run(mine):
        nonlocal done
        manager = uuid.uuid4()
        while time.perf_counter() < end:
            entry = {"work": EntrypointExecutionParameter(0)}
            got = await mine.dequeue(batch, entry, manager, None, timedelta(hours=1))
            assert got, "nothing was left to claim"
            done += len(got)

    begin = time.perf_counter()
    await asyncio.gather(*map(run, queries))
    print(done / (time.perf_counter() - begin))


asyncio.run(main(sys.argv[1], *(int(each) for each in sys.argv[2:])))
