"""Writing the ledger: a lease fenced by its epoch, intents, decisions, machine records.

Each write is one transaction whose first statement locks the lease's row and checks the epoch in
it. Until the commit nobody can take the lease over, so a stale holder writes nothing, on SQLite
and on PostgreSQL alike.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from orchestrator.deploy import tables
from orchestrator.deploy.holder import told
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.machines import Machines
from orchestrator.deploy.model import PROGRESS, STAGES, Action, IntentState, Override, Stage
from orchestrator.deploy.plan import Change
from orchestrator.deploy.recover import Settled
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.runtime.clock import Clock
from orchestrator.states import advance

# A drain that failed has left the machine as it was: still to be drained, or undrained.
_FAILING = frozenset(PROGRESS) - {Action.DRAIN, Action.UNDRAIN}
Outcome = tuple[int, Change, IntentState, str, str]  # intent, change, state, error, place
TTL = 15.0  # seconds after which a holder that does not renew has lost its lease

# Made once: building a statement costs more than running it. One call runs each for many rows.
_intent = tables.intent.c
_OPEN = tables.intent.insert().returning(_intent.id, sort_by_parameter_order=True)
_CLOSE = (
    tables.intent.update()
    .where(_intent.id == sa.bindparam("intent"))
    .values({name: sa.bindparam(name) for name in ("state", "error", "closed", "place")})
)
_TAKEN_UP = (
    tables.intent.update()
    .where(_intent.site == sa.bindparam("of"), _intent.object == sa.bindparam("on"))
    .where(_intent.state == IntentState.OPEN)
    .values(state=IntentState.INTERRUPTED, closed=sa.bindparam("closed"), error=sa.bindparam("error"))
)


class LeaseHeld(TemporaryError):
    """Somebody else changes the site now; ``facts``: holder, since, expires."""


class LeaseLost(PermanentError):
    """Another holder took the lease over (this process slept too long); nothing more was written."""


class Session:
    """The lease of one site, while it is held. Use as a context manager; one thread writes.

    ``lost`` is set when the renewing thread finds the lease taken over.
    """

    def __init__(
        self, ledger: Ledger, holder: str, epoch: int, clock: Clock, ttl: float, world: Clock | None = None
    ) -> None:
        self._ledger, self._site = ledger, ledger.site
        self._holder, self.epoch = holder, epoch
        self._clock, self._ttl = clock, ttl  # of the lease: real time, since other processes live in it
        self._world = world or clock  # of what is done: time may be simulated
        self._machines = Machines(self._site, ledger.records())
        self._open = {intent.object for intent in ledger.open_intents()}
        self._ended = threading.Event()
        self.lost = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._renewer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._renewer.join()
        try:
            with self._guarded() as connection:
                self._lease(connection, expires=0.0)
        except GridError:
            if kind is None and not self.lost.is_set():
                raise

    def open(
        self, changes: Sequence[Change], keep_data: bool = False, outcomes: Iterable[Outcome] = ()
    ) -> list[int]:
        """An open intent for each change is on disk; intents left open on the same objects are closed.

        ``outcomes`` (as for ``close``) go with them, in the same transaction.
        """
        now = self._world.now()
        with self._guarded() as connection:
            self._closed(connection, outcomes, now)
            older = [
                {"of": self._site, "on": c.object, "closed": now, "error": f"taken up again as {c.action}"}
                for c in changes
                if c.object in self._open
            ]
            if older:
                connection.execute(_TAKEN_UP, older)
            rows = [self._row(change, keep_data, now) for change in changes]
            ids = [int(row[0]) for row in connection.execute(_OPEN, rows)] if rows else []
            self._open.update(change.object for change in changes)
            for change in changes:
                if change.action in PROGRESS:
                    self._machines.move(change, PROGRESS[change.action][0], now)
            self._machines.write(connection)
        return ids

    def close(self, outcomes: Iterable[Outcome]) -> None:
        """Each (intent, change, state, error, place) is on disk, with the stage its machine has by it."""
        with self._guarded() as connection:
            self._closed(connection, outcomes, self._world.now())

    def _closed(self, connection: sa.Connection, outcomes: Iterable[Outcome], now: float) -> None:
        rows = []
        for intent, change, state, error, place in outcomes:
            rows.append({"intent": intent, "state": state, "error": error, "closed": now, "place": place})
            self._open.discard(change.object)
            if change.action in PROGRESS and state is IntentState.DONE:
                self._machines.move(change, PROGRESS[change.action][1], now)
            elif change.action in _FAILING and state is IntentState.FAILED:
                self._machines.move(change, Stage.FAILED, now)
        if rows:
            connection.execute(_CLOSE, rows)
        self._machines.write(connection)

    def seen(self, well: Iterable[str], ill: Iterable[str] = ()) -> None:
        """Those machines were seen doing their work; those ill did none in all the time they were given."""
        now = self._world.now()
        news = dict.fromkeys(well, Stage.READY) | dict.fromkeys(ill, Stage.FAILED)
        known = [
            r
            for name, stage in news.items()
            if (r := self._machines.records.get(name)) and r.stage is not stage
        ]
        if not known:
            return
        with self._guarded() as connection:
            for record in known:
                self._machines.put(record, advance(STAGES, record.stage, news[record.name]), now)
            self._machines.write(connection)

    def settle(self, verdicts: Sequence[Settled]) -> None:
        """Intents that a crash left open are closed as they were found."""
        now = self._world.now()
        with self._guarded() as connection:
            rows = [
                {"intent": v.intent.id, "state": v.state, "error": v.note, "closed": now, "place": ""}
                for v in verdicts
            ]
            if rows:
                connection.execute(_CLOSE, rows)
            for verdict in verdicts:
                record = self._machines.records.get(verdict.intent.object)
                if verdict.stage is not None and record is not None and record.stage is not verdict.stage:
                    self._machines.put(record, advance(STAGES, record.stage, verdict.stage), now)
            self._machines.write(connection)

    def decided(self, changes: Sequence[Change]) -> None:
        """What is going to be done, and why, is in the decision log."""
        now = self._world.now()
        rows = [
            {"site": self._site, "epoch": self.epoch, "at": now, "object": c.object, "group_name": c.group,
             "action": c.action, "reason": c.reason}
            for c in changes
        ]  # fmt: skip
        with self._guarded() as connection:
            if rows:
                connection.execute(tables.decision.insert(), rows)

    def observed(self, name: str, facts: Mapping[str, Any]) -> None:
        """What was last seen of an object."""
        values = {"facts": json.dumps(dict(facts), sort_keys=True), "at": self._world.now()}
        self._put(tables.observation, {"object": name}, values)

    def scale(self, group: str, override: Override) -> None:
        """The group's count; an override equal to the site spec's own count is forgotten."""
        values = {"count": override.count, "base": override.base, "at": self._world.now()}
        self._put(tables.scale, {"group_name": group}, None if override.count == override.base else values)

    def forget(self) -> None:
        """Nothing of the site is in the ledger but the lease (after ``down``)."""
        with self._guarded() as connection:
            for table in tables.OF_SITE:
                connection.execute(table.delete().where(table.c.site == self._site))
        self._machines, self._open = Machines(self._site, {}), set()

    def _put(self, table: sa.Table, key: dict[str, Any], values: dict[str, Any] | None) -> None:
        where = sa.and_(table.c.site == self._site, *(table.c[name] == value for name, value in key.items()))
        with self._guarded() as connection:
            connection.execute(table.delete().where(where))
            if values is not None:
                connection.execute(table.insert().values(site=self._site, **key, **values))

    @contextmanager
    def _guarded(self) -> Iterator[sa.Connection]:
        with self._ledger.transaction() as connection:
            if not self._lease(connection, expires=self._clock.now() + self._ttl):
                self.lost.set()
                raise LeaseLost(
                    f"site {self._site}: another orchestrate took over while this one slept; nothing more is done here"
                )
            yield connection

    def _lease(self, connection: sa.Connection, expires: float) -> bool:
        table = tables.lease
        mine = sa.and_(
            table.c.site == self._site, table.c.epoch == self.epoch, table.c.holder == self._holder
        )
        return connection.execute(table.update().where(mine).values(expires=expires)).rowcount == 1

    def _renew(self) -> None:
        while not self._ended.wait(self._ttl / 3):
            try:
                with self._guarded():
                    pass
            except LeaseLost:
                return
            except TemporaryError:
                continue  # the epoch still guards every write; try again before it expires

    def _row(self, change: Change, keep_data: bool, now: float) -> dict[str, Any]:
        return {
            "site": self._site, "epoch": self.epoch, "object": change.object, "action": change.action,
            "key": change.object, "group_name": change.group, "role": change.role, "provider": change.provider,
            "state": IntentState.OPEN, "reason": change.reason, "keep_data": keep_data, "opened": now, "error": "",
            "place": "",
        }  # fmt: skip


def acquire(
    ledger: Ledger,
    holder: str,
    clock: Clock,
    dead: Callable[[str], bool],
    ttl: float = TTL,
    world: Clock | None = None,
) -> Session:
    """The site's lease, with an epoch higher than every one before.

    Taken over when it has expired or when ``dead(holder)`` is sure; LeaseHeld otherwise. ``clock`` times
    the lease, ``world`` (the same by default) what is done under it.
    """
    table, now = tables.lease, clock.now()
    with ledger.transaction() as connection:
        row = connection.execute(sa.select(table).where(table.c.site == ledger.site)).mappings().one_or_none()
        values = {"holder": holder, "since": now, "expires": now + ttl}
        if row is None:
            try:
                connection.execute(table.insert().values(site=ledger.site, epoch=1, **values))
            except sa.exc.IntegrityError as error:
                raise LeaseHeld(f"site {ledger.site}: another orchestrate starts right now") from error
            return Session(ledger, holder, 1, clock, ttl, world)
        if row["expires"] > now and not dead(row["holder"]):
            raise LeaseHeld(
                f"site {ledger.site} is being changed by {told(row['holder'])} since {_clock_time(row['since'])};"
                " wait until it has ended, or stop it", retry_in=row["expires"] - now,
                holder=row["holder"], since=row["since"], expires=row["expires"],
            )  # fmt: skip
        epoch = int(row["epoch"]) + 1
        unchanged = (table.c.site == ledger.site) & (table.c.epoch == row["epoch"])
        if connection.execute(table.update().where(unchanged).values(epoch=epoch, **values)).rowcount != 1:
            raise LeaseHeld(f"site {ledger.site}: another orchestrate took the lease first")
    return Session(ledger, holder, epoch, clock, ttl, world)


def _clock_time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
