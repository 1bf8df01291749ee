"""Claims per second of procrastinate: URL SECONDS CLIENTS JOBS. Run by its own Python, prints one number."""

import asyncio
import sys
import time

import procrastinate


async def main(url, seconds, clients, jobs):
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=clients, max_size=clients)
    app = procrastinate.App(connector=connector)

    @app.task(name="work", queue="q")
    def work(number):
        pass

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, jobs, 1000):
            await work.batch_defer_async(*({"number": start + n} for n in range(1000)))
        await connector.execute_query_async("ANALYZE")
        done, end = 0, time.perf_counter() + seconds

        async def run():
            nonlocal done
            worker = await app.job_manager.register_worker()
            while time.perf_counter() < end:
                assert await app.job_manager.fetch_job(["q"], worker) is not None
                done += 1

        begin = time.perf_counter()
        await asyncio.gather(*(run() for _ in range(clients)))
        print(done / (time.perf_counter() - begin))


asyncio.run(main(sys.argv[1], *(int(each) for each in sys.argv[2:])))
