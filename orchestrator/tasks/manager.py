"""The task manager: judges what resources report, keeps their beats, and gives up on the silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from orchestrator.classads import Ad
from orchestrator.errors import NotFound, PermanentError, UserError
from orchestrator.runtime import logs
from orchestrator.runtime.daemon import wait_any
from orchestrator.runtime.sql import Connection, Database, ReadOnly, row, rows
from orchestrator.tasks import decide, store
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import ASSIGNED, KILLED, WAITING, Kind, Patience, Task
from orchestrator.tasks.model import KILL, Beat, Command, Json, Report, ReportResult
from orchestrator.tasks.store import SQL

RESEND = 5.0  # seconds after which an unanswered command is sent again


class Manager:
    """All moves of tasks that wait for, or are with, a resource. Stateless: any number of processes."""

    def __init__(
        self, database: Database, kinds: Mapping[str, Kind], patience: Patience | None = None
    ) -> None:
        self.database = database
        self.kinds = kinds
        self.patience = patience or Patience()
        self.log = logs.get("manager")

    async def agents(self, host: str = "", site: str = "") -> list[Json]:
        """The agents of one host, or of a whole site: name, site, draining, seconds since each last asked,
        tasks with it, and its jobs' accounts (``isolation``)."""
        active = sorted({state for kind in self.kinds.values() for state in kind.active})
        which = {"host": host} if host else {"site": site}
        found = await self.database.rows(SQL["agents" if host else "site_agents"], active=active, **which)
        return [{**each, "isolation": _isolation(each.pop("ad"))} for each in map(dict, found)]

    def lasts(self, kind: Kind, state: str) -> float | None:
        """Seconds that a task may stay in ``state`` without a word."""
        if state == WAITING:
            return self.patience.waiting
        if state == ASSIGNED:
            return self.patience.acknowledge
        if state in kind.active:
            return self.patience.silence
        if state == kind.silent:
            return self.patience.grace
        return 0.0 if state == kind.lost else None

    async def move(
        self,
        connection: Connection,
        task: Task,
        new: str,
        *,
        actor: str,
        reason: str = "",
        again: bool = False,
        allow: int = 0,
        task_class: int | None = None,
        spec: Json | None = None,
        result: Json | None = None,
        lasts: float | None = None,
        report: Report | None = None,
    ) -> Task:
        """``store.move`` with the deadline of the new state, then the kind's hook, in one transaction."""
        kind = self.kinds[task.kind]
        moved = await store.move(
            connection,
            kind.life,
            task,
            new,
            actor=actor,
            reason=reason,
            again=again,
            allow=allow,
            task_class=task_class,
            spec=spec,
            result=result,
            lasts=lasts if lasts is not None else self.lasts(kind, new),
        )
        await kind.on_move(connection, moved, report)
        return moved

    async def report(self, site: str, reports: Sequence[Report]) -> list[ReportResult]:
        """The verdict on each report, each in a transaction of its own, in their order."""
        return [await self._report(site, each) for each in reports]

    async def _report(self, site: str, report: Report) -> ReportResult:
        async with self.database.transaction() as connection:
            try:
                task = await store.get(connection, report.task, lock=True)
            except NotFound as error:
                return ReportResult(report.task, False, error.message, "")
            values = {"task": task.id, "attempt": report.attempt, "state": report.to}
            # Every attempt has been WAITING before a site had it, so that tells nothing of who may speak.
            reached = report.to != WAITING and await row(connection, SQL["has_been"], **values) is not None
            if task.site != site and not reached:
                why = f"attempt {report.attempt} of {task.kind} {task.id} is not at site {site}"
                return ReportResult(task.id, False, why, task.state)
            kind = self.kinds[task.kind]
            before = await self._before_silence(connection, kind, task)
            judged = decide.judge(kind, task, report, reached, before)
            if judged.step is None:
                return ReportResult(task.id, judged.verdict == "repeated", judged.why, task.state)
            if task.state == kind.silent and before:
                task = await self.move(connection, task, before, actor=site, reason="it spoke again")
            return await self._take(connection, task, report, judged.step, site)

    async def _take(
        self, connection: Connection, task: Task, report: Report, step: decide.Step, site: str
    ) -> ReportResult:
        kind = self.kinds[task.kind]
        result = dict(report.facts)
        if report.outputs:
            result["outputs"] = [output.to_json() for output in report.outputs]
        try:
            async with connection.transaction():
                moved = await self.move(
                    connection,
                    task,
                    step.to,
                    actor=site,
                    reason=step.reason,
                    again=step.again,
                    allow=int(step.free),
                    result={} if step.again else result,
                    report=report,
                )
        except (UserError, PermanentError) as error:
            # The hook refused what came with the report (outputs that cannot be booked); it ends all the same.
            self.log.warning("report refused", task=task.id, to=step.to, reason=error.message)
            new = kind.refused.get(step.to, step.to)
            why = f"{step.reason}; {error.message}" if step.reason else error.message
            result.pop("outputs", None)
            moved = await self.move(connection, task, new, actor="manager", reason=why, result=result)
            return ReportResult(task.id, False, error.message, moved.state)
        return ReportResult(task.id, True, "", moved.state)

    async def _before_silence(self, connection: Connection, kind: Kind, task: Task) -> str | None:
        if task.state != kind.silent:
            return None
        found = await row(connection, SQL["spoke_before_silence"], task=task.id, silent=kind.silent)
        return str(found["old"]) if found else None

    async def beat(self, site: str, beats: Sequence[Beat]) -> list[tuple[int, int]]:
        """Prolong these attempts; the pairs whose attempt is over, and must be stopped."""
        active = frozenset[str]().union(*(kind.active for kind in self.kinds.values()))
        async with self.database.transaction() as connection:
            alive = await store.beat(connection, site, beats, active, self.patience.silence)
        rest = [each for each in beats if (each.task, each.attempt) not in alive]
        return [(each.task, each.attempt) for each in rest if not await self._revive(site, each)]

    async def _revive(self, site: str, beat: Beat) -> bool:
        """True when a silent attempt went back to the state it had."""
        async with self.database.transaction() as connection:
            try:
                task = await store.get(connection, beat.task, lock=True)
            except NotFound:
                return False
            before = await self._before_silence(connection, self.kinds[task.kind], task)
            if before is None or task.attempt != beat.attempt or task.site != site:
                return False
            await self.move(connection, task, before, actor=site, reason="it spoke again")
            return True

    async def lapse(self, kind: Kind, most: int = 500) -> float | None:
        """Make one move of each task whose deadline has passed.

        Returns the seconds until the next deadline of this kind, None when there is none.
        """
        async with self.database.transaction() as connection:
            states = sorted({WAITING, kind.silent, kind.lost} | kind.active)
            late = await rows(connection, SQL["overdue"], kind=kind.name, states=states, most=most)
        for each in map(Task.of, late):
            await self._lapse(kind, each)
        async with self.database.transaction() as connection:
            found = await row(connection, SQL["next_deadline"], kind=kind.name)
        return found["seconds"] if found else None

    async def _lapse(self, kind: Kind, seen: Task) -> None:
        step = decide.overdue(kind, seen)
        async with self.database.transaction() as connection:
            task = await store.get(connection, seen.id, lock=True)
            if (task.state, task.attempt, task.seq) != (seen.state, seen.attempt, seen.seq):
                return
            if not await row(connection, SQL["is_overdue"], task=task.id):
                return  # a beat came in between
            if step is None:
                await rows(connection, SQL["forget_deadline"], task=task.id)
                return
            while step is not None:  # a lost attempt goes on to the next one at once, or it is the end
                self.log.info("gave up waiting", task=task.id, old=task.state, new=step.to, why=step.reason)
                task = await self.move(
                    connection, task, step.to, actor="manager", reason=step.reason, again=step.again
                )
                step = decide.overdue(kind, task) if task.state == kind.lost else None

    async def writable(self) -> None:
        """ReadOnly while central takes no writes: whoever works through many tasks rests then."""
        if found := await self.database.rows(SQL["maintenance"]):
            raise ReadOnly(f"central is read-only for maintenance: {found[0]['reason']}", retry_in=5.0)

    async def kill(
        self, task: int, actor: str, reason: str, allowed: Callable[[Task], None] = lambda _: None
    ) -> Task:
        """Kill a task unless it has ended; who has it is told. ``allowed`` raises where the caller may not."""
        async with self.database.transaction() as connection:
            found = await store.get(connection, task, lock=True)
            allowed(found)
            kind = self.kinds[found.kind]
            if KILLED not in kind.life[found.state]:
                return found
            if found.site and found.state in kind.active | {kind.silent}:
                await store.command(connection, found, KILL)
            return await self.move(connection, found, KILLED, actor=actor, reason=reason)

    async def events(self, hub: Hub, task: int, after: int, wait: float) -> list[Json]:
        """Events above ``after``; waits up to ``wait`` seconds for one. NotFound when there is no such task."""
        give_up = asyncio.get_running_loop().time() + wait
        with hub.subscribed("event", str(task)) as woken:
            while True:
                woken.clear()
                async with self.database.transaction() as connection:
                    await store.get(connection, task)
                    found = await store.events(connection, task, after)
                left = give_up - asyncio.get_running_loop().time()
                if found or left <= 0:
                    return found
                await wait_any(left, woken)

    async def commands(self, hub: Hub, site: str, wait: float) -> list[Command]:
        """Unanswered commands of a site; waits up to ``wait`` seconds for one."""
        give_up = asyncio.get_running_loop().time() + wait
        with hub.subscribed("command", site) as woken:
            while True:
                woken.clear()
                async with self.database.transaction() as connection:
                    found = await store.take_commands(connection, site, RESEND)
                left = give_up - asyncio.get_running_loop().time()
                if found or left <= 0:
                    return found
                await wait_any(min(left, RESEND), woken)


def _isolation(ad: str) -> str:
    """What the agent said of the accounts of its jobs."""
    return str(Ad.restore(ad).values.get("Isolation") or "")
