"""The transfer optimizer: gives transfers to FTDs as the limits allow, leads routes on, and gives up on the silent.

Woken by NOTIFY ``transfer``. All it does is a compare-and-set in one transaction for each transfer, so it may be
killed at any moment, and any number of them may run: one at a time plans.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from orchestrator.errors import GridError, TemporaryError, UserError
from orchestrator.runtime import daemon, logs
from orchestrator.runtime.sql import Connection, Database, row, rows
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.transfers import decide, model, store
from orchestrator.transfers.decide import Later, Load, Network, Never, Policy, Wanted
from orchestrator.transfers.kind import CHANNEL, Replicas, wanted_of
from orchestrator.transfers.routes import Routes

SWEEP = 5.0  # seconds at most between two rounds: finds what a lost notification left
MOST = 200  # of one round


class Optimizer:
    """One daemon; ``run`` it."""

    def __init__(
        self, database: Database, manager: Manager, replicas: Replicas, policy: Policy | None = None
    ) -> None:
        self.database, self.manager, self.replicas = database, manager, replicas
        self.policy = policy or Policy()
        self.kind = manager.kinds[model.KIND]
        self.routes = Routes(manager, replicas, self.policy)
        self.log = logs.get("transfers")
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""

        def heard(_channel: str, _payload: str) -> None:
            self._wake.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(self.database.listen([CHANNEL], heard, stop))
            group.create_task(daemon.loop("transfers", self.step, stop, self._wake))

    async def step(self) -> float:
        """One round; returns the seconds until the next."""
        await self.manager.writable()
        lapse = await self.manager.lapse(self.kind)
        final, most = store.FINAL, MOST
        for transfer in await self._found("expired", most=most):
            await self._guarded(transfer, self._expire)
        for step in await self._found("orphans", final=final, most=most):
            await self.manager.kill(step, "optimizer", "its transfer has ended")
        due = await self._plan()
        return min(SWEEP, max(0.05, min(each for each in (lapse, due, SWEEP) if each is not None)))

    async def _found(self, query: str, **values: object) -> list[int]:
        found = await self.database.rows(store.SQL[query], **values)
        return [int(each.get("task") or each["id"]) for each in found]

    async def _guarded(self, transfer: int, act: Callable[[Connection, Task], Awaitable[None]]) -> None:
        """``act`` on the locked transfer; one that cannot be handled now does not keep the others waiting."""
        try:
            async with self.database.transaction() as connection:
                await act(connection, await tasks.get(connection, transfer, lock=True))
        except (TemporaryError, tasks.Overtaken) as error:
            self.log.info("put off", transfer=transfer, reason=error.message)
        except GridError as error:
            self.log.error("cannot be handled", transfer=transfer, reason=error.message)
            async with self.database.transaction() as connection:
                await store.put_off(connection, transfer, self.policy.absent, error.message)

    async def _plan(self) -> float | None:
        """Lead routes on and give out what is due, as far as the limits allow; the seconds until more is due.

        The lock is on a connection of its own, that does nothing else: the tasks are moved each in a
        transaction of its own.
        """
        async with self.database.transaction() as guard:
            mine = await row(guard, store.SQL["plan_guard"])
            if mine is None or not mine["mine"]:
                return None
            async with self.database.transaction() as connection:
                network = await store.network(connection, await self.replicas.storage(connection))
                load = await store.load(connection)
                full = load.full(network, self.policy)
                due = await rows(connection, store.SQL["due"], full=full, most=MOST)

            async def advance(connection: Connection, task: Task) -> None:
                if (await store.get(connection, task.id))["route"] and task.state not in model.FINAL:
                    await self.routes.advance(connection, task, network, load)

            async def place(connection: Connection, task: Task) -> None:
                await self._place(connection, task, network, load)

            for transfer in await self._found("to_advance", final=store.FINAL, most=MOST):
                await self._guarded(transfer, advance)
            for each in due:
                await self._guarded(int(each["task"]), place)
            full = load.full(network, self.policy)
            next_due = await self.database.rows(store.SQL["next_due"], full=full)
        return float(next_due[0]["seconds"]) if next_due else None

    async def _place(self, connection: Connection, task: Task, network: Network, load: Load) -> None:
        """One transfer that is due: under way, put off, or at its end."""
        if task.state != model.INSERTING:
            return
        wanted = await store.get(connection, task.id)
        try:
            placed = wanted_of(await self.replicas.files(connection, [wanted["lfn"]]), wanted)
        except UserError as error:
            await self._end(connection, task, model.FAILED, error.message)
            return
        destination = wanted["destination"]
        if destination in placed.ses:
            await self._end(connection, task, model.DONE, "the replica is there already")
            return
        asked = Wanted(placed.size, placed.ses, destination, wanted["tried"])
        choice = decide.choose(asked, network, load, self.policy)
        if isinstance(choice, Never):
            await self._end(connection, task, model.FAILED, choice.reason)
        elif isinstance(choice, Later):
            await store.put_off(connection, task.id, choice.seconds, choice.reason)
        elif not await self.routes.begin(connection, task, choice, network):
            reason = f"an older copy is just being removed from a storage element on the way to {destination}"
            await store.put_off(connection, task.id, self.policy.absent, reason)
        else:
            first = choice.steps[0]
            load.add(first.source, first.target, decide.weight(placed.size))

    async def _end(self, connection: Connection, task: Task, state: str, reason: str) -> None:
        await self.manager.move(connection, task, state, actor="optimizer", reason=reason)

    async def _expire(self, connection: Connection, task: Task) -> None:
        """Too old: what an FTD has may still end well, and is not tried again."""
        wanted = await store.get(connection, task.id)
        led = wanted["route"] and task.state != model.CLEANING  # that is its end anyway
        if led or task.state in (model.INSERTING, model.WAITING):
            hours = self.policy.lasts / 3600
            said = f"not done within {hours:g} hours" + (f": {wanted['waits']}" if wanted["waits"] else "")
            await self._end(connection, task, model.EXPIRED, said)
