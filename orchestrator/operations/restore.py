"""Central's database becomes what a backup holds, and the grid converges to it by itself.

**All or nothing.** One transaction makes the schema anew beside the old one (by the migrations of the backup, then its
rows, then the migrations since), and puts it in the old one's place when it commits: whoever dies in between, whoever
is killed, the database is as it was. Until then everybody reads the old one, and nobody writes (``maintenance``).

**What happened after the backup is unknown, and must not be mixed up with what happens now:**

- *Numbers.* Every sequence goes on above all that it can have given out since (``model.next_number``), and above what
  the replaced database had given out: no new task, class, command or submission has the number of a lost one. Whoever
  still runs a lost task is told that there is none, and stops.
- *Attempts.* A task that was with a resource keeps its attempt: only that resource has it, by number, so it may go on,
  and what it reports is taken (a job that has run for days is not lost); if it is gone, its silence is noticed as ever.
  A task that was with nobody may have been given out since under the number it would now be given out with: its number
  is made higher than any that was given out (``model.first_attempt``), with an event that says so. So is the number of
  every later attempt, by a trigger: what ran after the backup is refused everywhere, whatever attempt it was.
- *Single-use tokens* from before the restore count as spent (``grid.restored``): agents that were just starting are
  started anew by their CE.
- *Everybody who holds a connection* begins anew: no process goes on with what it remembers.

A central that was made anew because its machine was lost is empty until the restore: it tells agents that it does not
know their jobs, so those run again instead of going on.

What is lost for good: jobs submitted, files registered, packages published and members added since (whoever was
removed since then is back). Files written since lie on the storage elements without an entry; files removed since have
an entry, and no copy any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import TemporaryError
from orchestrator.operations import maintenance, store
from orchestrator.operations.backup import Reader, Tell
from orchestrator.operations.model import Header, Mode, check, first_attempt, next_number
from orchestrator.operations.store import SQL
from orchestrator.runtime.sql import Connection, Database, apply_migrations, migration_names, rows

ACTOR = "restore"  # who made central read-only
READERS = 300  # seconds that the last readers of the replaced tables get


@dataclass(frozen=True)
class Restored:
    """What was put back."""

    taken: float  # when the backup was made
    rows: dict[str, int]
    waiting: int  # tasks whose attempt has a new number
    running: int  # tasks that were with a resource, and may be still
    first_attempt: int
    migrated: list[str]  # migrations since the backup
    read_only: bool  # it was so before, so it still is


async def restore(
    database: Database, reader: Reader, vo: str, components: Sequence[Path], tell: Tell
) -> Restored:
    """The database is what the backup holds. UserError when it is another VO's, newer, or damaged: nothing changes.

    Central is read-only meanwhile, and also after an interruption: until it is repeated or the mode is ended.
    """
    header = reader.header
    check(header, vo, migration_names(components))
    before = await maintenance.look(database)
    if not before.on:
        reason = f"the database is put back from the backup of {_day(header)}"
        await maintenance.begin(database, reason, ACTOR)
    kept = before if before.on and before.by != ACTOR else None
    async with database.transaction() as connection:
        await store.maintain(connection)
        if not (await store.one(connection, "exclude_others"))["mine"]:
            raise TemporaryError("a backup or another restore is under way", retry_in=30.0)
        done = await _replace(connection, reader, components, tell, kept)
    async with database.transaction() as connection:
        await rows(connection, SQL["end_others"])
    return done


async def _replace(
    connection: Connection, reader: Reader, components: Sequence[Path], tell: Tell, kept: Mode | None
) -> Restored:
    header = reader.header
    replaced = await store.sequences(connection, "grid")
    await rows(connection, SQL["set_aside"])
    await apply_migrations(connection, components, header.migrations)
    await store.make_partitions(connection, header.partitions)
    await store.empty(connection, header.tables)
    for table, blocks in reader.tables():
        await store.copy_in(connection, table, blocks)
        tell(table.name, reader.counts[table.name])
    migrated = await apply_migrations(connection, components)
    await rows(connection, SQL["end"])  # a backup made while central was read-only
    seconds = (await store.one(connection, "now"))["now"] - header.made
    for name, last in (await store.sequences(connection, "grid")).items():
        highest = max(last, header.sequences.get(name, 0), replaced.get(name, 0))
        await rows(connection, SQL["advance"], name=name, last=next_number(highest, seconds))
    first = first_attempt(int((await store.one(connection, "highest_attempt"))["highest"]), seconds)
    why = (
        f"central was put back to {_day(header)}: an attempt of a lower number may have been given out since"
    )
    waiting = await store.fence(connection, first, why)
    await rows(connection, SQL["grace"], seconds=maintenance.GRACE)
    running = int((await store.one(connection, "with_somebody"))["count"])
    await store.analyze(connection, header.tables)
    await rows(connection, SQL["lock_patience"], wait=f"{READERS}s")
    await rows(connection, SQL["drop_replaced"])  # waits for its readers; later ones wait for us
    # Not earlier: a token that was spent a moment ago was noted in what has just been dropped.
    await rows(connection, SQL["note"], taken=header.made, first=first)
    if kept is not None:
        await store.guard(connection, maintenance.PATIENCE)
        await rows(connection, SQL["begin"], reason=kept.reason, by=kept.by)
    return Restored(header.made, dict(reader.counts), waiting, running, first, migrated, kept is not None)


def _day(header: Header) -> str:
    return datetime.fromtimestamp(header.made, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
