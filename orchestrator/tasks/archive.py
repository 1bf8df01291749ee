"""The archive of tasks: what ended long ago leaves the live tables, so that it costs those who wait and run nothing.

A family (a master, its parts, their validations; a transfer and its steps) goes as a whole, in one transaction with
its events: killed at any moment, each task is in one of the two places. Any number of optimizers may run; one at a
time archives. Live tasks are looked at a page at a time, lowest numbers first; this needs no index, since what is
old and still there is little. Whoever resubmits an archived job brings its family back first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.runtime import daemon, logs
from orchestrator.runtime.sql import Connection, Database, ReadOnly, Row, row, rows
from orchestrator.tasks import store
from orchestrator.tasks.keeping import Keeping, end_of_part, whole
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.store import ARCHIVE, SQL

PAGE = 1000  # live tasks looked at in one transaction
BATCH = 5000  # tasks that go in one transaction: no further family is begun then
ROUND = 600.0  # seconds between two looks at all of them


async def _nobody(_connection: Connection, _tasks: Sequence[int]) -> set[int]:
    return set()


async def _nothing(_connection: Connection, _tasks: Sequence[int]) -> None:
    pass


@dataclass(frozen=True)
class Ended:
    """How tasks of a kind end. ``busy``: those among ended ones that something will happen to all the same; ``pack``: what
    else is known of those that go is put into their spec, in the same transaction."""

    final: frozenset[str]
    busy: Callable[[Connection, Sequence[int]], Awaitable[set[int]]] = _nobody
    pack: Callable[[Connection, Sequence[int]], Awaitable[None]] = _nothing


class Archive:
    """One daemon; ``run`` it."""

    def __init__(
        self,
        database: Database,
        kinds: Mapping[str, Ended],
        now: Callable[[], float],
        keeping: Keeping | None = None,
    ) -> None:
        """``kinds``: those whose tasks are archived; a family with another one stays."""
        self.database = database
        self.kinds = kinds
        self.now = now
        self.keeping = keeping or Keeping()
        self.log = logs.get("archive")
        self.after: int | None = None  # the task that the next page begins behind; None: a round begins
        self._gone = 0  # tasks of this round

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        await daemon.loop("archive", self.step, stop)

    async def step(self) -> float:
        """One page; returns the seconds until the next: as long as this one took, so that others are not kept waiting."""
        began = asyncio.get_running_loop().time()
        if self.after is None:
            await self.cut()
            await self.database.rows(ARCHIVE["old_commands"])
        await self.page()
        if self.after is not None:
            return asyncio.get_running_loop().time() - began
        if self._gone:
            self.log.info("archived", tasks=self._gone)
        self._gone = 0
        await self.drop()
        return ROUND

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection | None]:
        """A transaction in which nobody else archives; None when somebody does."""
        async with self.database.transaction() as connection:
            # Nothing else would keep us from dropping tables then.
            if found := await row(connection, SQL["maintenance"]):
                raise ReadOnly(f"central is read-only for maintenance: {found['reason']}", retry_in=5.0)
            mine = await row(connection, ARCHIVE["guard"])
            yield connection if mine and mine["mine"] else None

    async def cut(self) -> None:
        """Every part that is full, or whose time is over, ends; tasks that are submitted from now on are of the next."""
        now = self.now()
        async with self._alone() as connection:
            while connection is not None and (rest := await row(connection, ARCHIVE["uncut"])):
                until = end_of_part(rest["first"], rest["following"], rest["since"], now, self.keeping)
                if until is None:
                    break
                await rows(connection, ARCHIVE["cut"], first=rest["first"], until=until, now=now)

    async def drop(self) -> None:
        """Parts of which every task was submitted longer ago than they are kept are gone for good."""
        if self.keeping.keep is None:
            return
        before = self.now() - self.keeping.keep
        for each in await self.database.rows(ARCHIVE["outdated"], before=before):
            async with self._alone() as connection:
                if connection is not None:
                    await rows(connection, ARCHIVE["impatient"])
                    await store.define_part(connection, "drop", each["first"])
                    self.log.info("dropped", part=each["first"])

    async def page(self) -> int:
        """The families that ended long ago among the next page of live tasks are archived; how many tasks that were."""
        before = self.now() - self.keeping.after
        async with self._alone() as connection:
            if connection is None:
                self.after = None
                return 0
            found = await row(connection, ARCHIVE["top"])
            top = int(found["top"]) if found else 0
            page = {"after": self.after or 0, "top": top, "before": before, "kinds": list(self.kinds)}
            looked = await rows(connection, ARCHIVE["look"], most=PAGE, **page)
            families, after = await _families(connection, looked)
            ended = await self._ended(connection, families, before)
            tasks = whole(families, frozenset[int]().union(*ended.values()), top)
            if tasks and await _made(connection, tasks):
                tasks, after = [], self.after or 0  # they go with the next page, which begins here again
            if tasks:
                for kind, some in ended.items():
                    await self.kinds[kind].pack(connection, sorted(some.intersection(tasks)))
                await rows(connection, ARCHIVE["put_away"], tasks=tasks)
        self.after = after
        self._gone += len(tasks)
        return len(tasks)

    async def _ended(
        self, connection: Connection, families: Mapping[int, Sequence[int]], before: float
    ) -> dict[str, set[int]]:
        """By kind those of the families' members that ended before ``before``, locked."""
        members = [each for family in families.values() for each in family]
        ended: dict[str, set[int]] = defaultdict(set)
        for each in await rows(connection, ARCHIVE["rest"], tasks=members, before=before) if members else []:
            if each["kind"] in self.kinds and each["state"] in self.kinds[each["kind"]].final:
                ended[each["kind"]].add(each["id"])
        return {
            kind: some - await self.kinds[kind].busy(connection, sorted(some)) for kind, some in ended.items()
        }


async def _families(connection: Connection, looked: Sequence[Row]) -> tuple[dict[int, list[int]], int | None]:
    """Members by head of the families in a page, as many as go in one transaction; after which task the next page
    begins, None when there is no more."""
    families = {each["id"]: [each["id"]] for each in looked if each["head"] and not each["followed"]}
    count = len(families)
    for head in (each["id"] for each in looked if each["followed"]):
        if count >= BATCH:
            return families, head - 1
        families[head] = [each["id"] for each in await rows(connection, ARCHIVE["members"], task=head)]
        count += len(families[head])
    return families, looked[-1]["id"] if len(looked) == PAGE else None


async def _made(connection: Connection, tasks: Sequence[int]) -> bool:
    """The parts of these tasks have partitions; True when they had none.

    Then this transaction must not fill them: a statement planned without them could see what has gone there.
    """
    absent = await rows(connection, ARCHIVE["absent"], tasks=tasks)
    for part in absent:
        await store.define_part(connection, "make", part["first"], part["until"])
    return bool(absent)


async def restore(connection: Connection, task: Task) -> Task:
    """An archived task, the head of its family, is live again with all of it; locked. Harmless when it is already.

    PermanentError when the request that made it has made another one since.
    """
    if await row(connection, ARCHIVE["lock_archived"], task=task.id):
        family = await rows(connection, ARCHIVE["members_archived"], task=task.id)
        await store.bring_back(connection, task, [each["id"] for each in family])
    return await store.get(connection, task.id, lock=True)
