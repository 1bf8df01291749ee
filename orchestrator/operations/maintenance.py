"""Central read-only for a while: everybody may look, nobody may write.

The database itself refuses: every table has a trigger then, so it holds for any number of processes, those of the
version before and those that start meanwhile, from the moment ``begin`` returns, and it costs nothing otherwise.
A write is answered 503 with the reason (``runtime.sql.ReadOnly``); claims give nothing; the optimizers rest;
ClusterMonitors keep what their agents report. What still goes on is in ``store.SOFT``.
"""

from __future__ import annotations

import asyncio

from orchestrator.errors import TemporaryError
from orchestrator.operations import store
from orchestrator.operations.model import Mode
from orchestrator.operations.store import SQL
from orchestrator.runtime.sql import Database, rows

GRACE = 60.0  # seconds that whoever has a task gets to speak when it is over
_TRY = 3.0  # seconds that all writers wait while the last of them ends
PATIENCE = 60.0  # seconds until that is given up


async def look(database: Database) -> Mode:
    """Whether central is read-only."""
    async with database.transaction() as connection:
        return await store.mode(connection)


async def begin(database: Database, reason: str, by: str, patience: float = PATIENCE) -> Mode:
    """Central is read-only when this returns, and no write is under way; of a second time only the reason is kept.

    TemporaryError when somebody wrote all through ``patience`` seconds: then it is as it was.
    """
    running = asyncio.get_running_loop()
    give_up = running.time() + patience
    while True:
        try:
            async with database.transaction() as connection:
                await store.maintain(connection)
                await store.guard(connection, _TRY)
                await rows(connection, SQL["begin"], reason=reason, by=by)
                return await store.mode(connection)
        except TemporaryError as error:
            if running.time() > give_up:
                raise TemporaryError(
                    f"somebody writes to the database for a long time, so it is not read-only: {error.message}",
                    retry_in=10.0,
                ) from error
        await asyncio.sleep(0.2)


async def end(database: Database) -> Mode:
    """Everybody may write again; who has a task has GRACE seconds to speak before it is given up.

    TemporaryError while the database is put back from a backup.
    """
    async with database.transaction() as connection:
        await store.maintain(connection)
        if not (await store.one(connection, "share_with_backups"))["mine"]:
            raise TemporaryError("the database is being put back from a backup now", retry_in=60.0)
        await store.unguard(connection)
        await rows(connection, SQL["end"])
        await rows(connection, SQL["grace"], seconds=GRACE)
        await rows(connection, SQL["wake"])
        return Mode(False)


async def renew(database: Database) -> None:
    """Tables that a migration has just made are guarded, too, if central is read-only."""
    if (await look(database)).on:
        async with database.transaction() as connection:
            await store.guard(connection, PATIENCE)
