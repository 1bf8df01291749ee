"""Claims that arrive together are served together, by two transactions that share what waits.

The index says what to try. The database decides: rows that somebody else holds or has taken are passed over, and
who got less than the index promised is served again by a fresher one. A refusal always rests on an index that was
read after the question was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from orchestrator.errors import GridError, TemporaryError
from orchestrator.runtime.sql import Connection, Database, ReadOnly, array, rows, tuples
from orchestrator.tasks.decide import Waiting
from orchestrator.tasks.index import Asked, Index, allot
from orchestrator.tasks.kinds import Given, Patience
from orchestrator.tasks.matching import Matcher, Resource
from orchestrator.tasks.store import SQL

MOST_TOGETHER, MOST_TASKS = 64, 128  # claims of one transaction, tasks of more than one
_LANES = 2  # transactions at a time: one is with the database while the other is made or answered
_WORTH_IT = 4  # claims: fewer are not shared out to two transactions
_OLDEST = 1.0  # seconds: priorities and shares change without a word
_PAUSE = 2e-5  # seconds between two readings of the index, for each class in it
_COLUMNS = tuple(each.name for each in fields(Waiting))
_FOLD = 0.25  # seconds after which what claims took is subtracted from the classes' rows
_TRIES = 5  # with a fresh index each, before a claim goes away empty although there is something


@dataclass(slots=True, eq=False)
class Claim:
    """One resource that asks: who, for how much, and the number that makes its repetition known ("" is none)."""

    site: str
    name: str
    resource: Resource
    count: int
    number: str
    answer: asyncio.Future[list[Given]]
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
        self._folded = float("-inf")
        self._queue: list[Claim] = []
        self._serving: set[asyncio.Task[None] | None] = set()
        self._beginning = False  # one of them has not taken anything yet
        self._refreshing = asyncio.Lock()

    async def ask(self, site: str, name: str, resource: Resource, count: int, number: str) -> list[Given]:
        """What this resource gets now."""
        running = asyncio.get_running_loop()
        claim = Claim(site, name, resource, count, number, running.create_future(), running.time())
        self._queue.append(claim)
        self._begin()
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
            if began - self._folded > _FOLD:
                self._folded = began
                with contextlib.suppress(ReadOnly):  # the counts are right without it
                    await self.database.rows(SQL["fold"])
            told = await self.database.rows(SQL["classes"])
            now = float(told[0]["now"]) if told else 0.0
            found = [Waiting(**{name: each[name] for name in _COLUMNS}) for each in told]
            if unknown := self.matcher.unknown([each.id for each in found]):
                for each in await self.database.rows(SQL["class_ads"], classes=unknown):
                    self.matcher.know(each["id"], each["ad"])
            self.grown.update(self.index.replace(found, now))
            self._read = began

    def _begin(self) -> None:
        if not self._beginning and len(self._serving) < _LANES:
            self._beginning = True
            self._serving.add(asyncio.create_task(self._serve()))

    async def _serve(self) -> None:
        self._beginning = False
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:  # not by a callback of the task: who asks before that is called would wait for ever
            self._serving.discard(asyncio.current_task())
            if self._queue:
                self._begin()

    async def _answer(self, batch: list[Claim]) -> None:
        """These claims, and those that are asked for meanwhile, on one connection."""
        failure: GridError = TemporaryError("the claim could not be served; ask again", retry_in=1.0)
        try:
            async with self.database.connection() as connection:
                while batch:
                    await self._batch(connection, batch)
                    await asyncio.sleep(0)  # who was answered may ask again at once
                    batch = self._next()
        except GridError as error:
            failure = error
        finally:
            for claim in batch:
                if not claim.answer.done() and claim not in self._queue:
                    self._give_back(claim)
                    claim.answer.set_exception(failure)

    def _next(self) -> list[Claim]:
        """The next ones to serve, half of them if the other lane is free; a repetition of one of them has to wait for
        the next batch."""
        batch: list[Claim] = []
        rest: list[Claim] = []
        numbers: set[str] = set()
        free, tasks = _LANES - len(self._serving) + 1, 0
        most = min(MOST_TOGETHER, max(_WORTH_IT, -(-len(self._queue) // free)))
        for claim in self._queue:
            if claim.answer.done():
                continue
            full = len(batch) >= most or (batch and tasks + claim.count > MOST_TASKS)
            if full or claim.number in numbers:
                rest.append(claim)
                continue
            batch.append(claim)
            tasks += claim.count
            numbers |= {claim.number} - {""}
        self._queue = rest
        if rest:
            self._begin()
        return batch

    async def _batch(self, connection: Connection, batch: Sequence[Claim]) -> None:
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
        got = await self._take(connection, batch)
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

    async def _take(self, connection: Connection, batch: Sequence[Claim]) -> list[list[Given] | None]:
        """What each claim got; None when it was to get something, and all of that had gone."""
        taken: list[list[Given]] = [[] for _ in batch]
        if any(claim.lines for claim in batch):
            self._taken(batch, await tuples(connection, SQL["claim"], **self._wanted(batch)), taken)
        empty = [claim for claim, tasks in zip(batch, taken, strict=True) if not tasks]
        before, draining = await self._why(connection, empty) if empty else ({}, set())
        found: list[list[Given] | None] = []
        for claim, got in zip(batch, taken, strict=True):
            tasks = got or before.get(claim.number, [])
            if not got and (tasks or (claim.site, claim.name) in draining):
                self._give_back(claim)
            found.append(None if claim.lines and not tasks else tasks)
        return found

    async def _why(
        self, connection: Connection, empty: Sequence[Claim]
    ) -> tuple[dict[str, list[Given]], set[tuple[str, str]]]:
        """What claims that got nothing now have got before, and which of these resources drain."""
        numbers = sorted({claim.number for claim in empty if claim.number})
        sites, names = [claim.site for claim in empty], [claim.name for claim in empty]
        before: dict[str, list[Given]] = {}
        async with connection.transaction():
            await rows(
                connection, SQL["claim_guards"], claims=numbers
            )  # one that is being served elsewhere is waited for
            for each in await rows(connection, SQL["claimed"], claims=numbers):
                before.setdefault(each.pop("claim"), []).append(Given(**each))
            drained = await rows(connection, SQL["draining"], sites=sites, names=names)
        return before, {(each["site"], each["name"]) for each in drained}

    def _wanted(self, batch: Sequence[Claim]) -> dict[str, Any]:
        lines = sorted(
            (number, place, count) for place, claim in enumerate(batch, 1) for number, count in claim.lines
        )
        return {
            "guards": array(sorted({claim.number for claim in batch if claim.number})),
            "sites": array(claim.site for claim in batch),
            "resources": array(claim.name for claim in batch),
            "claims": array(claim.number for claim in batch),
            "classes": array(number for number, _, count in lines for _ in range(count)),
            "places": array(place for _, place, count in lines for _ in range(count)),
            "lasts": self.patience.acknowledge,
            "actor": "broker",
        }

    def _taken(
        self, batch: Sequence[Claim], got: Sequence[tuple[Any, ...]], taken: list[list[Given]]
    ) -> None:
        """``taken`` holds the tasks of each claim; the index learns how far the classes have got."""
        last: dict[int, tuple[float, float, float]] = {}
        for place, *told, number, priority, submitted in got:
            given = Given(*told)
            taken[place - 1].append(given)
            reached = (priority, -given.id, submitted)
            if number not in last or reached < last[number]:
                last[number] = reached
        for number, (priority, _, submitted) in last.items():
            self.index.follow(number, priority, submitted)
        if len(got) < sum(count for claim in batch for _, count in claim.lines):
            self._read = float("-inf")  # the index promised what was not there
