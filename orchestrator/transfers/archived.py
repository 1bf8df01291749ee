"""Transfers that ended long ago, in the archive of tasks: which may go there, and how one is read by its number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import NotFound
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows
from orchestrator.tasks.archive import Ended
from orchestrator.tasks.kinds import Task
from orchestrator.transfers import model, store

SQL = Queries(Path(__file__).with_name("archive.sql"))


async def _open(connection: Connection, tasks: Sequence[int]) -> set[int]:
    return {int(each["task"]) for each in await rows(connection, SQL["open"], tasks=list(tasks))}


async def _pack(connection: Connection, tasks: Sequence[int]) -> None:
    await rows(connection, SQL["pack"], tasks=list(tasks))


ENDED = Ended(model.FINAL, _open, _pack)


async def get(connection: Connection, transfer: int) -> Row:
    """``store.get``, wherever the transfer is."""
    try:
        return await store.get(connection, transfer)
    except NotFound:
        found = await row(connection, SQL["get"], task=transfer)
        if found is None:
            raise
        return found


async def listed(connection: Connection, transfer: int) -> tuple[Row, list[Task]]:
    """One transfer as a row of ``store.listing``, wherever it is, and its steps; NotFound when there is none."""
    if found := await store.listing(connection, task=transfer):
        return found[0], await store.steps(connection, transfer)
    found = await rows(connection, SQL["row"], task=transfer)
    if not found:
        raise NotFound(f"there is no transfer {transfer}", task=transfer)
    steps = await rows(connection, SQL["steps"], task=transfer)
    return found[0], [Task.of(each) for each in steps]
