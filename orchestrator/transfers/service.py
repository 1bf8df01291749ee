"""What a user can do with transfers: ask for them, look, ask why one waits, kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.catalogue.model import Placed, clean
from orchestrator.classads import Ad
from orchestrator.errors import NotAllowed, UserError
from orchestrator.runtime.sql import Connection, Database, rows
from orchestrator.tasks import store as tasks
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.store import SQL as TASK_SQL
from orchestrator.tasks.store import New
from orchestrator.transfers import archived, model, store
from orchestrator.transfers.decide import Policy
from orchestrator.transfers.kind import CHANNEL, Replicas

Json = dict[str, Any]
MOST = 1000  # files of one request
KNOWN_FOR = 600.0  # seconds since an FTD's last question in which it counts as known


@dataclass(frozen=True)
class Who:
    """The person who asks."""

    user: str
    admin: bool = False


class Transfers:
    """Central's transfer service."""

    def __init__(
        self,
        database: Database,
        manager: Manager,
        hub: Hub,
        replicas: Replicas,
        policy: Policy | None = None,
    ) -> None:
        self.database, self.manager, self.hub, self.replicas = database, manager, hub, replicas
        self.policy = policy or Policy()

    async def submit(self, who: Who, lfns: Sequence[str], destination: str, kind: str) -> list[Json]:
        """For each file the transfer that brings it to ``destination``: {lfn, task, state, new}.

        One that is under way already is returned as it is (and does what this request asks for, too). A replica
        that is there already is success at once. UserError names every file that cannot be asked for: then nothing
        was asked for.
        """
        if kind not in model.KINDS:
            raise UserError(f"{kind!r} is no kind of transfer; there are {', '.join(model.KINDS)}")
        if not 0 < len(lfns) <= MOST:
            raise UserError(f"{len(lfns)} files in one request; name 1 to {MOST}")
        wanted = list(dict.fromkeys(clean(lfn) for lfn in lfns))
        async with self.database.transaction() as connection:
            if destination not in {each.name for each in await self.replicas.storage(connection)}:
                raise UserError(f"there is no storage element {destination}; see `orchestrate status`")
            files = await self._files(connection, who, wanted, kind)
            await store.guard(connection, wanted, destination)
            found = await store.open_among(connection, wanted, destination)
            await store.upgrade(connection, [each["task"] for each in found.values()], kind)
            told = {
                lfn: {"lfn": lfn, "task": each["task"], "state": each["state"], "new": False}
                for lfn, each in found.items()
            }
            rest = [files[lfn] for lfn in wanted if lfn not in found]
            for there, state in ((True, model.DONE), (False, model.INSERTING)):
                some = [each for each in rest if (destination in each.ses) is there]
                made = await self._add(connection, who, some, destination, kind, state)
                for each, task in zip(some, made, strict=True):
                    told[each.lfn] = {"lfn": each.lfn, "task": task, "state": state, "new": True}
            await tasks.notify(connection, CHANNEL, "")
        return [told[lfn] for lfn in wanted]

    async def _files(
        self, connection: Connection, who: Who, lfns: Sequence[str], kind: str
    ) -> dict[str, Placed]:
        """The files; all that is wrong is told at once. Who may read a file may copy it."""
        found = dict(await self.replicas.files(connection, lfns))
        wrong = [f"{lfn} is no file of the catalogue" for lfn in lfns if lfn not in found]
        wrong += [f"{lfn} has no replica" for lfn, placed in found.items() if not placed.ses]
        if wrong:
            raise UserError("; ".join(wrong[:20]), lfns=wrong[:20])
        if kind == model.MASTER_COPY:
            for lfn in lfns:
                if not await self.replicas.may_write(connection, lfn, who.user, who.admin):
                    raise NotAllowed(
                        f"{lfn} belongs to somebody else: only they or an admin may choose its master copy"
                    )
        return found

    async def _add(
        self,
        connection: Connection,
        who: Who,
        files: Sequence[Placed],
        destination: str,
        kind: str,
        state: str,
    ) -> list[int]:
        if not files:
            return []
        new = [
            New({"lfn": each.lfn, "guid": each.guid, "content": {"size": each.size, "md5": each.md5}})
            for each in files
        ]
        attempts = self.policy.persevere
        made = await tasks.submit(
            connection, model.KIND, who.user, state, new, actor=who.user, max_attempts=attempts
        )
        rows_of = [(task, each.lfn, each.guid) for task, each in zip(made, files, strict=True)]
        done = state == model.DONE
        await store.add(connection, rows_of, destination, kind, self.policy.lasts, is_open=not done)
        if done and kind == model.MASTER_COPY:
            for each in files:
                await store.set_master(connection, each.guid, destination)
        return made

    async def kill(self, who: Who, transfer: int) -> str:
        """The transfer's state afterwards; its steps are killed with it."""
        async with self.database.transaction() as connection:
            await archived.get(connection, transfer)
            task = await tasks.get(connection, transfer)
            if not who.admin and task.owner != who.user:
                raise NotAllowed(
                    f"transfer {transfer} belongs to {task.owner}; only they or an admin may do that"
                )
        task = await self.manager.kill(transfer, who.user, f"killed by {who.user}")
        async with self.database.transaction() as connection:
            parts = await store.steps(connection, transfer)
        for part in parts:
            await self.manager.kill(part.id, who.user, f"transfer killed by {who.user}")
        return task.state

    async def events(self, transfer: int, after: int, wait: float) -> list[Json]:
        """Events above ``after``; waits up to ``wait`` seconds for one."""
        async with self.database.transaction() as connection:
            await archived.get(connection, transfer)
        return await self.manager.events(self.hub, transfer, after, wait)

    async def why(self, transfer: int) -> Json:
        """Why it is in its state: {"state", "reasons": [text]}."""
        async with self.database.transaction() as connection:
            wanted = await archived.get(connection, transfer)
            task = await tasks.get(connection, transfer)
            if task.state == model.INSERTING:
                said = wanted["waits"] or "the optimizer has not looked at it yet"
                return {"state": task.state, "reasons": [said]}
            open_steps = [
                step for step in await store.steps(connection, transfer) if step.state not in model.FINAL
            ]
            doing = open_steps[-1] if wanted["route"] and open_steps else task
            if doing.state == model.WAITING and doing.task_class is not None:
                ad = await store.class_ad(connection, doing.task_class)
                found = await rows(connection, TASK_SQL["resources"], within=KNOWN_FOR, most=1000)
                known = [Ad.restore(each["ad"]) for each in found]
                return {"state": task.state, "reasons": [_who_could(ad, known)]}
        where = f"{doing.state} by {doing.resource}" if doing.resource else doing.state
        return {"state": task.state, "reasons": [task.reason or doing.reason or f"it is {where}"]}


def _who_could(ad: Ad, known: Sequence[Ad]) -> str:
    near = f"an FTD near {ad.values['SE']}"
    able = sum(ad.accepts(each) and each.accepts(ad) for each in known)
    if able:
        return f"it waits for {near} to ask again; {able} of them asked within the last 10 minutes"
    return f"it waits for {near}: none has asked within the last 10 minutes; see `orchestrate status`"
