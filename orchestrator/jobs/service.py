"""What a user can do with one job: submit, kill, resubmit, hold, release, look, ask why it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from orchestrator.classads import Ad, Expression, Problem, refuse
from orchestrator.errors import NotAllowed, PermanentError, TemporaryError, UserError
from orchestrator.jobs import archived, jdl, masters, model, split, store, suggestions, validation
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue, Surroundings
from orchestrator.jobs.requirements import task_ad
from orchestrator.runtime.daemon import wait_any
from orchestrator.runtime.sql import Connection, Database, row, rows
from orchestrator.tasks import archive
from orchestrator.tasks import store as tasks
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import PEEK
from orchestrator.tasks.store import SQL as TASK_SQL
from orchestrator.tasks.store import New

Json = dict[str, Any]
PARTS_AT_ONCE = 500  # of a master, in one transaction
KNOWN_FOR = 600.0  # seconds since a resource's last question in which it counts as known


@dataclass(frozen=True)
class Who:
    """The person who asks."""

    user: str
    admin: bool = False

    def owns(self, task: Task) -> None:
        """NotAllowed unless the job is theirs or they are an admin."""
        if not self.admin and task.owner != self.user:
            raise NotAllowed(f"job {task.id} belongs to {task.owner}; only they or an admin may do that")


class Jobs:
    """Central's job service."""

    def __init__(
        self,
        database: Database,
        manager: Manager,
        hub: Hub,
        catalogue: Catalogue,
        defaults: Defaults,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.database = database
        self.manager = manager
        self.hub = hub
        self.catalogue = catalogue
        self.defaults = defaults
        self.surroundings = surroundings

    async def submit(self, who: Who, text: str, arguments: Sequence[str], request: str) -> Json:
        """The new job's id and warnings; the same ``request`` again gives the same id."""
        spec = jdl.read(text, arguments, self.defaults)
        self.check(who, spec)
        attributes = spec.attributes
        kept: Json = {
            "source": text,
            "arguments": list(arguments),
            "jdl": attributes,
            "own": spec.requirements,
        }
        async with self.database.transaction() as connection:
            told = await self.warnings(connection, spec)
            if request:
                await row(connection, TASK_SQL["claim_guard"], claim=f"{who.user}/{request}")
                before = await store.by_request(connection, who.user, request)
                if before is not None:
                    return {"task": before, "warnings": told}
                kept["request"] = request
            new = [New(kept, None, float(attributes["Price"]))]
            made = await tasks.submit(connection, model.KIND, who.user, model.INSERTING, new, actor=who.user)
            await tasks.notify(connection, "optimize", str(made[0]))
        return {"task": made[0], "warnings": told}

    async def warnings(self, connection: Connection, spec: jdl.JobSpec) -> list[str]:
        """LINE:COLUMN: what the user should know: attributes that nothing uses, packages that the VO does not have."""
        told, packages = list(spec.warnings), list(spec.attributes.get("Packages", ()))
        if packages and self.surroundings is not None:
            known = await self.surroundings.published(connection, packages)
            line, column = spec.places["Packages"]
            told += [
                f"{line}:{column}: package {name} is not published; without it the job fails"
                for name in packages
                if name not in known
            ]
        return told

    def check(self, who: Who, spec: jdl.JobSpec) -> None:
        """Everything that can be known now is told now: UserError."""
        if spec.attributes.get("User", who.user) != who.user and not who.admin:
            raise refuse([Problem(*spec.places["User"], f"User must be {who.user}, or be left out")])
        try:
            task_ad(spec.attributes, who.user, spec.requirements)
        except UserError as error:
            raise refuse([Problem(*spec.places.get("Requirements", (1, 1)), error.message)]) from error
        if "ValidationCommand" in spec.attributes:
            try:
                validation.words(spec.attributes)
            except UserError as error:
                raise refuse([Problem(*spec.places["ValidationCommand"], error.message)]) from error
        if "Split" in spec.attributes:
            try:
                split.check(spec.attributes)
            except UserError as error:
                raise refuse([Problem(*spec.places["Split"], error.message)]) from error
        elif "Merge" in spec.attributes:
            raise refuse([Problem(*spec.places["Merge"], "Merge has no sense without Split")])

    async def kill(self, who: Who, job: int) -> str:
        """The job's state afterwards; a master's parts are killed with it."""
        why = f"killed by {who.user}"
        task = await self.manager.kill(job, who.user, why, who.owns)
        if "Split" not in task.spec.get("jdl", {}):
            return task.state
        async with self.database.transaction() as connection:
            parts = await store.orphans(connection, job)
        for part in parts:
            await self.manager.kill(part, who.user, f"master killed by {who.user}")
        return task.state

    async def resubmit(self, who: Who, job: int) -> str:
        """Another attempt of a failed job; a failed master runs its failed parts again.

        Of a job that a validation rejected: its validation runs again too, with the outputs of that attempt.
        """
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job, lock=True)
            who.owns(task)
            if task.archived and task.parent is None and task.state in model.FAILURES:
                task = await archive.restore(connection, task)
            if task.state not in model.FAILURES:
                raise PermanentError(
                    f"job {job} is {task.state}; only a failed or killed one can be resubmitted"
                )
            if task.parent is not None:
                master = await tasks.get(connection, task.parent)
                if task.spec.get("role") != "part" or master.state != model.SPLIT:
                    said = f"job {job} is part of {master.id}, which is {master.state}; resubmit {master.id}"
                    raise PermanentError(said, master=master.id)
            moved = await masters.requeue(connection, self.manager, self.catalogue, task, who.user)
            return moved.state

    async def hold(self, who: Who, job: int) -> Json:
        """A waiting job is HELD until it is released; of a master, the parts that wait now."""
        return await self._waits(who, job, model.WAITING, model.HELD, f"held by {who.user}")

    async def release(self, who: Who, job: int) -> Json:
        """A held job waits again, as long as its MaxWaitingTime says; of a master, the parts that are held."""
        return await self._waits(who, job, model.HELD, model.WAITING, f"released by {who.user}")

    async def _waits(self, who: Who, job: int, old: str, new: str, reason: str) -> Json:
        """{state}; of a master {state, parts, more}: how many parts moved, and whether to ask again for the rest."""
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job, lock=True)
            who.owns(task)
            if task.state == old:
                task = await self._shift(connection, task, new, who, reason)
            if task.state == new:
                return {"state": new}
            if "Split" not in task.spec.get("jdl", {}) or task.state in model.FINAL:
                raise PermanentError(f"job {job} is {task.state}; only one that is {old} can become {new}")
        async with self.database.transaction() as connection:
            moved = 0
            parts = await store.parts_in(connection, job, old, PARTS_AT_ONCE)
            for number in parts:
                part = await tasks.get(connection, number, lock=True)
                if part.state == old:  # nobody was faster
                    await self._shift(connection, part, new, who, reason)
                    moved += 1
        return {"state": task.state, "parts": moved, "more": len(parts) == PARTS_AT_ONCE}

    async def _shift(self, connection: Connection, task: Task, new: str, who: Who, reason: str) -> Task:
        patience = task.spec["jdl"].get("MaxWaitingTime") if new == model.WAITING else None
        lasts = float(patience) if patience is not None else None
        return await self.manager.move(connection, task, new, actor=who.user, reason=reason, lasts=lasts)

    async def events(self, job: int, after: int, wait: float) -> list[Json]:
        """Events above ``after``; waits up to ``wait`` seconds for one."""
        return await self.manager.events(self.hub, job, after, wait)

    async def peek(self, who: Who, job: int, wait: float = 20.0) -> Json:
        """What the job has printed so far, asked of its agent; TemporaryError when that does not answer."""
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job)
            who.owns(task)
            if task.state not in model.ACTIVE:
                raise PermanentError(f"job {job} is {task.state}: nothing runs that could be looked at")
            number = await tasks.command(connection, task, PEEK)
        with self.hub.subscribed("event", f"command:{number}") as woken:
            give_up = asyncio.get_running_loop().time() + wait
            while asyncio.get_running_loop().time() < give_up:
                woken.clear()
                found = await self.database.rows(TASK_SQL["command_result"], command=number)
                if found and found[0]["done"]:
                    return dict(found[0]["answer"])
                await wait_any(give_up - asyncio.get_running_loop().time(), woken)
        raise TemporaryError(f"the agent of job {job} at {task.site} does not answer", retry_in=30.0)

    async def why(self, job: int) -> Json:
        """Why a job is in its state; for a waiting one, how many known resources satisfy each requirement."""
        async with self.database.transaction() as connection:
            task = await tasks.get(connection, job)
            if task.state != model.WAITING or task.task_class is None:
                parts = await archived.part_counts(connection, task)
                said = not_waiting(task, parts.get(model.HELD, 0))
                return {"state": task.state, "reasons": said, "requirements": [], "suggestions": []}
            advice = await suggestions.listing(connection, task_class=task.task_class)
            ad = await store.class_ad(connection, task.task_class)
            known = await self._resources(connection)
        told = []
        for each in task.spec["conditions"]:
            one = Ad(ad.values | {"Requirements": Expression(each["expression"])})
            count = sum(one.accepts(resource) for resource in known)
            told.append({"text": each["text"], "satisfied": count, "known": len(known)})
        willing = [resource for resource in known if resource.accepts(ad)]
        told.append({"text": "the resource accepts it", "satisfied": len(willing), "known": len(known)})
        able = sum(ad.accepts(resource) for resource in willing)
        said = reasons(told, able, len(known))
        return {"state": task.state, "reasons": said, "requirements": told, "suggestions": advice}

    async def accept(self, who: Who, suggestion: int) -> list[Json]:
        """The copies of a suggestion are asked for by ``who``: {lfn, task, state, new, size} for each file."""
        if self.surroundings is None:
            raise PermanentError("this central asks for no transfers")
        return await suggestions.accept(
            self.database, self.catalogue, self.surroundings, who.user, suggestion
        )

    async def _resources(self, connection: Connection) -> list[Ad]:
        found = await rows(connection, TASK_SQL["resources"], within=KNOWN_FOR, most=1000)
        ads = [Ad.restore(each["ad"]) for each in found]
        return [ad for ad in ads if ad.values.get("Type") == "machine"]  # not those that move files


def reasons(told: Sequence[Json], able: int, known: int) -> list[str]:
    """Sentences for the user. Pure."""
    if not known:
        return ["no resource has asked for work in the last 10 minutes; see `orchestrate status`"]
    if able:
        return [f"{able} of {known} known resources can run it; it waits for one of them to ask again"]
    alone = [f"no known resource satisfies: {each['text']}" for each in told if each["satisfied"] == 0]
    return alone or ["each requirement is satisfied somewhere, but no known resource satisfies all of them"]


def not_waiting(task: Task, held: int) -> list[str]:
    """Why a job that does not wait is in its state; ``held``: how many of its parts are. Pure."""
    if task.state == model.HELD:
        return [f"it is {task.reason}; `orchestrate job release {task.id}` lets it wait again"]
    said = [task.reason or f"it is {task.state}; `orchestrate job show {task.id}` tells how it came to that"]
    if held:
        said.append(f"{held} of its parts are held; `orchestrate job release {task.id}` lets them wait again")
    if model.unjudged(task.state, task.spec):
        number = task.spec.get("validation", {}).get("job")
        said.append(f"its validation, job {number}, has not ended" if number else "it will be validated")
    return said


def name_of(task: Task) -> str:
    """What a listing shows: the JobTag, or the executable's name."""
    attributes = task.spec.get("jdl", {})
    tag = str(attributes.get("JobTag") or "").removeprefix("comment:")
    return tag or str(PurePosixPath(str(attributes.get("Executable", "?"))).name)
