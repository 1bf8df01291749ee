"""Claims that arrive together are served together: one transaction for all that wait while the last one commits.

The index says what to try. The database decides: rows that somebody else holds or has taken are passed over, and
who got less than the index promised is served again by a fresher one. A refusal always rests on an index that was
read after the question was asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from orchestrator.errors import GridError, TemporaryError
from orchestrator.runtime.sql import Database, Row, rows
from orchestrator.tasks.decide import Waiting
from orchestrator.tasks.index import Asked, Index, allot
from orchestrator.tasks.kinds import Patience, Task
from orchestrator.tasks.matching import Matcher, Resource
from orchestrator.tasks.store import SQL

MOST_TOGETHER = 64  # claims of one transaction
_LANES = 2  # transactions at a time: one commits while the other is made
_OLDEST = 1.0  # seconds: priorities and shares change without a word
_PAUSE = 2e-5  # seconds between two readings of the index, for each class in it
_COLUMNS = tuple(each.name for each in fields(Waiting))
_TRIES = 5  # with a fresh index each, before a claim goes away empty although there is something


@dataclass(slots=True, eq=False)
class Claim:
    """One resource that asks: who, for how much, and the number that makes its repetition known ("" is none)."""

    site: str
    name: str
    resource: Resource
    count: int
    number: str
    answer: asyncio.Future[list[Task]]
    asked: float = 0.0
    tries: int = 0
    lines: list[tuple[int, int]] = field(default_factory=list)  # (class, how many) to try


class Claims:
    """The claims of this process."""

    def __init__(self, database: Database, matcher: Matcher, patience: Patience) -> None:
        self.database = database
        self.matcher = matcher
        self.patience = patience
        self.index = Index()
        self.grown: set[int] = set()  # classes, until whoever wakes sleepers has taken them from here
        self.news = False  # something began to wait that the index may not know
        self._read = float("-inf")  # when the index began to be read
        self._queue: list[Claim] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._refreshing = asyncio.Lock()

    async def ask(self, site: str, name: str, resource: Resource, count: int, number: str) -> list[Task]:
        """What this resource gets now."""
        running = asyncio.get_running_loop()
        claim = Claim(site, name, resource, count, number, running.create_future(), running.time())
        self._queue.append(claim)
        if len(self._serving) < _LANES:
            serving = asyncio.create_task(self._serve())
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
        return await claim.answer

    async def refresh(self, since: float) -> None:
        """The index was read after ``since``; ``grown`` holds the classes that have more members than before.

        However often it is asked for, reading takes a small part of the time: a thousand classes are read
        fifty times a second at most.
        """
        running = asyncio.get_running_loop()
        async with self._refreshing:
            if self._read > since:
                return
            await asyncio.sleep(max(0.0, self._read + _PAUSE * len(self.index) - running.time()))
            began, self.news = running.time(), False
            told = await self.database.rows(SQL["classes"])
            now = float(told[0]["now"]) if told else 0.0
            found = [Waiting(**{name: each[name] for name in _COLUMNS}) for each in told]
            if unknown := self.matcher.unknown([each.id for each in found]):
                for each in await self.database.rows(SQL["class_ads"], classes=unknown):
                    self.matcher.know(each["id"], each["ad"])
            self.grown.update(self.index.replace(found, now))
            self._read = began

    async def _serve(self) -> None:
        while self._queue:
            batch = self._next()
            failure: GridError = TemporaryError("the claim could not be served; ask again", retry_in=1.0)
            try:
                await self._batch(batch)
            except GridError as error:
                failure = error
            finally:
                for claim in batch:
                    if not claim.answer.done() and claim not in self._queue:
                        self._give_back(claim)
                        claim.answer.set_exception(failure)

    def _next(self) -> list[Claim]:
        """The next ones to serve; a repetition of one of them has to wait for the next batch."""
        batch: list[Claim] = []
        rest: list[Claim] = []
        numbers: set[str] = set()
        for claim in self._queue:
            if claim.answer.done():
                continue
            known = claim.number in numbers
            (rest if known or len(batch) >= MOST_TOGETHER else batch).append(claim)
            numbers |= {claim.number} - {""}
        self._queue = rest
        return batch

    async def _batch(self, batch: Sequence[Claim]) -> None:
        running = asyncio.get_running_loop()
        age = running.time() - self._read
        if age > _OLDEST or (self.news and age > _PAUSE * len(self.index)):
            await self.refresh(self._read)
        for claim in batch:
            self._allot(claim)
        empty = [claim for claim in batch if not claim.lines and self._read < claim.asked]
        if empty:
            await self.refresh(max(claim.asked for claim in empty))
            for claim in empty:
                self._allot(claim)
        got = await self._take(batch)
        for claim, tasks in zip(batch, got, strict=True):
            if tasks is None:  # others were faster
                claim.asked, claim.tries = running.time(), claim.tries + 1
                if claim.tries < _TRIES:
                    self._queue.append(claim)
                    continue
            if not claim.answer.done():
                claim.answer.set_result(tasks or [])

    def _allot(self, claim: Claim) -> None:
        resource = claim.resource
        asked = Asked(claim.site, claim.count, resource.free)
        accepts = self.matcher.judge(resource)
        claim.lines = allot(self.index, asked, self.matcher.needs, accepts, self.patience.wide)

    def _give_back(self, claim: Claim) -> None:
        for number, count in claim.lines:
            self.index.take(number, -count)
        claim.lines = []

    async def _take(self, batch: Sequence[Claim]) -> list[list[Task] | None]:
        """What each claim got; None when it was to get something, and all of that had gone."""
        taken: dict[int, list[Task]] = {}
        if any(claim.lines for claim in batch):
            numbers = sorted({claim.number for claim in batch if claim.number})
            async with (
                self.database.transaction() as connection,
                connection.pipeline(),
            ):  # one journey for all
                await connection.execute(SQL["claim_guards"], {"claims": numbers})
                got = await connection.execute(SQL["claim"], self._wanted(batch))
                await connection.commit()
                taken = self._taken(batch, await got.fetchall())
        empty = [claim for place, claim in enumerate(batch) if place not in taken]
        before, draining = await self._why(empty) if empty else ({}, set())
        found: list[list[Task] | None] = []
        for place, claim in enumerate(batch):
            tasks = taken.get(place) or before.get(claim.number, [])
            if not taken.get(place) and (tasks or (claim.site, claim.name) in draining):
                self._give_back(claim)
            found.append(None if claim.lines and not tasks else tasks)
        return found

    async def _why(self, empty: Sequence[Claim]) -> tuple[dict[str, list[Task]], set[tuple[str, str]]]:
        """What claims that got nothing now have got before, and which of these resources drain."""
        numbers = sorted({claim.number for claim in empty if claim.number})
        sites, names = [claim.site for claim in empty], [claim.name for claim in empty]
        before: dict[str, list[Task]] = {}
        async with self.database.transaction() as connection:
            await rows(
                connection, SQL["claim_guards"], claims=numbers
            )  # one that is being served elsewhere is waited for
            for each in await rows(connection, SQL["claimed"], claims=numbers):
                before.setdefault(each["claim"], []).append(Task.of(each))
            drained = await rows(connection, SQL["draining"], sites=sites, names=names)
        return before, {(each["site"], each["name"]) for each in drained}

    def _wanted(self, batch: Sequence[Claim]) -> dict[str, Any]:
        wanted = [
            (number, place, count) for place, claim in enumerate(batch) for number, count in claim.lines
        ]
        return {
            "classes": [number for number, _, _ in wanted],
            "places": [place for _, place, _ in wanted],
            "counts": [count for _, _, count in wanted],
            "resources": [batch[place].name for _, place, _ in wanted],
            "sites": [batch[place].site for _, place, _ in wanted],
            "claims": [batch[place].number for _, place, _ in wanted],
            "lasts": self.patience.acknowledge,
            "actor": "broker",
        }

    def _taken(self, batch: Sequence[Claim], got: Sequence[Row]) -> dict[int, list[Task]]:
        """The tasks of each claim, by its place in ``batch``; the index learns what they leave behind."""
        found: dict[int, list[Task]] = {}
        following = {}
        for each in got:
            found.setdefault(each["place"], []).append(Task.of(each))
            following[each["class"]] = (each["next_priority"], each["next_oldest"])
        for number, (priority, oldest) in following.items():
            if priority is not None:
                self.index.follow(number, priority, oldest)
        if len(got) < sum(count for claim in batch for _, count in claim.lines):
            self._read = float("-inf")  # the index promised what was not there
        return found
