"""Suggestions for people and for the optimizer itself: list them, and have the copies made."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import NotFound, PermanentError
from orchestrator.jobs import store, suggest
from orchestrator.jobs.kind import Catalogue, Surroundings
from orchestrator.runtime.sql import Connection, Database, row, rows
from orchestrator.transfers.model import FINAL

Json = dict[str, Any]
SQL = store.SQL
LASTS = 900.0  # seconds after which a suggestion that no round has found again is not shown


async def listing(
    connection: Connection,
    *,
    task_class: int | None = None,
    owner: str | None = None,
    kind: str | None = None,
    target: str | None = None,
    limit: int = 100,
) -> list[Json]:
    """Suggestions, those first that help most jobs: {id, kind, subject, target, site, jobs, bytes, files (how many),
    reason, accepted, owners, age, text, advice}."""
    asked = {"class": task_class, "owner": owner, "kind": kind, "target": target, "limit": limit}
    found = await rows(connection, SQL["suggestions"], within=LASTS, **asked)
    return [each | {"text": suggest.text(each), "advice": suggest.advice(each)} for each in found]


async def accept(
    database: Database, catalogue: Catalogue, surroundings: Surroundings, user: str, number: int
) -> list[Json]:
    """``user`` asks for the copies of a suggestion: {lfn, task, state, new, size} for each file. Repeating is harmless."""
    async with database.transaction() as connection:
        alike = await rows(connection, SQL["suggested"], id=number)
        if not alike:
            raise NotFound(f"suggestion {number} is no longer made; see `orchestrate job suggestions`")
        if alike[0]["kind"] != suggest.COPY:
            raise PermanentError(
                f"suggestion {number} is nothing that central can do: only copies can be accepted"
            )
        wanted = {lfn for each in alike for lfn in each["files"]}
        placed = await catalogue.placed(connection, sorted(wanted))
        sizes = {lfn: each.size for lfn, each in placed.items() if each.ses}
    se, made = str(alike[0]["target"]), []
    names = sorted(sizes)
    for start in range(0, len(names), suggest.MOST_FILES):
        made += await surroundings.mirror(user, names[start : start + suggest.MOST_FILES], se)
    async with database.transaction() as connection:
        await rows(connection, SQL["accept"], user=user, ids=[each["id"] for each in alike])
    return [each | {"size": sizes.get(each["lfn"], 0)} for each in made]


async def act(
    database: Database, catalogue: Catalogue, surroundings: Surroundings, user: str, most: int
) -> list[Json]:
    """The optimizer accepts copies in the name of ``user`` while all that it has under way is ``most`` bytes at most."""
    async with database.transaction() as connection:
        under_way = await row(connection, SQL["copying"], final=sorted(FINAL))
        possible = await rows(connection, SQL["acceptable"], within=LASTS)
    left = most - int((under_way or {"bytes": 0})["bytes"])
    asked: list[Json] = []
    for each in possible:
        if each["bytes"] > left:
            continue
        made = await accept(database, catalogue, surroundings, user, each["id"])
        new = [one for one in made if one["new"]]
        async with database.transaction() as connection:
            tasks, sizes = [one["task"] for one in new], [one["size"] for one in new]
            await rows(connection, SQL["note_copies"], tasks=tasks, bytes=sizes)
        left -= sum(sizes)
        asked += new
    return asked
