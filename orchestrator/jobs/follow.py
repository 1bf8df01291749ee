"""Waiting jobs follow their input data: when copies of it came or went, a job waits in the class of where it is now.

The optimizer looks at all waiting jobs that have input data, page by page, and asks the catalogue for the
files of a page by one statement. A job whose place has changed is held and released in one transaction: two
ordinary moves, which keep the counts of both classes and tell the user why. Jobs of ``Split = "ce"`` stay
with the sites that they were split by.
"""

from __future__ import annotations

from orchestrator.jobs import model, store
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.modes import lfn_of
from orchestrator.jobs.prepare import Preparer
from orchestrator.jobs.requirements import near
from orchestrator.runtime.sql import Connection
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager

PAGE = 500  # jobs
MOST_FILES = 20_000  # of one page, unless its first job has more


async def astray(connection: Connection, catalogue: Catalogue, after: int) -> tuple[list[int], int]:
    """The jobs of the page above the number ``after`` whose input data is elsewhere now, and the page's last number.

    0 is the number after the last page. A job of which a file is gone is left as it is.
    """
    found = await store.waiting_with_data(connection, after, PAGE)
    page: dict[int, tuple[str, list[str]]] = {}
    files: set[str] = set()
    for job, place, data in found:
        lfns = list(dict.fromkeys(map(lfn_of, data)))
        if page and len(files) + len(lfns) > MOST_FILES:
            break
        page[job] = (place, lfns)
        files.update(lfns)
    placed = await catalogue.placed(connection, sorted(files))
    moved = []
    for job, (place, lfns) in page.items():
        if all(lfn in placed for lfn in lfns):
            close = near([placed[lfn] for lfn in lfns])
            if (close.expression if close else "") != place:
                moved.append(job)
    over = len(page) == len(found) < PAGE
    return moved, 0 if over else max(page)


async def settle(connection: Connection, manager: Manager, maker: Preparer, task: Task) -> None:
    """``task`` (locked by this transaction), if it waits, waits for the resources near its data; no longer than before."""
    if task.state != model.WAITING:
        return
    left = await store.patience_left(connection, task.id)
    made = await maker.prepare(task.spec["jdl"], task.spec["own"], task.spec["jdl"]["OutputDir"])
    held = await manager.move(
        connection, task, model.HELD, actor="optimizer", reason="copies of its input data came or went"
    )
    await manager.move(
        connection,
        held,
        model.WAITING,
        actor="optimizer",
        reason=next((each["text"] for each in made.spec["conditions"][1:2] if made.spec["near"]), ""),
        task_class=made.task_class,
        spec=task.spec | made.spec,
        lasts=left,
    )
