"""The job optimizer: makes submitted jobs ready, splits masters, finishes them, and gives up on the silent.

Woken by NOTIFY ``optimize``; a sweep each second finds what a lost notification left. Everything it
does is a compare-and-set, so any number of optimizers may run.
"""

from __future__ import annotations

import asyncio

from orchestrator.errors import GridError, PermanentError, TemporaryError, UserError
from orchestrator.jobs import masters, model, priority, split, store
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.prepare import Preparer, default_dir
from orchestrator.jobs.service import kill_one
from orchestrator.runtime import daemon, logs
from orchestrator.runtime.sql import Connection, Database
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager

SWEEP = 1.0  # seconds
SHARES = 10.0  # seconds between two looks at who uses how much


class Optimizer:
    """One daemon; ``run`` it."""

    def __init__(
        self, database: Database, manager: Manager, catalogue: Catalogue, defaults: Defaults
    ) -> None:
        self.database = database
        self.manager = manager
        self.catalogue = catalogue
        self.defaults = defaults
        self.kind = manager.kinds[model.KIND]
        self.log = logs.get("optimizer")
        self._shared_at = float("-inf")
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""

        def heard(_channel: str, _payload: str) -> None:
            self._wake.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(self.database.listen(["optimize"], heard, stop))
            group.create_task(daemon.loop("optimizer", self.step, stop, self._wake))

    async def step(self) -> float:
        """One round; returns the seconds until the next."""
        async with self.database.transaction() as connection:
            new = await store.to_prepare(connection)
        for job in new:
            await self._guarded(job, self._prepare)
        async with self.database.transaction() as connection:
            ready = await store.to_finish(connection)
            orphans = await store.orphans(connection)
        for job in ready:
            await self._guarded(job, self._finish)
        for job in orphans:
            await kill_one(self.database, self.manager, job, "optimizer", "its master was killed")
        due = await self.manager.lapse(self.kind)
        now = asyncio.get_running_loop().time()
        if now - self._shared_at >= SHARES:
            self._shared_at = now
            await self._share()
        if new or ready:
            return 0.0
        return SWEEP if due is None else min(SWEEP, max(0.05, due))

    async def _guarded(self, job: int, act: masters.Act) -> None:
        """One job that cannot be handled now does not keep the others waiting."""
        try:
            await act(job)
        except (TemporaryError, tasks.Overtaken) as error:
            self.log.info("put off", job=job, reason=error.message)

    async def _prepare(self, job: int) -> None:
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job, lock=True)
            if task.state not in (model.INSERTING, model.SPLITTING):
                return
            try:
                async with connection.transaction():
                    if task.state == model.SPLITTING:
                        await self._split(connection, task)
                    elif "Split" in task.spec["jdl"]:
                        await self._move(connection, task, model.SPLITTING)
                    else:
                        await self._wait(connection, task)
            except TemporaryError:
                raise
            except GridError as error:
                bad = model.ERROR_I if task.state == model.INSERTING else model.ERROR_SPLT
                await self._move(connection, task, bad, error.message)

    async def _move(self, connection: Connection, task: Task, new: str, reason: str = "") -> Task:
        return await self.manager.move(connection, task, new, actor="optimizer", reason=reason)

    async def _wait(self, connection: Connection, task: Task) -> None:
        maker = Preparer(connection, self.catalogue, task.owner, self.defaults)
        directory = default_dir(self.defaults.vo, task.owner, task.id)
        made = await maker.prepare(task.spec["jdl"], task.spec["own"], directory)
        await self.manager.move(
            connection,
            task,
            model.WAITING,
            actor="optimizer",
            task_class=made.task_class,
            spec=task.spec | made.spec,
            lasts=float(made.spec["jdl"]["MaxWaitingTime"]),
        )

    async def _split(self, connection: Connection, master: Task) -> None:
        """Insert the parts and say SPLIT, together; a master that was split before runs its failed parts again."""
        before = await store.children(connection, master.id)
        if before:
            await masters.again(connection, self.manager, self.catalogue, before)
            await self._move(connection, master, model.SPLIT, "failed parts run again")
            return
        maker = Preparer(connection, self.catalogue, master.owner, self.defaults)
        base = default_dir(self.defaults.vo, master.owner, master.id)
        made = []
        for attributes in split.parts(master.spec["jdl"]):
            number = attributes["Counter"]
            new = await maker.prepare(attributes, master.spec["own"], f"{base}/{number:03d}")
            new.spec.update(role="part", counter=number)
            made.append(new)
        await tasks.submit(
            connection,
            model.KIND,
            master.owner,
            model.WAITING,
            made,
            actor="optimizer",
            parent=master.id,
            lasts=float(master.spec["jdl"]["MaxWaitingTime"]),
        )
        await self._move(connection, master, model.SPLIT, f"{len(made)} parts")

    async def _finish(self, job: int) -> None:
        """Move a master whose parts are all final on."""
        async with self.database.transaction() as connection:
            master = await tasks.get(connection, job)
            found = await store.children(connection, job)
        step = masters.decide_finish(master, found)
        if step is None:
            return
        texts = {}
        trouble = ""
        try:
            for lfn in step.jdls:
                texts[lfn] = await self.catalogue.read_text(lfn)
        except (UserError, PermanentError) as error:
            trouble = error.message
        async with self.database.transaction() as connection:
            now = await tasks.get(connection, job, lock=True)
            if now.seq != master.seq:
                return
            if step.to != model.MERGING:
                await self._move(connection, now, step.to, step.reason)
                return
            merging = await self._move(connection, now, model.MERGING)
            try:
                if trouble:
                    raise UserError(trouble)
                async with connection.transaction():
                    maker = Preparer(connection, self.catalogue, master.owner, self.defaults)
                    await masters.merge(connection, maker, merging, step.finished, texts)
            except (UserError, PermanentError) as error:
                await self._move(connection, merging, model.ERROR_M, error.message)

    async def _share(self) -> None:
        """Fair share: tell the broker how much each user's priority counts."""
        async with self.database.transaction() as connection:
            running, waiting = await store.loads(connection)
        for owner, factor in sorted(priority.factors(running, waiting).items()):
            if waiting.get(owner):
                async with self.database.transaction() as connection:
                    await store.set_factor(connection, owner, round(factor, 3))
