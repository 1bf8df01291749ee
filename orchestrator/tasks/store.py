"""The statements of queries.sql as functions on a connection that is in a transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from psycopg import sql
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from orchestrator.classads import Ad
from orchestrator.errors import NotFound, PermanentError
from orchestrator.runtime.sql import Connection, Queries, row, rows
from orchestrator.states import advance
from orchestrator.tasks.kinds import WAITING, Task
from orchestrator.tasks.model import Beat, Command, Json, storable

LONGEST_NOTE = 7000  # bytes; PostgreSQL takes 8000. "" stands for anything
SQL = Queries(Path(__file__).with_name("queries.sql"))
ARCHIVE = Queries(Path(__file__).with_name("archive.sql"))


def _json(value: Json) -> Jsonb:
    return Jsonb(storable(value))


class Overtaken(PermanentError):
    """Somebody else moved the task first; look at it again."""


@dataclass(frozen=True)
class New:
    """A task to insert."""

    spec: Json
    task_class: int | None = None
    priority: float = 1.0


async def class_id(connection: Connection, kind: str, owner: str, ad: Ad, site: str = "") -> int:
    """The id of the class of tasks that are alike for every resource."""
    values = {"kind": kind, "owner": owner, "site": site, "digest": ad.digest(), "ad": ad.canonical()}
    found = None
    while found is None:  # a second look sees the class that somebody else has just inserted
        found = await row(connection, SQL["class_id"], **values)
    return int(found["id"])


async def submit(
    connection: Connection,
    kind: str,
    owner: str,
    state: str,
    tasks: Sequence[New],
    *,
    actor: str,
    parent: int | None = None,
    max_attempts: int = 5,
    lasts: float | None = None,
) -> list[int]:
    """Insert tasks in ``state``; their ids in order. ``lasts``: seconds until somebody must look."""
    made = await rows(
        connection,
        SQL["submit"],
        kind=kind,
        owner=owner,
        state=state,
        parent=parent,
        actor=actor,
        max_attempts=max_attempts,
        lasts=lasts,
        specs=[_json(task.spec) for task in tasks],
        classes=[task.task_class for task in tasks],
        priorities=[task.priority for task in tasks],
    )
    if state == WAITING:
        counts = Counter(task.task_class for task in tasks)
        for each in sorted(number for number in counts if number is not None):
            best = max(task.priority for task in tasks if task.task_class == each)
            await _enter(connection, each, counts[each], best, None)
        await tell_waiting(connection, [number for number in counts if number is not None])
    return [int(each["id"]) for each in made]


async def _enter(
    connection: Connection, number: int, more: int, priority: float, since: datetime | None
) -> None:
    values = {"class": number, "more": more, "priority": priority, "submitted": since}
    await rows(connection, SQL["enter"], **values)


async def notify(connection: Connection, channel: str, payload: str) -> None:
    """Tell the listeners of ``channel`` when this transaction commits."""
    await rows(connection, SQL["notify"], channel=channel, payload=payload)


async def tell_waiting(connection: Connection, classes: Sequence[int]) -> None:
    """Tell the brokers, when this transaction commits, that these classes have more waiting members."""
    text = ",".join(map(str, classes))
    await notify(connection, "waiting", text if len(text) < LONGEST_NOTE else "")


async def get(connection: Connection, task: int, *, lock: bool = False) -> Task:
    """The task; NotFound when there is none. With ``lock`` nobody else moves it before the transaction ends.

    An archived one is not locked: it is at its end, and every move of it is Overtaken (see ``archive.restore``).
    """
    while (found := await row(connection, SQL["lock" if lock else "get"], task=task)) is None:
        if (found := await row(connection, ARCHIVE["anywhere"], task=task)) is None:
            raise NotFound(f"there is no task {task}", task=task)
        if found["archived"] or not lock:
            break  # else it was just brought back
    return Task.of(found)


async def move(
    connection: Connection,
    life: Mapping[str, frozenset[str]],
    task: Task,
    new: str,
    *,
    actor: str,
    reason: str = "",
    again: bool = False,
    allow: int = 0,
    task_class: int | None = None,
    spec: Json | None = None,
    result: Json | None = None,
    lasts: float | None = None,
) -> Task:
    """Move ``task`` to ``new`` by compare-and-set and return it as it is then.

    ``again``: the next attempt begins, the result and the place of the old one are forgotten;
    ``allow``: so many attempts more than before; ``lasts``: seconds until somebody must look.
    IllegalTransition when the table does not hold the move, Overtaken when the task has moved meanwhile.
    """
    advance(life, task.state, new)
    values = {
        "task": task.id,
        "old": task.state,
        "attempt": task.attempt,
        "new": new,
        "actor": actor,
        "reason": storable(reason[:2000]),
        "again": int(again),
        "allow": allow,
        "class": task_class,
        "spec": _json(spec) if spec is not None else None,
        "result": _json(result or {}),
        "lasts": lasts,
    }
    found = await row(connection, SQL["move"], **values)
    if found is None:
        raise Overtaken(f"{task.kind} {task.id} is no longer {task.state}", task=task.id)
    moved = Task.of(found)
    if task.state == WAITING and task.task_class is not None:
        await rows(connection, SQL["leave"], **{"class": task.task_class})
    if new == WAITING and moved.task_class is not None:
        await _enter(connection, moved.task_class, 1, moved.priority, found["submitted"])
        await tell_waiting(connection, [moved.task_class])
    return moved


async def beat(
    connection: Connection, site: str, beats: Sequence[Beat], active: frozenset[str], lasts: float
) -> set[tuple[int, int]]:
    """Prolong these attempts by ``lasts`` seconds from now; the (task, attempt) pairs that were alive."""
    ordered = sorted(beats, key=lambda each: each.task)
    alive = await rows(
        connection,
        SQL["beat"],
        site=site,
        lasts=lasts,
        active=sorted(active),
        tasks=[each.task for each in ordered],
        attempts=[each.attempt for each in ordered],
        usages=[_json(each.usage) for each in ordered],
    )
    return {(each["id"], each["attempt"]) for each in alive}


async def events(connection: Connection, task: int, after: int = 0) -> list[Json]:
    """Events above the sequence number ``after``, in order."""
    found = await rows(connection, SQL["events"], task=task, after=after)
    return found or await rows(connection, ARCHIVE["events_anywhere"], task=task, after=after)


async def command(connection: Connection, task: Task, verb: str, facts: Json | None = None) -> int:
    """Send ``verb`` to the agent of the task's current attempt, through its site; the command's id."""
    values = {"site": task.site, "task": task.id, "attempt": task.attempt, "verb": verb}
    made = await row(connection, SQL["command_add"], **values, facts=_json(facts or {}))
    await notify(connection, "command", task.site)
    return int((made or {})["id"])


async def take_commands(connection: Connection, site: str, resend: float) -> list[Command]:
    """Unanswered commands of a site, leaving out those sent within the last ``resend`` seconds."""
    found = await rows(connection, SQL["command_take"], site=site, resend=resend)
    return sorted((Command(**each) for each in found), key=lambda each: each.id)


async def answer_command(connection: Connection, site: str, number: int, answer: Json) -> None:
    """Keep the answer; a second one, or one of another site, changes nothing."""
    if await row(connection, SQL["command_answer"], command=number, site=site, answer=_json(answer)):
        await notify(connection, "event", f"command:{number}")


async def define_part(connection: Connection, what: str, first: int, until: int = 0) -> None:
    """``make`` or ``drop`` the partitions of the part of the archive that begins with task ``first``."""
    names = {"tasks": f"task_archive_{first}", "events": f"task_event_archive_{first}"}
    values = {name: sql.Identifier(table) for name, table in names.items()}
    for each in ARCHIVE[what].split(";"):
        statement = sql.SQL(each).format(first=sql.Literal(first), until=sql.Literal(until), **values)
        await connection.execute(statement)


async def bring_back(connection: Connection, head: Task, family: Sequence[int]) -> None:
    """These archived tasks are live. PermanentError when the request that made ``head`` has made another one since."""
    try:
        await rows(connection, ARCHIVE["bring_back"], tasks=list(family))
    except UniqueViolation as error:
        said = f"{head.kind} {head.id} was archived, and its submission was repeated since: use the newer one"
        raise PermanentError(said, task=head.id) from error
