"""One payload's run: started under a guard, watched, stopped when it breaks a limit or is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.agent import guard, isolation, processes
from orchestrator.agent.limits import Activity, Limits, Usage, judge
from orchestrator.agent.model import EXIT_CODE, GUARD_LOST, NOT_EXECUTABLE, SIGNAL
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.daemon import wait_any

_SAMPLE = 1.0  # seconds between two looks at memory and CPU
_STUCK = guard.PATIENCE + 20.0  # seconds in which a guard has begun, or ended what it was told to end


@dataclass(frozen=True)
class Outcome:
    """How it ended. ``code`` is "" when the program exited with 0; ``usage`` as in a Beat."""

    code: str
    text: str = ""
    status: int | None = None  # exit status, or minus the signal's number
    usage: Mapping[str, float] = field(default_factory=dict)


class Execution:
    """One run of a program; ``run`` it once. Made and run in the main thread's event loop."""

    def __init__(
        self,
        program: guard.Program,
        limits: Limits,
        *,
        grace: float = 10.0,
        stuck: float = _STUCK,
        clock: Clock | None = None,
    ) -> None:
        self._program = program
        self._limits = limits
        self._grace, self._stuck = grace, stuck
        self._clock = clock or SystemClock()
        self._told: dict[str, Any] = {}
        self._control: socket.socket | None = None
        self._wake = asyncio.Event()
        self.started = asyncio.Event()  # the program is executing, or could not be
        self._stopped: tuple[str, str] | None = None
        self._kill_at = self._killing = float("inf")
        self._began = 0.0
        self._peak = 0
        self.usage = Usage(0.0)

    async def run(self) -> Outcome:
        """Run to the end: when this returns, or is cancelled, no process of the payload is left."""
        pid, self._control = guard.start(self._program)
        self._began = self._clock.monotonic()
        self._control.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=self._control)
        listening = asyncio.ensure_future(self._listen(reader))
        try:
            await self._watch(pid, listening)
        finally:
            try:
                if "cpu" not in self._told:  # the loop's end cancels ``listening`` too: the order counts
                    self._order(b"K")
                if not listening.done():
                    await asyncio.wait([listening], timeout=self._stuck)
                    self._kill_guard(pid, listening)
                    await asyncio.shield(listening)
            finally:
                writer.close()
                self._control = None
                self._collect(pid)
                if self._program.uid is not None:
                    isolation.end_all(self._program.uid)  # what the guard did not find
        return self._outcome()

    def _kill_guard(self, guard: int, listening: asyncio.Future[None]) -> None:
        """A guard that neither tells nor ends is stuck; the payload's first process dies with it."""
        if not listening.done():
            os.kill(guard, signal.SIGKILL)

    def _collect(self, guard: int) -> None:
        """The guard, which is at its end or was told to kill, is no zombie."""
        give_up = self._clock.monotonic() + self._stuck
        while os.waitpid(guard, os.WNOHANG)[0] == 0:
            if self._clock.monotonic() > give_up:
                os.kill(guard, signal.SIGKILL)
            time.sleep(0.002)
        if "cpu" not in self._told and "pid" in self._told:  # it was killed before it could finish its work
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._told["pid"], signal.SIGKILL)

    def stop(self, code: str, text: str, *, at_once: bool = False) -> None:
        """End the payload: SIGTERM, after the grace SIGKILL; or SIGKILL at once. The first reason counts."""
        if self._stopped is None:
            self._stopped = (code, text)
            self._kill_at = self._clock.monotonic() + self._grace
            self._order(b"T")
        if at_once:
            self._kill_at = 0.0
            self._order(b"K")
        self._wake.set()

    def figures(self) -> dict[str, float]:
        """What it uses now, as a Beat has it: wall and cpu in seconds, memory (highest seen) and disk in bytes."""
        usage = self.usage
        found: dict[str, float] = {"wall": round(usage.wall, 3)}
        cpu = self._told.get("cpu", usage.cpu)
        if cpu is not None:
            found["cpu"] = round(cpu, 3)
        peak = self._peak or self._told.get("rss", 0)
        if peak:
            found["memory"] = peak
        if usage.disk is not None:
            found["disk"] = usage.disk
        return found

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take what the guard tells, until it is gone."""
        try:
            while line := await reader.readline():
                told = json.loads(line)
                self._told.update(told)
                if "status" in told or "failed" in told:
                    self.usage = Usage(
                        self._clock.monotonic() - self._began,
                        self.usage.cpu,
                        self.usage.memory,
                        self.usage.disk,
                    )
                self.started.set()
        except (ConnectionError, ValueError):
            pass
        finally:
            self.started.set()
            self._wake.set()

    async def _watch(self, pid: int, listening: asyncio.Future[None]) -> None:
        activity = Activity()
        disk: int | None = None
        disk_at = 0.0
        while not listening.done():
            pause = min(_SAMPLE, max(0.01, self._kill_at - self._clock.monotonic()))
            await wait_any(pause, self._wake)
            self._wake.clear()
            if listening.done():
                return
            now = self._clock.monotonic()
            if now >= disk_at:
                disk = await asyncio.to_thread(processes.disk_use, self._program.directory)
                disk_at = self._clock.monotonic() + max(2.0, 20 * (self._clock.monotonic() - now))
            if "status" not in self._told:
                self.usage = await asyncio.to_thread(_measure, pid, now - self._began, disk)
            self._peak = max(self._peak, self.usage.memory or 0)
            activity = activity.after(self.usage)
            excess = judge(self.usage, self._limits, activity)
            if excess is not None and "status" not in self._told:
                self.stop(excess.code, excess.text)
            if now >= self._kill_at:
                self._order(b"K")
                self._kill_at = now + 1.0
                self._killing = min(self._killing, now)
            begun = "pid" in self._told or "failed" in self._told
            if now - (self._killing if begun else self._began) > self._stuck:
                self._kill_guard(pid, listening)

    def _order(self, letter: bytes) -> None:
        if self._control is not None:
            try:
                self._control.send(letter)
            except OSError:
                self._wake.set()  # the guard is gone: ``_listen`` ends

    def _outcome(self) -> Outcome:
        usage = self.figures()
        status = self._told.get("status")
        if "failed" in self._told:
            return Outcome(NOT_EXECUTABLE, str(self._told["failed"]), None, usage)
        if self._stopped is not None:
            return Outcome(*self._stopped, status, usage)
        if status is None:
            return Outcome(GUARD_LOST, "the process that watches it was killed", None, usage)
        if status < 0:
            return Outcome(SIGNAL, f"ended by signal {-status}", status, usage)
        if status > 0:
            return Outcome(EXIT_CODE, f"exited with {status}", status, usage)
        return Outcome("", "", 0, usage)


def _measure(pid: int, wall: float, disk: int | None) -> Usage:
    if not processes.known():
        return Usage(wall, disk=disk)
    own = processes.process(pid)  # the guard: its cpu has that of processes that ended
    below = processes.descendants(pid)
    cpu = sum(one.cpu for one in below) + (own.cpu if own else 0.0)
    return Usage(wall, cpu, sum(one.rss for one in below), disk)


def resolve(executable: str, directory: Path, search: str) -> str:
    """The path to execute: as it is when it has a slash (relative: below ``directory``), else found in ``search``.

    What is found nowhere is returned as it is, for the attempt to execute it to say so.
    """
    if "/" in executable:
        return str(directory / executable)
    for folder in search.split(":"):
        candidate = Path(folder, executable)
        if folder and candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    return executable
