"""A slot that only accounts: it claims real jobs, and reports them done after a simulated time.

No payload is run and no file is moved; every report says ``simulated``. Everything between the slot and
central is as it is with a real agent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from orchestrator.agent.reporter import Reporter
from orchestrator.agent.session import Session
from orchestrator.errors import GridError, NotAllowed, TemporaryError
from orchestrator.jobs import model as jobs
from orchestrator.tasks.model import KILL, PREEMPT, Assignment, Beat, Json, Report

_WAIT = 20.0  # seconds at the broker


class Slot:
    """``claims`` is a text that no other slot has; ``takes`` tells how long a (task, attempt) runs, in seconds."""

    def __init__(self, session: Session, ad: Json, claims: str, takes: Callable[[int, int], float]) -> None:
        self._session, self._ad, self._claims, self._takes = session, ad, claims, takes
        self._asked = 0

    async def run(self, heartbeat: float) -> None:
        """One job after the other, until cancelled; NotAllowed when the session is over."""
        while True:
            self._asked += 1
            try:
                claim = f"{self._claims}-{self._asked}"
                claimed = await self._session.claim(self._ad, wait=_WAIT, claim_id=claim)
            except TemporaryError as error:
                await asyncio.sleep(max(1.0, error.retry_in))
                continue
            for assignment in claimed.tasks:
                await _Attempt(self._session, assignment, heartbeat).run(
                    self._takes(assignment.task, assignment.attempt)
                )
            if not claimed.tasks:
                await asyncio.sleep(claimed.retry_in)


class _Attempt:
    """One attempt at one job."""

    def __init__(self, session: Session, assignment: Assignment, heartbeat: float) -> None:
        self._session, self._mine, self._heartbeat = session, assignment, heartbeat
        self._reporter = Reporter(lambda some: session.report(assignment.token, some), self._refused)
        self._over = asyncio.Event()  # somebody ended it before its time
        self._preempted = ""

    async def run(self, seconds: float) -> None:
        """It has ended, and central knows."""
        beating = asyncio.create_task(self._beat())
        try:
            self._reporter.put(self._to(jobs.STARTED), self._to(jobs.RUNNING))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), seconds)
            if self._preempted:
                self._reporter.put(self._to(jobs.WAITING, f"PREEMPTED: {self._preempted}"))
            elif not self._over.is_set():
                usage = {"wall": round(seconds, 3), "cpu": 0.0}
                self._reporter.put(self._to(jobs.SAVING), self._to(jobs.DONE, status=0, usage=usage))
            await self._reporter.flush()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    def _to(self, to: str, reason: str = "", **facts: object) -> Report:
        told = {"host": self._session.host, "simulated": True, **facts}
        return Report(self._mine.task, self._mine.attempt, to, reason, told)

    def _refused(self, _: str) -> None:
        self._over.set()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat)
            try:
                told = await self._session.beat(
                    self._mine.token, Beat(self._mine.task, self._mine.attempt, {})
                )
            except NotAllowed:
                return
            except GridError:
                continue
            for command in told:
                if (command.task, command.attempt) != (self._mine.task, self._mine.attempt):
                    continue
                if command.verb == PREEMPT:
                    self._preempted = str(command.facts.get("reason", "told to leave"))
                elif command.verb == KILL:
                    self._reporter.drop()
                else:
                    continue
                self._over.set()
