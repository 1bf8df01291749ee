"""One agent as a process: claims, runs, reports; what it was told stands in its journal.

python agent_process.py BROKER CENTRAL CA TOKEN NAME JOURNAL SEED
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

from orchestrator.errors import TemporaryError
from orchestrator.runtime.http import Api, tls_context
from orchestrator.tasks import client
from orchestrator.tasks.model import Assignment, Report

AD = {
    "TTL": 86400, "Cores": 4, "Memory": 64 * 1024**3, "Disk": 500 * 1024**3, "Packages": [],
    "InstallMethods": ["http"], "Requirements": 'other.Type == "job"',
}  # fmt: skip


async def run(broker: Api, central: Api, name: str, journal: Path, chance: random.Random) -> None:
    number = 0
    while True:
        number += 1
        ad = AD | {"Name": name, "Host": name}
        claim = f"{name}-{number}"
        while True:  # an answer that was lost is asked for again, under the same number
            try:
                found = await client.claim(broker, ad, count=chance.randint(1, 3), wait=2.0, claim_id=claim)
                break
            except TemporaryError:
                await asyncio.sleep(0.1)
        await asyncio.gather(*(work(central, each, journal, chance) for each in found.tasks))


async def work(central: Api, task: Assignment, journal: Path, chance: random.Random) -> None:
    for state in ("STARTED", "RUNNING", "SAVING", "DONE"):
        await asyncio.sleep(chance.uniform(0, 0.03))
        while True:
            try:
                (told,) = await client.report(central, [Report(task.task, task.attempt, state)])
                break
            except TemporaryError:
                await asyncio.sleep(0.1)
        with journal.open("a") as lines:
            lines.write(json.dumps([task.task, task.attempt, state, told.accepted]) + "\n")
        if not told.accepted:
            return


async def main() -> None:
    broker, central, ca, token, name, journal, seed = sys.argv[1:]

    async def source() -> str:
        return token

    async with (
        Api(broker, tls_context(Path(ca)), source, patience=2.0) as one,
        Api(central, tls_context(Path(ca)), source, patience=2.0) as other,
    ):
        await run(one, other, name, Path(journal), random.Random(int(seed)))


asyncio.run(main())
