"""Several central and broker processes behind one address: any of them may be killed, and the others serve on."""

from __future__ import annotations

import asyncio
import signal

from orchestrator.jobs import client as jobs
from tests.support.central import ECHO, Central
from tests.support.until import until


async def test_one_is_killed_while_both_serve(machine: Central) -> None:
    """First the one, then the other: each of them serves alone for a while."""
    machine.start("central-1", "central-2", "broker-1", "broker-2", "optimizer-1")
    await machine.ready()
    stop, seen = asyncio.Event(), list[list[int]]()

    async def user(number: int) -> None:
        """Submits and looks; what was refused is tried again by the client, under the same request."""
        mine: list[int] = []
        seen.append(mine)
        while not stop.is_set():
            async with machine.api(f"user{number}", patience=20) as api:  # a new connection now and then
                for _ in range(5):
                    made = await jobs.submit(api, ECHO, request=f"{number}-{len(mine)}")
                    mine.append(int(made["task"]))
                    listed = {
                        each["id"] for each in await jobs.listing(api, owner=f"user{number}", limit=2000)
                    }
                    assert set(mine) <= listed

    async with asyncio.TaskGroup() as group:
        users = [group.create_task(user(number)) for number in range(4)]
        for one, other in (("1", "2"), ("2", "1")):
            before = [len(mine) for mine in seen] or [0] * 4
            await until(
                lambda before=before: (
                    len(seen) == 4 and all(len(m) > b + 5 for m, b in zip(seen, before, strict=True))
                )
            )
            machine.stop(f"central-{one}", f"broker-{one}", how=signal.SIGKILL)
            before = [len(mine) for mine in seen]
            await until(lambda before=before: all(len(m) > b + 5 for m, b in zip(seen, before, strict=True)))
            assert machine.processes[f"central-{other}"].poll() is None
            assert await machine.claim(wait=20), "the other broker serves"
            machine.start(f"central-{one}", f"broker-{one}")
            await machine.serving(f"central-{one}", f"broker-{one}")
        stop.set()
        del users
    every = [number for mine in seen for number in mine]
    assert len(set(every)) == len(every) == machine.rows("SELECT count(*) FROM grid.task")[0][0]
