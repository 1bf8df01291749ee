"""The statements of queries.sql as functions on a connection that is in a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.classads import Ad
from orchestrator.jobs import model
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.model import Json, storable
from orchestrator.tasks.store import SQL as TASK_SQL

SQL = Queries(Path(__file__).with_name("queries.sql"))
FINAL = sorted(model.FINAL)


@dataclass(frozen=True)
class Listed:
    """A job of a listing."""

    task: Task
    parts: int


@dataclass(frozen=True)
class Choice:
    """Which jobs; None is any."""

    states: list[str] | None = None
    owner: str | None = None
    master: int | None = None  # parts of this one; 0: jobs that are no part
    tag: str | None = None  # JobTag, with or without its "comment:"
    site: str | None = None
    since: float | None = None  # submitted within so many seconds


async def by_request(connection: Connection, owner: str, request: str) -> int | None:
    """The job that an earlier delivery of this submission made."""
    found = await row(connection, SQL["by_request"], owner=owner, request=request)
    return int(found["id"]) if found else None


async def open_submission(connection: Connection, owner: str, request: str | None, source: str) -> int | None:
    """The number of a new bulk submission; None when this request was delivered before."""
    found = await row(connection, SQL["open_submission"], owner=owner, request=request, source=source)
    return int(found["id"]) if found else None


async def close_submission(connection: Connection, number: int, made: Sequence[int]) -> None:
    """These are its jobs, in the order of its lists of arguments."""
    await rows(connection, SQL["close_submission"], id=number, tasks=list(made))


async def submitted_before(connection: Connection, owner: str, request: str) -> list[int]:
    """The jobs that an earlier delivery of this bulk submission made."""
    found = await row(connection, SQL["submitted_before"], owner=owner, request=request)
    return list(found["tasks"]) if found else []


async def source(connection: Connection, task: Task) -> str:
    """The JDL text that a job was submitted with; "" for parts."""
    if "submission" not in task.spec:
        return str(task.spec.get("source", ""))
    found = await row(connection, SQL["source"], id=task.spec["submission"])
    return str(found["source"]) if found else ""


async def listing(connection: Connection, choice: Choice, limit: int) -> list[Listed]:
    """Jobs, newest first."""
    found = await rows(connection, SQL["listing"], limit=limit, **asdict(choice))
    return [Listed(Task.of(each), int(each["parts"])) for each in found]


async def chosen(connection: Connection, choice: Choice, after: int, limit: int) -> list[int]:
    """The jobs of a choice (which names states) above the number ``after``, in order."""
    return _ids(await rows(connection, SQL["chosen"], after=after, limit=limit, **asdict(choice)))


async def parts_in(connection: Connection, master: int, state: str, limit: int) -> list[int]:
    """Parts of a master that are in ``state``, at most ``limit``."""
    return _ids(await rows(connection, SQL["parts_in"], master=master, state=state, limit=limit))


async def to_validate(connection: Connection) -> list[int]:
    """Jobs that succeeded and whose validation has not been made."""
    return _ids(await rows(connection, SQL["to_validate"]))


async def note_validation(connection: Connection, task: int, job: int) -> None:
    """``job`` judges the present attempt of ``task``, which the caller has locked."""
    await rows(connection, SQL["note_validation"], task=task, job=job)


async def open_counts(connection: Connection) -> list[Row]:
    """{owner, state, count} of jobs that have not ended."""
    return await rows(connection, SQL["open_counts"], open=sorted(set(model.LIFE) - model.FINAL))


async def lately(connection: Connection, within: float) -> tuple[list[Row], list[Row]]:
    """Of the last ``within`` seconds: {owner, state, count} of jobs that ended, and {state, count, median}
    of the states that jobs left."""
    ended = await rows(connection, SQL["ended_counts"], within=within, final=FINAL)
    return ended, await rows(connection, SQL["medians"], within=within)


async def part_counts(connection: Connection, master: int) -> dict[str, int]:
    """How many parts and merge jobs of a master are in each state."""
    found = await rows(connection, SQL["part_counts"], master=master)
    return {str(each["state"]): int(each["count"]) for each in found}


async def to_prepare(connection: Connection) -> list[int]:
    """Jobs that are INSERTING or SPLITTING."""
    return _ids(await rows(connection, SQL["to_prepare"]))


async def waiting_with_data(
    connection: Connection, after: int, limit: int
) -> list[tuple[int, str, list[str]]]:
    """Waiting jobs above the number ``after``, in order: (number, the condition on its place, its InputData)."""
    found = await rows(connection, SQL["waiting_with_data"], after=after, limit=limit)
    return [(int(each["id"]), str(each["near"]), list(each["data"])) for each in found]


async def patience_left(connection: Connection, task: int) -> float | None:
    """Seconds that a waiting job may still wait; None: for ever."""
    found = await row(connection, SQL["patience_left"], task=task)
    return found["seconds"] if found else None


async def inserting(connection: Connection, jobs: Sequence[int]) -> list[Task]:
    """Those of ``jobs`` that are INSERTING, locked; those that another optimizer has are left out."""
    return [Task.of(each) for each in await rows(connection, SQL["inserting"], jobs=list(jobs))]


async def begin_to_wait(
    connection: Connection,
    jobs: Sequence[int],
    classes: Sequence[int | None],
    specs: Sequence[Json],
    lasts: Sequence[float],
) -> None:
    """These jobs, which the caller has locked as INSERTING, wait, and their classes count them.

    The caller tells the brokers (NOTIFY ``waiting``). ``lasts``: seconds until somebody must look.
    """
    texts = [json.dumps(storable(spec), ensure_ascii=False) for spec in specs]
    values = {"jobs": list(jobs), "classes": list(classes), "specs": texts, "lasts": list(lasts)}
    for each in await rows(connection, SQL["begin_to_wait"], **values):
        entered = {name: each[name] for name in ("class", "more", "priority", "submitted")}
        await rows(connection, TASK_SQL["enter"], **entered)


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
