"""The ledger's machines, in memory and in its table: moved one by one, written together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from orchestrator.deploy import tables
from orchestrator.deploy.model import STAGES, Action, Record, Stage
from orchestrator.deploy.plan import Change
from orchestrator.states import advance

# Made once: building a statement costs more than running it. One call runs each for many rows.
_c = tables.machine.c
_FACTS: dict[str, Any] = {
    name: sa.bindparam(name) for name in ("group_name", "role", "provider", "stage", "at")
}
_MINE = sa.and_(_c.site == sa.bindparam("of"), _c.name == sa.bindparam("called"))
_ADD = tables.machine.insert().values(site=sa.bindparam("of"), name=sa.bindparam("called"), **_FACTS)
_CHANGE = tables.machine.update().where(_MINE).values(_FACTS)
_FORGET = tables.machine.delete().where(_MINE)


class Machines:
    """The machines of one site; whoever holds the lease owns it."""

    def __init__(self, site: str, records: Mapping[str, Record]) -> None:
        self._site = site
        self.records = dict(records)
        self._kept = set(records)  # names that have a row
        self._news: set[str] = set()  # names whose row is not as the record is

    def move(self, change: Change, stage: Stage, now: float) -> None:
        """The machine of that change is at ``stage``; IllegalTransition when it cannot be."""
        record = self.records.get(change.object)
        if record is None:
            if stage is Stage.GONE:
                return
            record = Record(change.object, change.group, change.role, change.provider, stage, now)
        elif record.stage is not stage:
            advance(STAGES, record.stage, stage)
        provider = change.provider if change.action is not Action.DESTROY else record.provider
        self.put(replace(record, provider=provider), stage, now)

    def put(self, record: Record, stage: Stage, now: float) -> None:
        """That machine is at ``stage``, whatever it was before."""
        self._news.add(record.name)
        if stage is Stage.GONE:
            self.records.pop(record.name, None)
        else:
            self.records[record.name] = replace(record, stage=stage, at=now)

    def write(self, connection: sa.Connection) -> None:
        """The table is as the records are: one statement for each kind of difference."""
        there = [self.records[name] for name in sorted(self._news) if name in self.records]
        rows = [
            {"of": self._site, "called": r.name, "group_name": r.group, "role": r.role, "provider": r.provider,
             "stage": r.stage, "at": r.at}
            for r in there
        ]  # fmt: skip
        gone = [name for name in self._news if name in self._kept and name not in self.records]
        known = [row for row in rows if row["called"] in self._kept]
        fresh = [row for row in rows if row["called"] not in self._kept]
        away = [{"of": self._site, "called": name} for name in gone]
        for statement, values in ((_FORGET, away), (_CHANGE, known), (_ADD, fresh)):
            if values:
                connection.execute(statement, values)
        self._kept.difference_update(gone)
        self._kept.update(record.name for record in there)
        self._news = set()
