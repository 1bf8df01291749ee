"""The statements of queries.sql as functions on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.classads import Ad
from orchestrator.jobs import model
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows
from orchestrator.tasks.kinds import Task

SQL = Queries(Path(__file__).with_name("queries.sql"))
FINAL = sorted(model.FINAL)


@dataclass(frozen=True)
class Listed:
    """A job of a listing."""

    task: Task
    parts: int


async def by_request(connection: Connection, owner: str, request: str) -> int | None:
    """The job that an earlier delivery of this submission made."""
    found = await row(connection, SQL["by_request"], owner=owner, request=request)
    return int(found["id"]) if found else None


async def listing(
    connection: Connection, states: Sequence[str] | None, owner: str | None, master: int | None, limit: int
) -> list[Listed]:
    """Jobs, newest first; ``master`` 0: only those that are no part of another."""
    found = await rows(
        connection,
        SQL["listing"],
        states=list(states) if states else None,
        owner=owner,
        master=master,
        limit=limit,
    )
    return [Listed(Task.of(each), int(each["parts"])) for each in found]


async def part_counts(connection: Connection, master: int) -> dict[str, int]:
    """How many parts and merge jobs of a master are in each state."""
    found = await rows(connection, SQL["part_counts"], master=master)
    return {str(each["state"]): int(each["count"]) for each in found}


async def to_prepare(connection: Connection) -> list[int]:
    """Jobs that are INSERTING or SPLITTING."""
    return _ids(await rows(connection, SQL["to_prepare"]))


async def to_finish(connection: Connection) -> list[int]:
    """Masters of which every part is final."""
    return _ids(await rows(connection, SQL["to_finish"], final=FINAL))


async def orphans(connection: Connection, master: int | None = None) -> list[int]:
    """Open parts of killed masters (of one, or of all)."""
    return _ids(await rows(connection, SQL["orphans"], final=FINAL, master=master))


async def children(connection: Connection, master: int) -> list[Task]:
    """Parts and merge jobs of a master."""
    return [Task.of(each) for each in await rows(connection, SQL["children"], master=master)]


async def loads(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """How many jobs each owner has running, and waiting."""
    running = await rows(connection, SQL["running_by_owner"], active=sorted(model.ACTIVE))
    waiting = await rows(connection, SQL["waiting_by_owner"])
    return {r["owner"]: r["count"] for r in running}, {r["owner"]: r["count"] for r in waiting}


async def set_factor(connection: Connection, owner: str, factor: float) -> None:
    """What the broker multiplies the priority of this owner's jobs with."""
    await rows(connection, SQL["set_factor"], owner=owner, factor=factor)


async def class_ad(connection: Connection, number: int) -> Ad:
    """What resources are matched against."""
    found = await row(connection, SQL["class_ad"], **{"class": number})
    return Ad.restore(found["ad"]) if found else Ad({})


def _ids(found: Sequence[Row]) -> list[int]:
    return [int(each["id"]) for each in found]
