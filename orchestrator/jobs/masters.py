"""Masters: what follows when their parts are final, their merge jobs, and running failed parts again."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.jobs import merge as merging
from orchestrator.jobs import model
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.prepare import Preparer, default_dir
from orchestrator.runtime.sql import Connection
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.store import New

Act = Callable[[int], Awaitable[None]]
MORE_ATTEMPTS = 5  # that a resubmission allows
REPEATED = "repeated"  # in the spec of a part: how often it ran again by itself
Json = dict[str, Any]


@dataclass(frozen=True)
class Finish:
    """Where a master goes; for MERGING: the JDLs to read and the parts that succeeded; SPLIT: parts run again."""

    to: str
    reason: str = ""
    jdls: tuple[str, ...] = ()
    finished: tuple[merging.Finished, ...] = ()
    again: tuple[int, ...] = ()


def lfns(task: Task) -> tuple[str, ...]:
    """What an attempt booked."""
    return tuple(dict.fromkeys(str(output["lfn"]) for output in task.result.get("outputs", ())))


def decide_finish(master: Task, children: Sequence[Task]) -> Finish | None:
    """The move of a master, or None while it must wait. Pure."""
    parts = [each for each in children if each.spec.get("role") == "part"]
    if master.state == model.MERGING:
        merges = [each for each in children if each.spec.get("master_attempt") == master.attempt]
        if any(not model.settled(each.state, each.spec) for each in merges):
            return None
        if bad := [each for each in merges if each.state not in model.SUCCESSES]:
            return Finish(model.ERROR_M, f"merge job {bad[0].id} ended as {bad[0].state}: {bad[0].reason}")
        return _done(parts)
    if master.state != model.SPLIT or any(not model.settled(each.state, each.spec) for each in parts):
        return None
    failed = [each for each in parts if each.state not in model.SUCCESSES]
    if again := _to_repeat(master, parts, failed):
        return Finish(model.SPLIT, again=again)
    if len(failed) > float(master.spec["jdl"].get("MaxFailFraction", 0.0)) * len(parts) or len(failed) == len(
        parts
    ):
        first = f"{failed[0].id} is {failed[0].state}" if failed else "there is none"
        return Finish(model.ERROR_E, f"{len(failed)} of {len(parts)} parts failed ({first})")
    wanted = merging.rules(master.spec["jdl"])
    if not wanted:
        return _done(parts)
    good = [each for each in parts if each.state in model.SUCCESSES]
    finished = tuple(merging.Finished(int(each.spec["counter"]), lfns(each)) for each in good)
    return Finish(model.MERGING, "", tuple(sorted({rule.jdl for rule in wanted})), finished)


def _to_repeat(master: Task, parts: Sequence[Task], failed: Sequence[Task]) -> tuple[int, ...]:
    """The failed parts that run again by themselves.

    MaxResubmitFraction (0 when it is not given) times the number of parts is how many resubmissions all of
    them may have together; what the owner killed stays killed, and the owner's own resubmissions do not count.
    """
    allowed = math.floor(float(master.spec["jdl"].get("MaxResubmitFraction", 0.0)) * len(parts) + 1e-9)
    left = max(0, allowed - sum(int(each.spec.get(REPEATED, 0)) for each in parts))
    return tuple(each.id for each in failed if each.state != model.KILLED)[:left]


def _done(parts: Sequence[Task]) -> Finish:
    failed = [each for each in parts if each.state not in model.SUCCESSES]
    warned = failed or any(each.state == model.DONE_WARN for each in parts)
    reason = f"{len(failed)} of {len(parts)} parts failed" if failed else ""
    return Finish(model.DONE_WARN if warned else model.DONE, reason)


async def merge(
    connection: Connection,
    maker: Preparer,
    master: Task,
    finished: Sequence[merging.Finished],
    texts: Mapping[str, str],
) -> None:
    """Insert the merge jobs of ``master``; UserError when one of them cannot be made."""
    attributes = master.spec["jdl"]
    base = default_dir(maker.defaults.vo, master.owner, master.id)
    directory = merging.output_dir(attributes, base)
    made = []
    for own, requirements in merging.jobs(attributes, texts, finished, directory, maker.defaults):
        new = await maker.prepare(own, requirements, directory)
        new.spec.update(role="merge", master_attempt=master.attempt)
        made.append(New(new.spec, new.task_class, max(new.priority, master.priority)))
    await tasks.submit(
        connection, model.KIND, master.owner, model.WAITING, made, actor="optimizer", parent=master.id
    )


async def repeat(
    connection: Connection,
    manager: Manager,
    catalogue: Catalogue,
    children: Sequence[Task],
    which: Sequence[int],
) -> None:
    """These failed parts have their next attempt, counted as one that nobody asked for."""
    for child in children:
        if child.id in which:
            spec = child.spec | {REPEATED: int(child.spec.get(REPEATED, 0)) + 1}
            await requeue(connection, manager, catalogue, child, "optimizer", spec)


async def again(
    connection: Connection, manager: Manager, catalogue: Catalogue, children: Sequence[Task]
) -> None:
    """Failed parts wait again; what old merge jobs booked is forgotten."""
    for child in children:
        if child.spec.get("role") == "merge":
            await catalogue.remove(connection, lfns(child))
        elif child.state in model.FAILURES:
            await requeue(connection, manager, catalogue, child, "optimizer", child.spec | {REPEATED: 0})


async def requeue(
    connection: Connection,
    manager: Manager,
    catalogue: Catalogue,
    task: Task,
    actor: str,
    spec: Json | None = None,
) -> Task:
    """The next attempt of a failed job: what the old one booked is removed from the catalogue first.

    A job with input data is prepared anew, since the copies may be elsewhere by now.
    """
    await catalogue.remove(connection, lfns(task))
    if "Split" in task.spec["jdl"] and task.parent is None:
        new = model.SPLITTING if task.state != model.ERROR_I else model.INSERTING
    else:
        ready = task.task_class is not None and not task.spec["jdl"].get("InputData")
        new = model.WAITING if ready or task.state == model.EXPIRED else model.INSERTING
    return await manager.move(
        connection,
        task,
        new,
        actor=actor,
        reason="resubmitted",
        again=True,
        spec=spec,
        allow=max(0, task.attempt + MORE_ATTEMPTS - task.max_attempts),
    )
