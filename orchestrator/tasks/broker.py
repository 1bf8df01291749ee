"""The broker: gives a resource that asks the best waiting tasks that both sides accept.

Matching is done once per task class and resource ad and remembered; then one statement claims. Any
number of brokers may run: what they share is in the database.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from orchestrator.classads import Ad, matches
from orchestrator.runtime.daemon import wait_any
from orchestrator.runtime.sql import Connection, Database, row, rows
from orchestrator.tasks import decide
from orchestrator.tasks.decide import Waiting
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import Kind, Patience, Task
from orchestrator.tasks.model import Assignment, Claimed, Json
from orchestrator.tasks.store import SQL

JobToken = Callable[[int, int, str, str, float], str]  # (task, attempt, user, site, seconds) → token
Gone = Callable[[], Awaitable[bool]]
V = TypeVar("V")
_ROUNDED = {"TTL": 60, "Disk": 2**28, "Memory": 2**20}  # rounded down, so that ads of one node stay alike
SEEN_AGAIN = 10.0  # seconds after which a resource that asks is noted again
_NEEDS = {"Cores": "CPUCores", "Memory": "MemorySize", "Disk": "WorkDirectorySize"}


class Memory(OrderedDict[object, V], Generic[V]):
    """A dictionary that forgets its oldest entries beyond ``most``."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: object, value: V) -> V:
        self[key] = value
        while len(self) > self.most:
            self.popitem(last=False)
        return value


def resource_ad(given: Mapping[str, object], site: str) -> Ad:
    """The ad to match: the caller's site is certain, changing amounts are rounded down."""
    values = {"Type": "machine"} | dict(given) | {"Site": site}
    for name, unit in _ROUNDED.items():
        amount = values.get(name)
        if isinstance(amount, int | float) and not isinstance(amount, bool) and amount >= unit:
            values[name] = int(amount // unit) * unit
    return Ad(values)


class Broker:
    """Serves claims. ``job_token`` makes the token that acts for a task's owner."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, Kind],
        hub: Hub,
        job_token: JobToken,
        patience: Patience | None,
        now: Callable[[], float],
    ) -> None:
        self.database = database
        self.kinds = kinds
        self.hub = hub
        self.job_token = job_token
        self.patience = patience or Patience()
        self.now = now
        self._ads: Memory[Ad] = Memory(200_000)  # no site has so many classes waiting
        self._verdicts: Memory[bool] = Memory(200_000)
        self._misses: Memory[int] = Memory(20_000)
        self._seen: Memory[tuple[str, float]] = Memory(
            200_000
        )  # resource → its ad's digest, when it was noted

    async def claim(
        self, site: str, given: Json, count: int, wait: float, claim: str, gone: Gone | None = None
    ) -> Claimed:
        """Up to ``count`` assignments; waits up to ``wait`` seconds for the first.

        ``gone`` tells that the caller hung up: nothing is claimed for it then. The same ``claim``
        gives the same tasks as long as none of them has begun.
        """
        ad = resource_ad(given, site)
        name = str(given.get("Name") or given.get("Host") or given.get("CE") or "?")
        give_up = asyncio.get_running_loop().time() + wait
        await self._saw(site, name, ad)
        with self.hub.subscribed("waiting") as woken:
            while True:
                woken.clear()
                tasks = await self._claim(site, ad, name, count, f"{site}/{name}/{claim}" if claim else "")
                if tasks:
                    self._misses.pop(f"{site}/{name}", None)
                    return Claimed(tuple(self._assignment(task) for task in tasks))
                left = give_up - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                await wait_any(left, woken)
                if gone is not None and await gone():
                    return Claimed()
        misses = self._misses.keep(f"{site}/{name}", self._misses.get(f"{site}/{name}", 0) + 1)
        return Claimed((), 0.5 if wait >= 5 else decide.retry_in(misses - 1))

    async def _saw(self, site: str, name: str, ad: Ad) -> None:
        """The resource is known before it gets a task: a drain finds those that never had to wait, too."""
        key, digest, now = f"{site}/{name}", ad.digest(), self.now()
        known = self._seen.get(key)
        if known is None or known[0] != digest or now - known[1] > SEEN_AGAIN:
            await self.database.rows(SQL["saw_resource"], name=name, site=site, ad=ad.canonical())
            self._seen.keep(key, (digest, now))

    async def demand(self, site: str, given: Json) -> int:
        """How many waiting tasks this resource could do."""
        ad = resource_ad(given, site)
        async with self.database.transaction() as connection:
            return sum(each.waiting for each in await self._matching(connection, site, ad))

    async def _claim(self, site: str, ad: Ad, name: str, count: int, claim: str) -> list[Task]:
        async with self.database.transaction() as connection:
            if claim:
                await row(connection, SQL["claim_guard"], claim=claim)
                if before := await rows(connection, SQL["claimed"], claim=claim, site=site):
                    return [Task.of(each) for each in before]
            if await rows(connection, SQL["draining"], site=site, name=name):
                return []
            taken: list[Task] = []
            free = {key: float(ad.values[key]) for key in _NEEDS if key in ad.values}
            for each in await self._matching(connection, site, ad):
                need = self._needs(self._ads[each.id])
                number = decide.fits(free, need, count - len(taken))
                if number == 0:
                    continue
                values = {"class": each.id, "count": number, "resource": name, "site": site, "claim": claim}
                got = await rows(
                    connection, SQL["claim"], **values, lasts=self.patience.acknowledge, actor="broker"
                )
                taken += [Task.of(one) for one in got]
                for key in free:
                    free[key] -= need.get(key, 0.0) * len(got)
                if len(taken) >= count:
                    break
            return taken

    def _needs(self, ad: Ad) -> dict[str, float]:
        return {key: float(ad.values.get(name, 0)) for key, name in _NEEDS.items()}

    async def _matching(self, connection: Connection, site: str, ad: Ad) -> list[Waiting]:
        """Classes that this resource may serve, best first; their ads are in memory afterwards."""
        classes = [Waiting(**each) for each in await rows(connection, SQL["classes"], site=site)]
        unknown = [each.id for each in classes if each.id not in self._ads]
        if unknown:
            for each in await rows(connection, SQL["class_ads"], classes=unknown):
                self._ads.keep(each["id"], Ad.restore(each["ad"]))
        digest = ad.digest()
        return [each for each in decide.order(classes, self.now()) if self._match(each.id, digest, ad)]

    def _match(self, number: int, digest: str, ad: Ad) -> bool:
        key = (number, digest)
        known = self._verdicts.get(key)
        if known is None:
            known = self._verdicts.keep(key, number in self._ads and matches(self._ads[number], ad))
        return known

    def _assignment(self, task: Task) -> Assignment:
        kind = self.kinds[task.kind]
        token = self.job_token(task.id, task.attempt, task.owner, task.site, kind.lifetime(task))
        deadline = task.changed + self.patience.acknowledge
        return Assignment(
            task.id, task.attempt, task.kind, kind.payload(task), token, task.owner, task.site, deadline
        )
