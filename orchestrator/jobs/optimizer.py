"""The job optimizer: makes submitted jobs ready, splits masters, finishes them, and gives up on the silent.

Woken by NOTIFY ``optimize``; a sweep each second finds what a lost notification left. Everything it
does is a compare-and-set, so any number of optimizers may run.
"""

from __future__ import annotations

import asyncio

from orchestrator.errors import GridError, PermanentError, TemporaryError, UserError
from orchestrator.jobs import collection, follow, masters, model, priority, split, store, together, validation
from orchestrator.jobs.advice import Advisor
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue
from orchestrator.jobs.prepare import Preparer, default_dir
from orchestrator.runtime import daemon, logs
from orchestrator.runtime.sql import Connection, Database
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager

SWEEP = 1.0  # seconds
ROUND = 30.0  # seconds between two looks at where the data of waiting jobs is
SHARES = 10.0  # seconds between two looks at who uses how much


class Optimizer:
    """One daemon; ``run`` it."""

    def __init__(
        self,
        database: Database,
        manager: Manager,
        catalogue: Catalogue,
        defaults: Defaults,
        advisor: Advisor | None = None,
    ) -> None:
        self.database = database
        self.manager = manager
        self.catalogue = catalogue
        self.defaults = defaults
        self.kind = manager.kinds[model.KIND]
        self.log = logs.get("optimizer")
        self._shared_at = float("-inf")
        self._follow_at = float("-inf")
        self._followed = 0
        self.advisor = advisor
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
        await self.manager.writable()
        async with self.database.transaction() as connection:
            new = await store.to_prepare(connection)
        for job in await together.ready(self.database, self.manager, self.catalogue, self.defaults, new):
            await self._guarded(job, self._prepare)
        async with self.database.transaction() as connection:
            ready = await store.to_finish(connection)
            orphans = await store.orphans(connection)
            unjudged = await store.to_validate(connection)
        for job in ready:
            await self._guarded(job, self._finish)
        for job in unjudged:
            await self._guarded(job, self._validate)
        for job in orphans:
            await self.manager.kill(job, "optimizer", "its master was killed")
        due = await self.manager.lapse(self.kind)
        now = asyncio.get_running_loop().time()
        if now - self._shared_at >= SHARES:
            self._shared_at = now
            await self._share()
        if now >= self._follow_at:
            await self._follow(now)
        if self.advisor is not None:
            await self.advisor.step(now)
        if new or ready or unjudged:
            return 0.0
        return SWEEP if due is None else min(SWEEP, max(0.05, due))

    async def _guarded(self, job: int, act: masters.Act) -> None:
        """One job that cannot be handled now does not keep the others waiting."""
        try:
            await act(job)
        except (TemporaryError, tasks.Overtaken) as error:
            self.log.info("put off", job=job, reason=error.message)

    async def _prepare(self, job: int) -> None:
        if unread := await self._ready(job, {}):
            await self._ready(job, await collection.fetched(self.catalogue, unread))

    async def _ready(self, job: int, texts: collection.Texts) -> set[str]:
        """The next step of a job that does not wait yet; or nothing, and the collections to read first."""
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job, lock=True)
            if task.state not in (model.INSERTING, model.SPLITTING):
                return set()
            asks = "Split" in task.spec["jdl"] and task.state == model.INSERTING
            if not asks and (unread := collection.wanted(task.spec["jdl"]) - texts.keys()):
                return unread
            try:
                async with connection.transaction():
                    if asks:
                        await self._move(connection, task, model.SPLITTING)
                    elif task.state == model.SPLITTING:
                        await self._split(connection, task, texts)
                    else:
                        await self._wait(connection, task, texts)
            except TemporaryError:
                raise
            except GridError as error:
                bad = model.ERROR_I if task.state == model.INSERTING else model.ERROR_SPLT
                await self._move(connection, task, bad, error.message)
        return set()

    async def _move(self, connection: Connection, task: Task, new: str, reason: str = "") -> Task:
        return await self.manager.move(connection, task, new, actor="optimizer", reason=reason)

    async def _wait(self, connection: Connection, task: Task, texts: collection.Texts) -> None:
        maker = Preparer(connection, self.catalogue, task.owner, self.defaults)
        directory = default_dir(self.defaults.vo, task.owner, task.id)
        jdl = collection.expanded(task.spec["jdl"], texts)
        made = await maker.prepare(jdl, task.spec["own"], directory, task.spec.get("sites", ()))
        await self.manager.move(
            connection,
            task,
            model.WAITING,
            actor="optimizer",
            task_class=made.task_class,
            spec=task.spec | made.spec,
            lasts=float(made.spec["jdl"]["MaxWaitingTime"]),
        )

    async def _split(self, connection: Connection, master: Task, texts: collection.Texts) -> None:
        """Insert the parts and say SPLIT, together; a master that was split before runs its failed parts again."""
        before = await store.children(connection, master.id)
        if before:
            await masters.again(connection, self.manager, self.catalogue, before)
            await self._move(connection, master, model.SPLIT, "failed parts run again")
            return
        maker = Preparer(connection, self.catalogue, master.owner, self.defaults)
        base = default_dir(self.defaults.vo, master.owner, master.id)
        made = []
        jdl = collection.expanded(master.spec["jdl"], texts)
        placed = await maker.files(split.lfns(jdl))
        for attributes in split.parts(jdl, placed, await self.catalogue.sites(connection)):
            number, sites = attributes["Counter"], attributes.pop("InputSites", [])
            own = attributes.pop("Requirements", master.spec["own"])
            new = await maker.prepare(attributes, own, f"{base}/{number:03d}", sites)
            new.spec.update(role="part", counter=number, **({"sites": sites} if sites else {}))
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
            if step.again:
                await masters.repeat(connection, self.manager, self.catalogue, found, step.again)
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

    async def _validate(self, job: int) -> None:
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job, lock=True)
            maker = Preparer(connection, self.catalogue, task.owner, self.defaults)
            directory = default_dir(self.defaults.vo, task.owner, task.id)
            await validation.begin(connection, self.manager, maker.prepare, task, directory)

    async def _follow(self, now: float) -> None:
        """The next page of waiting jobs with input data: those whose data moved are moved with it."""
        async with self.database.transaction() as connection:
            moved, self._followed = await follow.astray(connection, self.catalogue, self._followed)
        self._follow_at = now + (SWEEP if self._followed else ROUND)
        for job in moved:
            await self._guarded(job, self._settle)

    async def _settle(self, job: int) -> None:
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job, lock=True)
            maker = Preparer(connection, self.catalogue, task.owner, self.defaults)
            await follow.settle(connection, self.manager, maker, task)

    async def _share(self) -> None:
        """Fair share: tell the broker how much each user's priority counts."""
        async with self.database.transaction() as connection:
            running, waiting = await store.loads(connection)
        for owner, factor in sorted(priority.factors(running, waiting).items()):
            if waiting.get(owner):
                async with self.database.transaction() as connection:
                    await store.set_factor(connection, owner, round(factor, 3))
