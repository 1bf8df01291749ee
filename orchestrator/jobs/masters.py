"""Masters: what follows when their parts are final, their merge jobs, and running failed parts again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Finish:
    """Where a master goes; for MERGING: the JDLs to read and the parts that succeeded."""

    to: str
    reason: str = ""
    jdls: tuple[str, ...] = ()
    finished: tuple[merging.Finished, ...] = ()


def lfns(task: Task) -> tuple[str, ...]:
    """What an attempt booked."""
    return tuple(dict.fromkeys(str(output["lfn"]) for output in task.result.get("outputs", ())))


def decide_finish(master: Task, children: Sequence[Task]) -> Finish | None:
    """The move of a master, or None while it must wait. Pure."""
    parts = [each for each in children if each.spec.get("role") == "part"]
    if master.state == model.MERGING:
        merges = [each for each in children if each.spec.get("master_attempt") == master.attempt]
        if any(each.state not in model.FINAL for each in merges):
            return None
        if bad := [each for each in merges if each.state not in model.SUCCESSES]:
            return Finish(model.ERROR_M, f"merge job {bad[0].id} ended as {bad[0].state}: {bad[0].reason}")
        return _done(parts)
    if master.state != model.SPLIT or any(each.state not in model.FINAL for each in parts):
        return None
    failed = [each for each in parts if each.state not in model.SUCCESSES]
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


async def again(
    connection: Connection, manager: Manager, catalogue: Catalogue, children: Sequence[Task]
) -> None:
    """Failed parts wait again; what old merge jobs booked is forgotten."""
    for child in children:
        if child.spec.get("role") == "merge":
            await catalogue.remove(connection, lfns(child))
        elif child.state in model.FAILURES:
            await requeue(connection, manager, catalogue, child, "optimizer")


async def requeue(
    connection: Connection, manager: Manager, catalogue: Catalogue, task: Task, actor: str
) -> Task:
    """The next attempt of a failed job: what the old one booked is removed from the catalogue first."""
    await catalogue.remove(connection, lfns(task))
    if "Split" in task.spec["jdl"] and task.parent is None:
        new = model.SPLITTING if task.state != model.ERROR_I else model.INSERTING
    else:
        new = model.WAITING if task.task_class is not None else model.INSERTING
    return await manager.move(
        connection,
        task,
        new,
        actor=actor,
        reason="resubmitted",
        again=True,
        allow=max(0, task.attempt + MORE_ATTEMPTS - task.max_attempts),
    )
