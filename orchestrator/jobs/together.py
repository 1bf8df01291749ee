"""Jobs that were submitted together become ready together: one transaction and one statement for many."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.errors import PermanentError, TemporaryError, UserError
from orchestrator.jobs import collection, model, store
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.prepare import Preparer, default_dir
from orchestrator.runtime.sql import Connection, Database, spoilt
from orchestrator.states import advance
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.store import New


async def ready(
    database: Database, manager: Manager, catalogue: Catalogue, defaults: Defaults, jobs: Sequence[int]
) -> list[int]:
    """Those of ``jobs`` that are INSERTING and neither split nor read a collection are WAITING or ERROR_I.

    Returns the others: they are made ready one by one. All of them when one breaks the transaction, or when the
    database does not answer now.
    """
    if not jobs:
        return []
    try:
        async with database.transaction() as connection:
            found = [each for each in await store.inserting(connection, jobs) if _plain(each)]
            await _wait(connection, manager, catalogue, defaults, found)
    except TemporaryError:
        return list(jobs)
    done = {each.id for each in found}
    return [job for job in jobs if job not in done]


def _plain(task: Task) -> bool:
    return "Split" not in task.spec["jdl"] and not collection.wanted(task.spec["jdl"])


async def _wait(
    connection: Connection, manager: Manager, catalogue: Catalogue, defaults: Defaults, found: Sequence[Task]
) -> None:
    makers = {
        owner: Preparer(connection, catalogue, owner, defaults) for owner in {each.owner for each in found}
    }
    made: list[tuple[Task, New]] = []
    for task in found:
        directory = default_dir(defaults.vo, task.owner, task.id)
        sites = task.spec.get("sites", ())
        try:
            new = await makers[task.owner].prepare(task.spec["jdl"], task.spec["own"], directory, sites)
        except (UserError, PermanentError) as error:
            if spoilt(connection):
                raise TemporaryError("one of them broke the transaction of all", job=task.id) from error
            await manager.move(connection, task, model.ERROR_I, actor="optimizer", reason=error.message)
        else:
            made.append((task, new))
    advance(model.LIFE, model.INSERTING, model.WAITING)
    await store.begin_to_wait(
        connection,
        [task.id for task, _ in made],
        [new.task_class for _, new in made],
        [task.spec | new.spec for task, new in made],
        [float(new.spec["jdl"]["MaxWaitingTime"]) for _, new in made],
    )
    if made:
        await tasks.tell_waiting(connection, sorted({new.task_class for _, new in made if new.task_class}))
