"""Answers what a running job has printed so far, and passes on what it is told to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from orchestrator.agent import outputs
from orchestrator.agent.session import Session
from orchestrator.errors import NotFound
from orchestrator.tasks.model import KILL, PEEK, PREEMPT, Command, Json

TAIL = 16 << 10  # bytes of each file that a peek shows


class Watched(Protocol):
    """A job as its commands see it."""

    @property
    def streams(self) -> tuple[Path, Path]:
        """Where stdout and stderr are written."""
        ...

    def kill(self, why: str) -> None: ...
    def preempt(self, why: str) -> None: ...


Find = Callable[[int, int], Watched | None]  # (task, attempt) → the job, if it is here


def tail(path: Path, most: int = TAIL) -> str:
    """The last ``most`` bytes of a file of a work directory as text; "" when there is none that is the job's."""
    try:
        with outputs.open_inside(path, path.parent) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - most))
            data = file.read(most)
    except (OSError, outputs.Unsafe):
        return ""
    text = data.decode(errors="replace")
    return text if size <= most else "…" + text.partition("\n")[2]


def obey(command: Command, job: Watched) -> Json:
    """Do what ``command`` says; returns its answer."""
    if command.verb == PEEK:
        out, err = job.streams
        return {"stdout": tail(out), "stderr": tail(err)}
    why = str(command.facts.get("reason", ""))
    if command.verb == KILL:
        job.kill(why or "killed")
    elif command.verb == PREEMPT:
        job.preempt(why or "told to leave")
    return {}


class ProcessMonitor:
    """One long poll for all jobs of the agent, as long as there is one."""

    def __init__(self, session: Session, find: Find, wait: float = 20.0) -> None:
        self._session = session
        self._find = find
        self._wait = wait
        self._busy = False
        self.wake = asyncio.Event()  # for the loop that calls ``step``

    def busy(self, busy: bool) -> None:
        """Whether the agent has a job now: without one nothing is asked."""
        self._busy = busy
        self.wake.set()

    async def step(self) -> float:
        """Wait for commands once and obey them; returns the seconds to pause."""
        if not self._busy:
            return 3600.0
        for command in await self._session.commands(self._wait):
            job = self._find(command.task, command.attempt)
            answer = obey(command, job) if job is not None else {"gone": True}
            try:
                await self._session.answer(command, answer)
            except NotFound:
                continue  # answered before, by a poll whose answer was lost
        return 0.0
