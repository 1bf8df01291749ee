"""The broker: gives a resource that asks the best waiting tasks that both sides accept.

Any number of brokers may run: what they share is in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from orchestrator.errors import TemporaryError
from orchestrator.runtime.daemon import wait_any
from orchestrator.runtime.sql import Database
from orchestrator.tasks import decide
from orchestrator.tasks.claims import Claims
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.index import Asked
from orchestrator.tasks.kinds import Given, Kind, Patience
from orchestrator.tasks.matching import Matcher, Memory, Resource
from orchestrator.tasks.model import Assignment, Claimed, Json, storable
from orchestrator.tasks.store import SQL

JobToken = Callable[[int, int, str, str, float], str]  # (task, attempt, user, site, seconds) → token
Gone = Callable[[], Awaitable[bool]]
_LOOK_AGAIN = 0.05  # seconds after which those who were woken have asked
SEEN_AGAIN = 10.0  # seconds after which a resource that asks is noted again


@dataclass(eq=False, slots=True)
class _Sleeper:
    """A resource that waits for something to do."""

    asked: Asked
    resource: Resource
    woken: asyncio.Event


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
        self.job_token = job_token
        self.patience = patience or Patience()
        self.now = now
        self.matcher = Matcher()
        self.claims = Claims(database, self.matcher, self.patience)
        self._misses: Memory[int] = Memory(20_000)
        self._seen: Memory[tuple[str, float]] = Memory(
            200_000
        )  # resource → its ad's digest, when it was noted
        self._sleepers: dict[_Sleeper, None] = {}  # in the order in which they came
        self._rousing: asyncio.Task[None] | None = None
        self._news = self._missed = False
        hub.tell("waiting", self._heard)

    async def claim(
        self, site: str, given: Json, count: int, wait: float, claim: str, gone: Gone | None = None
    ) -> Claimed:
        """Up to ``count`` assignments; waits up to ``wait`` seconds for the first.

        ``gone`` tells that the caller hung up: nothing is claimed for it then. The same ``claim``
        gives the same tasks as long as none of them has begun.
        """
        resource = self.matcher.resource(given, site)
        name = str(given.get("Name") or given.get("Host") or given.get("CE") or "?")
        give_up = asyncio.get_running_loop().time() + wait
        await self._saw(site, name, resource)
        number = f"{site}/{name}/{storable(claim)}" if claim else ""
        sleeper: _Sleeper | None = None
        if wait > 0:
            sleeper = _Sleeper(Asked(site, count, resource.free), resource, asyncio.Event())
            self._sleepers[sleeper] = None
        try:
            while True:
                if sleeper is not None:
                    sleeper.woken.clear()
                if tasks := await self.claims.ask(site, name, resource, count, number):
                    self._misses.pop(f"{site}/{name}", None)
                    return Claimed(tuple([self._assignment(each, site) for each in tasks]))
                left = give_up - asyncio.get_running_loop().time()
                if left <= 0 or sleeper is None:
                    break
                await wait_any(left, sleeper.woken)
                if gone is not None and await gone():
                    return Claimed()
        finally:
            if sleeper is not None:
                self._sleepers.pop(sleeper, None)
        misses = self._misses.keep(f"{site}/{name}", self._misses.get(f"{site}/{name}", 0) + 1)
        return Claimed((), 0.5 if wait >= 5 else decide.retry_in(misses - 1))

    async def demand(self, site: str, given: Json) -> int:
        """How many waiting tasks this resource could do."""
        resource = self.matcher.resource(given, site)
        await self.claims.refresh(asyncio.get_running_loop().time())
        accepts = self.matcher.judge(resource)
        return sum(each.waiting for each in self.claims.index.waiting(site, accepts))

    async def _saw(self, site: str, name: str, resource: Resource) -> None:
        """The resource is known before it gets a task: a drain finds those that never had to wait, too."""
        key, now = f"{site}/{name}", self.now()
        known = self._seen.get(key)
        if known is None or known[0] != resource.digest or now - known[1] > SEEN_AGAIN:
            await self.database.rows(SQL["saw_resource"], name=name, site=site, ad=resource.ad.canonical())
            self._seen.keep(key, (resource.digest, now))

    def _heard(self, payload: str) -> None:
        """Classes have more waiting members: those who can do it are woken, and nobody else.

        The text names the classes; any other text (some notes were missed) stands for all that wait.
        """
        self._news = self.claims.news = True
        if payload and all(each.isdecimal() for each in payload.split(",")):
            self.claims.grown.update(map(int, payload.split(",")))
        else:
            self._missed = True
        if self._sleepers and (self._rousing is None or self._rousing.done()):
            self._rousing = asyncio.create_task(self._rouse())

    async def _rouse(self) -> None:
        """Sleepers are woken for what began to wait, more of them while it still waits: one that was woken may have
        gone, may drain, or may have got another task."""
        tried: dict[int, set[_Sleeper]] = {}  # class → who was woken for it
        while self._news or tried:
            if self._news:
                self._news = False
                try:
                    await self.claims.refresh(asyncio.get_running_loop().time())
                except TemporaryError:
                    return  # the hub tells when the database is there again
                grown, self.claims.grown = self.claims.grown, set()
                if self._missed:
                    self._missed, grown = False, grown | self.claims.index.all()
                tried |= {number: set() for number in grown}
            tried = {number: known for number, known in sorted(tried.items()) if self._wake(number, known)}
            if tried and not self._news:
                await asyncio.sleep(_LOOK_AGAIN)

    def _wake(self, number: int, tried: set[_Sleeper]) -> bool:
        """As many of those who sleep as the class has members are woken, the first comer first, but none of ``tried``,
        to which they are added; whether there was any."""
        each = self.claims.index.get(number)
        left, woken = each.waiting if each else 0, False
        for sleeper in list(self._sleepers):
            if left <= 0:
                break
            near = each is not None and each.site in ("", sleeper.asked.site)
            fits = decide.fits(sleeper.asked.free, self.matcher.needs(number), 1)
            if sleeper not in tried and near and fits and self.matcher.judge(sleeper.resource)(number):
                sleeper.woken.set()
                tried.add(sleeper)
                woken, left = True, left - sleeper.asked.count
        return woken

    def _assignment(self, given: Given, site: str) -> Assignment:
        kind = self.kinds[given.kind]
        token = self.job_token(given.id, given.attempt, given.owner, site, kind.lifetime(given.spec))
        deadline = given.changed + self.patience.acknowledge
        payload = kind.payload(given.spec)
        return Assignment(given.id, given.attempt, given.kind, payload, token, given.owner, site, deadline)
