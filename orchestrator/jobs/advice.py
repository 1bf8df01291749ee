"""What the optimizer suggests for waiting jobs (``suggest`` decides it), page by page of the task classes.

The cost of a round follows classes and sites, not tasks or resources: for each class of the page the ClassAd library
is asked about a few resources of each site, and the verdicts are remembered by what the class wants. Each round
replaces the suggestions of its page, so what has become needless is gone with the next look.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.catalogue.model import Placed
from orchestrator.errors import UserError
from orchestrator.jobs import store, suggest, suggestions
from orchestrator.jobs.kind import Catalogue, Surroundings
from orchestrator.jobs.modes import lfn_of
from orchestrator.jobs.suggest import Policy, Stuck, Suggestion
from orchestrator.jobs.takers import Takers
from orchestrator.runtime import logs
from orchestrator.runtime.sql import Connection, Database, row, rows

Json = dict[str, Any]
SQL = store.SQL
PAGE = 50  # classes of one round
MEMBERS = 50  # of a class, whose files are looked at
MOST_FILES = 2500  # of one round
LONGEST = 0.2  # seconds that a round may think: nothing else of the optimizer runs meanwhile
PAUSE, BETWEEN = 60.0, 1.0  # seconds after the last page, and between two


@dataclass(frozen=True)
class Advice:
    """What the optimizer suggests with. ``replicate``: bytes that it may be copying at a time by itself, in the name
    of ``user``; 0: it only suggests."""

    surroundings: Surroundings
    user: str
    replicate: int = 0
    policy: Policy = field(default_factory=Policy)


class Advisor:
    """Part of the job optimizer: ``step`` is called by its rounds."""

    def __init__(self, database: Database, catalogue: Catalogue, advice: Advice) -> None:
        self.database, self.catalogue, self.advice = database, catalogue, advice
        most = advice.policy.most_bytes
        self.policy = replace(advice.policy, most_bytes=min(most, advice.replicate or most))
        self.takers = Takers()
        self.log = logs.get("optimizer")
        self._due = float("-inf")
        self._after = 0

    async def step(self, now: float) -> None:
        """When it is time, the next page; after the last one the copies are asked for that may be."""
        if now < self._due:
            return
        self._due = now + PAUSE  # whatever goes wrong: jobs are more urgent than advice
        async with self.database.transaction() as connection:
            self._after = await self.look(connection, self._after)
        if self._after:
            self._due = now + BETWEEN
        elif self.advice.replicate:
            await self._copy()

    async def _copy(self) -> None:
        own = self.advice
        try:
            made = await suggestions.act(
                self.database, self.catalogue, own.surroundings, own.user, own.replicate
            )
        except UserError as error:
            self.log.warning("copies cannot be asked for", reason=error.message)
            return
        if made:
            self.log.info("copies asked for", files=len(made), bytes=sum(one["size"] for one in made))

    async def look(self, connection: Connection, after: int) -> int:
        """The suggestions of the classes above the number ``after`` are as they should be; the last class looked at.

        0 is the number after the last page, and when another optimizer is at it.
        """
        mine = await row(connection, SQL["suggest_guard"])
        if not (mine and mine["mine"]):
            return 0
        page = await rows(connection, SQL["waiting_classes"], after=after, limit=PAGE)
        if page and not after:
            await self.takers.learn(connection)
        classes = self._judged(page)
        jobs, left = await self._files(connection, [each.number for each in classes if each.elsewhere])
        if left:
            classes = [each for each in classes if each.number < left]
        upto = classes[-1].number if len(classes) < len(page) or len(page) == PAGE else None
        if found := await self._found(connection, classes, jobs):
            await rows(connection, SQL["suggest"], **_columns(found))
        await rows(connection, SQL["forget_suggestions"], after=after, upto=upto)
        return upto or 0

    def _judged(self, page: Sequence[Mapping[str, Any]]) -> list[Stuck]:
        """The classes of the page with who would take them; fewer when that takes long, but one at least."""
        now = asyncio.get_running_loop().time
        end, found = now() + LONGEST, []
        for each in page:
            found.append(self.takers.judge(each, self.policy.patience))
            if now() > end:
                break
        return found

    async def _found(
        self, connection: Connection, classes: Sequence[Stuck], jobs: Mapping[int, Sequence[Sequence[Placed]]]
    ) -> list[tuple[int, Suggestion]]:
        looks, surroundings = self.takers.looks, self.advice.surroundings
        wanted = {name for each in classes for name in each.packages}
        published = await surroundings.published(connection, sorted(wanted)) if wanted else set[str]()
        storage = await surroundings.storage(connection) if jobs else {}
        told = [replace(each, jobs=jobs.get(each.number, ())) for each in classes]
        return [
            (each.number, made)
            for each in told
            for made in suggest.decide(each, looks, storage, published, self.policy)
        ]

    async def _files(
        self, connection: Connection, classes: Sequence[int]
    ) -> tuple[dict[int, list[list[Placed]]], int]:
        """The input files of the next members of these classes, and the first class that was left for the next round (0:
        none), since they are many. Members of which a file is gone, or with more than one suggestion may name, are
        passed over."""
        if not classes:
            return {}, 0
        taken: list[tuple[int, list[str]]] = []
        names: set[str] = set()
        of_class = left = now = 0
        for each in await rows(connection, SQL["next_members"], classes=list(classes), each=MEMBERS):
            lfns = list(dict.fromkeys(map(lfn_of, each["data"])))
            if each["class"] != now:
                if len(names) > MOST_FILES:
                    left = int(each["class"])
                    break
                now, of_class = int(each["class"]), 0
            if len(lfns) <= suggest.MOST_FILES and of_class < suggest.MOST_FILES:
                of_class += len(lfns)
                names.update(lfns)
                taken.append((now, lfns))
        placed = await self.catalogue.placed(connection, sorted(names))
        jobs: dict[int, list[list[Placed]]] = {}
        for number, lfns in taken:
            if all(lfn in placed for lfn in lfns):
                jobs.setdefault(number, []).append([placed[lfn] for lfn in lfns])
        return jobs, left


def _columns(found: Sequence[tuple[int, Suggestion]]) -> Json:
    """The values of statement ``suggest``; one row for a key, as it must be."""
    by_key = {(number, each.kind, each.subject, each.target): (number, each) for number, each in found}
    made = [each for _, each in by_key.values()]
    return {
        "classes": [number for number, _ in by_key.values()],
        "kinds": [each.kind for each in made],
        "subjects": [each.subject for each in made],
        "targets": [each.target for each in made],
        "sites": [each.site for each in made],
        "jobs": [each.jobs for each in made],
        "bytes": [each.bytes for each in made],
        "files": [json.dumps(each.files) for each in made],
        "reasons": [each.reason for each in made],
    }
