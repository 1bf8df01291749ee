"""Jobs that ended long ago, in the archive of tasks: which may go there, and how they are listed.

One job is found by its number wherever it is (``tasks.store.get``). A listing shows archived ones when it is asked
for them: by a time that reaches back to them, as parts of an archived master, or all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from orchestrator.jobs import model, store
from orchestrator.jobs.store import Choice, Listed
from orchestrator.runtime.sql import Connection, Queries, row, rows
from orchestrator.tasks.archive import Ended
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.store import ARCHIVE

SQL = Queries(Path(__file__).with_name("archive.sql"))


async def _unjudged(connection: Connection, jobs: Sequence[int]) -> set[int]:
    return {int(each["id"]) for each in await rows(connection, SQL["unjudged"], jobs=list(jobs))}


ENDED = Ended(model.FINAL, _unjudged)


def _reaches(choice: Choice, everything: bool = False) -> bool:
    """Whether archived jobs may be among the chosen. Pure."""
    ended = choice.states is None or bool(model.FINAL & set(choice.states))
    return ended and (everything or choice.since is not None or bool(choice.master))


async def _lowest(connection: Connection, choice: Choice) -> int | None:
    """The lowest number that an archived job of the choice may have; None: there is none."""
    if choice.since is None:
        return choice.master or 0  # parts have higher numbers
    found = await row(connection, ARCHIVE["reach"], since=choice.since)
    return int(found["first"]) if found else None


async def listing(
    connection: Connection, choice: Choice, limit: int, everything: bool = False
) -> list[Listed]:
    """Jobs, newest first; ``everything``: archived ones too, however old. The transaction does nothing else."""
    if not _reaches(choice, everything):
        return await store.listing(connection, choice, limit)
    await rows(connection, ARCHIVE["one_snapshot"])
    found = await store.listing(connection, choice, limit)
    if (lowest := await _lowest(connection, choice)) is not None:
        old = await rows(connection, SQL["listing"], limit=limit, lowest=lowest, **asdict(choice))
        found += [Listed(Task.of(each), int(each["parts"])) for each in old]
    return sorted(found, key=lambda each: -each.task.id)[:limit]


async def chosen(connection: Connection, choice: Choice, after: int, limit: int) -> list[int]:
    """``store.chosen``, with the archived jobs that the choice reaches back to."""
    found = await store.chosen(connection, choice, after, limit)
    if _reaches(choice) and (lowest := await _lowest(connection, choice)) is not None:
        values = {"after": after, "limit": limit, "lowest": lowest} | asdict(choice)
        found += [int(each["id"]) for each in await rows(connection, SQL["chosen"], **values)]
    return sorted(set(found))[:limit]


async def part_counts(connection: Connection, task: Task) -> dict[str, int]:
    """How many parts and merge jobs of a master are in each state."""
    if not task.archived:
        return await store.part_counts(connection, task.id)
    found = await rows(connection, SQL["part_counts"], master=task.id)
    return {str(each["state"]): int(each["count"]) for each in found}
