"""The File Transfer Daemon of a site: takes the legs that end near it, moves the files, tells how it went.

It is a resource like a job agent: it claims by an ad, beats while it moves, and obeys kills. What it does can be
done twice without harm, since it asks the destination first; so it may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestrator.errors import GridError, NotAllowed, PermanentError, TemporaryError
from orchestrator.runtime import daemon, logs
from orchestrator.tasks.model import KILL, Assignment, Beat, Claimed, Command, Json, Report, ReportResult
from orchestrator.transfers import decide, model
from orchestrator.transfers.model import Leg
from orchestrator.transfers.mover import Mover

WAIT = 25.0  # seconds of a long poll
LEAVING = 2.0  # seconds in which what runs is given back


class Line(Protocol):
    """The way to the site's ClusterMonitor (agent.session.Session)."""

    async def claim(self, ad: Json, *, wait: float, claim_id: str, count: int = 1) -> Claimed: ...
    async def report(self, token: str, reports: Sequence[Report]) -> list[ReportResult]: ...
    async def beat(self, token: str, beat: Beat) -> list[Command]: ...
    async def commands(self, wait: float) -> list[Command]: ...
    async def answer(self, command: Command, value: Json) -> None: ...


def ftd_ad(host: str, close_se: Sequence[str], free_cache: int, protocols: Sequence[str]) -> Json:
    """What an FTD says of itself; ``free_cache`` in bytes, rounded down so that its ad stays alike."""
    cache = free_cache // 2**30 * 2**30
    own: Json = {"Type": model.FTD, "Host": host, "CloseSE": list(close_se), "FreeCache": cache}
    return own | {"Protocols": sorted(protocols)}


@dataclass(eq=False)
class Run:
    """One leg that this FTD has."""

    assignment: Assignment
    task: asyncio.Task[None]
    bytes: int = 0

    def add(self, count: int) -> None:
        self.bytes += count


class Ftd:
    """One FTD. ``movers``: by URL scheme of the target; ``claims``: a text that no other FTD has."""

    def __init__(
        self,
        line: Line,
        movers: Mapping[str, Mover],
        ad: Callable[[], Json],
        claims: str,
        *,
        slots: int = 4,
        heartbeat: float = 3.0,
        wait: float = WAIT,
    ) -> None:
        self.line, self.movers, self.ad, self.claims = line, movers, ad, claims
        self.slots, self.heartbeat, self.wait = slots, heartbeat, wait
        self.log = logs.get("ftd")
        self._runs: dict[tuple[int, int], Run] = {}
        self._over = asyncio.Event()
        self._numbers = itertools.count(1)
        self._few = asyncio.Semaphore(slots)  # of a group, so many move at once

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``, or until the session is over; what is under way then is given back."""
        inner = asyncio.Event()
        lanes = [daemon.loop(f"ftd lane {n}", self._large, inner) for n in range(self.slots)]
        lanes += [
            daemon.loop("ftd group", self._small, inner),
            daemon.loop("ftd beats", self._beat, inner),
            daemon.loop("ftd commands", self._obey, inner),
        ]
        working = [asyncio.create_task(lane) for lane in lanes]
        try:
            while not (stop.is_set() or self._over.is_set()):
                await daemon.wait_any(3600.0, stop, self._over)
        finally:
            inner.set()
            for each in working:
                each.cancel()
            await self._leave()
            await asyncio.gather(*working, return_exceptions=True)

    async def _large(self) -> float:
        return await self._take("!other.Small", 1)

    async def _small(self) -> float:
        return await self._take("other.Small", decide.GROUP)

    async def _take(self, which: str, count: int) -> float:
        """Claim up to ``count`` legs of one sort and do them."""
        ad = self.ad() | {"Requirements": f'other.Type == "{model.KIND}" && {which}'}
        claim = f"{self.claims}-{next(self._numbers)}"
        try:
            claimed = await self.line.claim(ad, wait=self.wait, claim_id=claim, count=count)
        except NotAllowed as error:
            self.log.error("the session is over", reason=error.message)
            self._over.set()
            return self.wait
        if not claimed.tasks:
            return claimed.retry_in
        running = []
        for each in claimed.tasks:
            task = asyncio.create_task(self._do(each))
            running.append(task)
            key = (each.task, each.attempt)
            self._runs[key] = Run(each, task)
            task.add_done_callback(lambda _, key=key: self._runs.pop(key, None))  # type: ignore[misc]
        await asyncio.gather(*running, return_exceptions=True)
        for ended in running:
            if not ended.cancelled() and (trouble := ended.exception()) is not None:
                self.log.error("a leg's end was not clean", exc_info=trouble)
        return 0.0

    async def _do(self, assignment: Assignment) -> None:
        """One leg from its first report to its last."""
        try:
            leg = Leg.of(assignment.jdl)
        except (KeyError, TypeError, ValueError) as error:
            await self._tell(assignment, model.FAILED, f"the description cannot be read: {error!r}")
            return
        if not await self._tell(assignment, model.DOING[leg.role]):
            return
        try:
            async with self._few:
                facts = await self._perform(leg, self._runs[assignment.task, assignment.attempt])
        except GridError as error:
            self.log.warning("failed", task=assignment.task, attempt=assignment.attempt, reason=error.message)
            blame = error.facts.get("blame", "")
            await self._tell(assignment, model.FAILED, error.message, {"blame": blame})
            return
        self.log.info("done", task=assignment.task, attempt=assignment.attempt, lfn=leg.lfn, **facts)
        await self._tell(assignment, model.DONE, "", facts)

    async def _perform(self, leg: Leg, run: Run) -> Json:
        mover = self.movers.get(leg.target.scheme)
        if mover is None:
            raise PermanentError(f"this FTD cannot move files by {leg.target.scheme}")
        if leg.role == model.CLEAN:
            await mover.remove(leg.target)
            return {"removed": True}
        # An attempt before this one may have ended well, and nobody heard of it.
        if await mover.holds(leg.target, leg.content):
            return {"there": True, "bytes": 0}
        began = asyncio.get_running_loop().time()
        await mover.move(leg.source, leg.target, leg.content, run.add)
        seconds = round(asyncio.get_running_loop().time() - began, 3)
        return {"bytes": run.bytes, "seconds": seconds, "source": leg.source.se}

    async def _tell(
        self, assignment: Assignment, to: str, reason: str = "", facts: Json | None = None
    ) -> bool:
        """Report until somebody hears; whether it was accepted."""
        report = Report(assignment.task, assignment.attempt, to, reason, facts or {})
        pause = 0.5
        while True:
            try:
                result = (await self.line.report(assignment.token, [report]))[0]
            except TemporaryError as error:
                await asyncio.sleep(max(pause, min(error.retry_in, 10.0)))
                pause = min(10.0, 2 * pause)
                continue
            if not result.accepted:
                self.log.warning("refused", task=assignment.task, to=to, why=result.why)
            return result.accepted

    async def _beat(self) -> float:
        """All legs live; those that are over elsewhere are stopped."""

        async def one(run: Run) -> None:
            each = run.assignment
            with contextlib.suppress(TemporaryError):
                beat = Beat(each.task, each.attempt, {"bytes": run.bytes})
                for command in await self.line.beat(each.token, beat):
                    self._stop(command)

        await asyncio.gather(*(one(run) for run in list(self._runs.values())))
        return self.heartbeat

    async def _obey(self) -> float:
        commands = await self.line.commands(self.wait)
        for command in commands:
            self._stop(command)
            await self.line.answer(command, {})
        # Those without a number are the ClusterMonitor's own: it repeats them at once.
        return 0.1 if all(command.id for command in commands) else 1.0

    def _stop(self, command: Command) -> None:
        run = self._runs.get((command.task, command.attempt))
        if run is not None and command.verb == KILL:
            self.log.info("killed", task=command.task, attempt=command.attempt)
            run.task.cancel()

    async def _leave(self) -> None:
        """What is under way waits for another FTD, or for the next one here."""
        runs = list(self._runs.values())
        self.log.info("leaves", legs=len(runs))
        for run in runs:
            run.task.cancel()

        async def back(run: Run) -> None:
            each = run.assignment
            report = Report(each.task, each.attempt, model.WAITING, "PREEMPTED: the FTD is leaving")
            try:
                result = (await self.line.report(each.token, [report]))[0]
                self.log.info("given back", task=each.task, accepted=result.accepted, why=result.why)
            except GridError as error:  # it falls silent then
                self.log.warning("not given back", task=each.task, reason=error.message)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING):
                await asyncio.gather(*(back(run) for run in runs))
