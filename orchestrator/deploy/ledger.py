"""The write-ahead record of the deploy plane: opening it and reading it. Writing needs a lease (``session``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestrator.deploy import tables
from orchestrator.deploy.model import Action, Decision, Failure, Intent, IntentState, Override, Record, Stage
from orchestrator.errors import PermanentError, TemporaryError

_HISTORY = 500  # intents that predictions look back on
_FAILURES = 5000
_MAKING = (Action.CREATE, Action.REPLACE, Action.ADOPT)


class Ledger:
    """One site's part of a ledger database. Safe for several threads."""

    def __init__(self, engine: sa.Engine, site: str) -> None:
        self.engine = engine
        self.site = site

    @classmethod
    def open(cls, url: str, site: str) -> Ledger:
        """The ledger at a database URL, its tables made when they are missing.

        TemporaryError when the database does not answer, PermanentError when a newer program wrote it.
        """
        engine = sa.create_engine(_driver(url), pool_pre_ping=not url.startswith("sqlite"))
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _durable)
        else:
            sa.event.listen(engine, "connect", _bounded)
        ledger = cls(engine, site)
        with ledger.transaction() as connection:
            tables.metadata.create_all(connection)
            _migrate(connection, site)
        return ledger

    @classmethod
    def of_file(cls, path: Path, site: str) -> Ledger:
        """A SQLite ledger that only its owner may read; every commit is on disk when it returns."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        return cls.open(f"sqlite:///{path}", site)

    @classmethod
    def empty(cls, site: str) -> Ledger:
        """A ledger in memory, of a site where nothing was ever done."""
        return cls.open("sqlite://", site)

    def close(self) -> None:
        """No connection is open any more."""
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Committed at the end, rolled back on an exception; a database away is a TemporaryError."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError) as error:
            raise TemporaryError(
                f"the ledger of {self.site} does not answer: {error.orig}", retry_in=1.0
            ) from error

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def open_intents(self) -> tuple[Intent, ...]:
        """Side effects whose outcome is not known, oldest first."""
        table = tables.intent
        query = sa.select(table).where(table.c.site == self.site, table.c.state == IntentState.OPEN)
        return tuple(_intent(row) for row in self._rows(query.order_by(table.c.id)))

    def intents(self, name: str, limit: int = 20) -> tuple[Intent, ...]:
        """The last side effects on a machine or group, newest first."""
        table = tables.intent
        mine = sa.or_(table.c.object == name, table.c.group_name == name)
        query = sa.select(table).where(table.c.site == self.site, mine)
        return tuple(_intent(row) for row in self._rows(query.order_by(table.c.id.desc()).limit(limit)))

    def decisions(self, name: str, limit: int = 20) -> tuple[Decision, ...]:
        """The last decisions about a machine or group, newest first."""
        table = tables.decision
        mine = sa.or_(table.c.object == name, table.c.group_name == name)
        query = (
            sa.select(table).where(table.c.site == self.site, mine).order_by(table.c.id.desc()).limit(limit)
        )
        return tuple(
            Decision(row["at"], row["object"], row["group_name"], Action(row["action"]), row["reason"])
            for row in self._rows(query)
        )

    def story(self, group: str, limit: int = 20) -> tuple[Decision, ...]:
        """The last decisions about a group, newest first; those alike about many machines are one."""
        table = tables.decision
        many = sa.func.count(sa.distinct(table.c.object))
        query = (
            sa.select(
                table.c.action, table.c.reason, sa.func.max(table.c.at).label("last"),
                sa.func.min(table.c.object).label("one"), many.label("many"),
            )
            .where(table.c.site == self.site, table.c.group_name == group)
            .group_by(table.c.epoch, table.c.action, table.c.reason)
            .order_by(sa.desc("last"), table.c.action)
            .limit(limit)
        )  # fmt: skip
        return tuple(
            Decision(
                row["last"],
                row["one"] if row["many"] == 1 else f"{row['many']} machines",
                group,
                Action(row["action"]),
                row["reason"],
            )
            for row in self._rows(query)
        )

    def records(self) -> dict[str, Record]:
        """Machines that are known to be ours, by name."""
        query = sa.select(tables.machine).where(tables.machine.c.site == self.site)
        return {
            row["name"]: Record(
                row["name"], row["group_name"], row["role"], row["provider"], Stage(row["stage"]), row["at"]
            )
            for row in self._rows(query)
        }

    def failures(self) -> tuple[Failure, ...]:
        """Makings of machines that failed, newest first; forgotten when one of the same machine goes well."""
        table = tables.intent
        making = (table.c.site == self.site) & table.c.action.in_(_MAKING)
        done = table.alias()
        last = sa.select(sa.func.max(done.c.id)).where(
            done.c.site == self.site, done.c.object == table.c.object, done.c.action.in_(_MAKING),
            done.c.state == IntentState.DONE,
        )  # fmt: skip
        query = sa.select(table.c.object, table.c.provider, table.c.place).where(
            making, table.c.state == IntentState.FAILED,
            table.c.id > sa.func.coalesce(last.scalar_subquery(), 0),
        )  # fmt: skip
        return tuple(
            Failure(row["object"], row["provider"], row["place"])
            for row in self._rows(query.order_by(table.c.id.desc()).limit(_FAILURES))
        )

    def overrides(self) -> dict[str, Override]:
        """Counts set by ``scale``, by group."""
        query = sa.select(tables.scale).where(tables.scale.c.site == self.site)
        return {row["group_name"]: Override(row["count"], row["base"]) for row in self._rows(query)}

    def seconds(self) -> dict[tuple[str, str], float]:
        """(action, role) → how long it usually takes, from the last intents that went well."""
        table = tables.intent
        last = (
            sa.select(table)
            .where(table.c.site == self.site, table.c.state == IntentState.DONE)
            .order_by(table.c.id.desc())
            .limit(_HISTORY)
            .subquery()
        )
        took = sa.func.avg(last.c.closed - last.c.opened).label("took")
        query = sa.select(last.c.action, last.c.role, took).group_by(last.c.action, last.c.role)
        return {(row["action"], row["role"]): float(row["took"]) for row in self._rows(query)}

    def lease(self) -> tuple[str, float, float] | None:
        """(holder, since, expires) as last written, or None when nobody ever held it or it was given back."""
        table = tables.lease
        rows = self._rows(sa.select(table).where(table.c.site == self.site, table.c.expires > 0))
        return (rows[0]["holder"], rows[0]["since"], rows[0]["expires"]) if rows else None


def _migrate(connection: sa.Connection, site: str) -> None:
    """The tables are of this program's version. Two programs that start at once do it one after the other."""
    table = tables.version
    connection.execute(table.update().values(number=table.c.number))  # locks
    found = connection.scalar(sa.select(sa.func.max(table.c.number)))
    if found is None:
        connection.execute(table.insert().values(number=tables.VERSION))
    elif found > tables.VERSION:
        raise PermanentError(
            f"the ledger of {site} was written by a newer orchestrate (format {found}); upgrade this one"
        )
    elif found < tables.VERSION:
        for number in range(found + 1, tables.VERSION + 1):
            for statement in tables.MIGRATIONS[number]:
                connection.execute(sa.text(statement))
        connection.execute(table.update().values(number=tables.VERSION))


def _driver(url: str) -> str:
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def _durable(connection: Any, _: object) -> None:
    """WAL lets status read while up writes; FULL makes a commit survive a power cut."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _bounded(connection: Any, _: object) -> None:
    """A process that was paused within a transaction must not keep its locks: the server ends that
    transaction, and whoever takes the lease over waits for it no longer than that."""
    cursor = connection.cursor()
    cursor.execute("SET idle_in_transaction_session_timeout = '5s'")
    cursor.execute("SET lock_timeout = '10s'")
    if connection.info.server_version >= 170000:  # the timeout above does not see a pause after a pipeline
        cursor.execute("SET transaction_timeout = '15s'")
    cursor.close()
    connection.commit()


def _intent(row: dict[str, Any]) -> Intent:
    return Intent(
        id=row["id"],
        epoch=row["epoch"],
        action=Action(row["action"]),
        object=row["object"],
        group=row["group_name"],
        role=row["role"],
        provider=row["provider"],
        state=IntentState(row["state"]),
        reason=row["reason"],
        opened=row["opened"],
        closed=row["closed"],
        error=row["error"],
        keep_data=row["keep_data"],
    )
