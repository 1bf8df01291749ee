"""Transfers under way: the one task of a fetch, or the steps of a route, each a task of its own."""

from __future__ import annotations

from orchestrator.runtime.sql import Connection
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import Json
from orchestrator.tasks.store import New
from orchestrator.transfers import decide, model, store
from orchestrator.transfers.decide import Load, Network, Policy, Route, Step
from orchestrator.transfers.kind import Replicas, ftd_ad


class Routes:
    """Begins transfers and leads them from step to step; every call is inside the caller's transaction."""

    def __init__(self, manager: Manager, replicas: Replicas, policy: Policy) -> None:
        self.manager, self.replicas, self.policy = manager, replicas, policy
        self.life = manager.kinds[model.KIND].life

    async def begin(self, connection: Connection, task: Task, route: Route, network: Network) -> bool:
        """The transfer ``task`` (INSERTING) is under way. False: a copy on the way is just being removed."""
        guid = task.spec["guid"]
        for target in {step.target for step in route.steps if step.role != model.CLEAN}:
            if not await self.replicas.intend(connection, target, guid):
                return False
        await store.released(connection, task.id, route=not route.direct)
        if route.direct:
            await self._release(connection, task, route.steps[0], network)
            return True
        plan = [[step.role, step.source, step.target] for step in route.steps]
        spec = task.spec | {"steps": plan, "role": "route"}
        first = route.steps[0]
        way = " → ".join([first.source, *(step.target for step in route.steps if step.role != model.CLEAN)])
        state = model.DOING[first.role]
        # Not by the manager: nobody beats for a transfer that has steps, so it has no deadline.
        moved = await tasks.move(
            connection, self.life, task, state, actor="optimizer", reason=way, spec=spec, lasts=None
        )
        await self._step(connection, moved, 0, network)
        return True

    async def _release(self, connection: Connection, task: Task, step: Step, network: Network) -> None:
        spec = task.spec | self._leg(task, step, network) | {"final": True}
        number = await self._class(connection, task.owner, spec, step, network)
        # Not by the manager: for its hook WAITING is the end of an attempt.
        moved = await tasks.move(
            connection,
            self.life,
            task,
            model.WAITING,
            actor="optimizer",
            reason=f"from {step.source}",
            task_class=number,
            spec=spec,
            lasts=self.policy.lasts,
        )
        await store.leg_of(connection, moved)

    async def _class(
        self, connection: Connection, owner: str, spec: Json, step: Step, network: Network
    ) -> int:
        site = network.storage[step.at].site
        return await tasks.class_id(connection, model.KIND, owner, ftd_ad(owner, spec, step.at), site)

    def _leg(self, task: Task, step: Step, network: Network) -> Json:
        pfn = self.replicas.pfn(task.spec["guid"])
        ends = {
            end: {"se": name, "url": network.storage[name].url + pfn}
            for end, name in (("source", step.source), ("target", step.target))
        }
        return {"role": step.role, "pfn": pfn, **ends}

    async def _step(self, connection: Connection, transfer: Task, number: int, network: Network) -> None:
        """Step ``number`` of the plan waits for its FTD. A failed hop fails the route, so it has one attempt."""
        steps = [Step(*each) for each in transfer.spec["steps"]]
        step = steps[number]
        fetches = [place for place, each in enumerate(steps) if each.role != model.CLEAN]
        spec = {key: transfer.spec[key] for key in ("lfn", "guid", "content")}
        spec |= self._leg(transfer, step, network)
        spec |= {"number": number, "of": transfer.attempt, "final": number == fetches[-1]}
        new = New(spec, await self._class(connection, transfer.owner, spec, step, network), transfer.priority)
        made = await tasks.submit(
            connection,
            model.KIND,
            transfer.owner,
            model.WAITING,
            [new],
            actor="optimizer",
            parent=transfer.id,
            max_attempts=self.policy.persevere if step.role == model.CLEAN else 1,
            lasts=self.policy.lasts,
        )
        await store.leg_of(connection, await tasks.get(connection, made[0]))

    async def advance(self, connection: Connection, transfer: Task, network: Network, load: Load) -> None:
        """No step of ``transfer`` is under way: begin the next one if the limits allow, or end it, or plan it anew."""
        every = await store.steps(connection, transfer.id)
        last = [step for step in every if step.spec["of"] == transfer.attempt][-1]
        if last.state != model.DONE and last.spec["role"] != model.CLEAN:
            await self._failed(connection, transfer, last, [step.id for step in every])
            return
        steps = [Step(*each) for each in transfer.spec["steps"]]
        number = int(last.spec["number"]) + 1
        while number < len(steps) and steps[number].role == model.CLEAN:
            if steps[number].target in network.storage and await self._forget(
                connection, transfer, steps[number].target, [each.id for each in every]
            ):
                break
            number += 1
        if number == len(steps):
            await self.manager.move(connection, transfer, model.DONE, actor="optimizer")
            return
        step, size = steps[number], transfer.spec["content"]["size"]
        if not {step.source, step.target} <= network.storage.keys():
            return  # it is not in the catalogue now; the transfer expires some day
        if step.role == model.FETCH:
            if load.hindrance(network, self.policy, step.source, step.target, decide.weight(size)):
                return  # looked at again when something has ended
            load.add(step.source, step.target, decide.weight(size))
        state = model.DOING[step.role]
        if state != transfer.state:
            transfer = await tasks.move(connection, self.life, transfer, state, actor="optimizer", lasts=None)
        await self._step(connection, transfer, number, network)

    async def _forget(self, connection: Connection, transfer: Task, se: str, steps: list[int]) -> bool:
        """Whether a copy between is to be removed: nobody registered it, nobody else uses it."""
        guid = transfer.spec["guid"]
        if await store.uses(connection, guid, se, [transfer.id, *steps]):
            return False
        return await self.replicas.forget(connection, se, guid)

    async def _failed(self, connection: Connection, transfer: Task, step: Task, steps: list[int]) -> None:
        """The route has failed: what it left between goes, and the next attempt chooses anew."""
        for role, _, target in transfer.spec["steps"]:
            if role == model.CLEAN:
                await self._forget(connection, transfer, target, steps)
        where = f"{step.spec['source']['se']} → {step.spec['target']['se']}"
        reason = f"{where}: {step.reason or step.state}"
        if transfer.attempt >= transfer.max_attempts:
            await self.manager.move(connection, transfer, model.FAILED, actor="optimizer", reason=reason)
            return
        blamed = step.result.get("blame") == model.SOURCE
        bad = str(transfer.spec["steps"][0][1]) if blamed else ""
        delay = decide.retry_delay(self.policy, transfer.attempt)
        await tasks.move(
            connection,
            self.life,
            transfer,
            model.INSERTING,
            actor="optimizer",
            reason=reason,
            again=True,
            lasts=None,
        )
        await store.again(connection, transfer.id, delay, reason, bad)
