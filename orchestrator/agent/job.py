"""One attempt at one job: packages, input, payload, output, and the reports about it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.agent import isolation, setup, stage
from orchestrator.agent.decide import Use
from orchestrator.agent.guard import Program
from orchestrator.agent.limits import Limits
from orchestrator.agent.model import (
    AGENT_FAILED,
    FEWER_REPLICAS,
    GUARD_LOST,
    OUTPUT_MISSING,
    OUTPUT_NOT_STORED,
    OUTPUT_UNSAFE,
    PREEMPTED,
)
from orchestrator.agent.payload import Execution, Outcome
from orchestrator.agent.reporter import Reporter
from orchestrator.agent.setup import Failed, Tools
from orchestrator.errors import GridError, TemporaryError
from orchestrator.jobs import model as jobs
from orchestrator.jobs.model import OutputSpec, Payload
from orchestrator.runtime import logs
from orchestrator.runtime.files import remove_tree
from orchestrator.software.model import Package
from orchestrator.tasks.model import KILL, PREEMPT, Assignment, Beat, Output, Report

STREAMS = (OutputSpec("stdout"), OutputSpec("stderr"))
# What a failure of the agent itself makes of the job, by the state it was in.
_FAILURE = {jobs.RUNNING: jobs.ERROR_E, jobs.SAVING: jobs.ERROR_SV}
_OUTPUT_PATIENCE = 900.0  # seconds
_GUARDED_ATTEMPTS = 5  # a payload that kills its guard each time fails in the end


class Job:
    """One attempt. ``run`` it once; ``kill`` and ``preempt`` may be called at any time."""

    def __init__(self, assignment: Assignment, folder: Path, tools: Tools) -> None:
        self.assignment = assignment
        self.payload = Payload.of(assignment.jdl)
        self.use = Use(self.payload.cores, self.payload.memory)
        self.directory = folder / "work"
        self._folder = folder
        self._tools = tools
        self._reporter = Reporter(lambda reports: tools.session.report(assignment.token, reports), self.kill)
        self._execution: Execution | None = None
        self._main: asyncio.Task[None] | None = None
        self._lease: isolation.Lease | None = None
        self._leave = ""  # why it is preempted
        self._killed = False
        self._state = jobs.ASSIGNED
        self._saving = False
        self._log = logs.get("agent").bind(task=assignment.task, attempt=assignment.attempt)

    @property
    def streams(self) -> tuple[Path, Path]:
        """Where stdout and stderr are written."""
        return self.directory / "stdout", self.directory / "stderr"

    def kill(self, why: str) -> None:
        """The attempt is no longer ours: its processes end at once and nothing of it is kept."""
        self._killed = True
        self._log.info("killed", why=why)
        self._reporter.drop()
        if self._execution is not None:
            self._execution.stop(KILL, why, at_once=True)
        if self._main is not None:
            self._main.cancel()

    def preempt(self, why: str) -> None:
        """The job goes back to WAITING, unless its payload has ended already: then it is finished."""
        if self._leave or self._saving:
            return
        self._leave = why
        if self._execution is not None:
            self._execution.stop(PREEMPTED, why)
        elif self._main is not None:
            self._main.cancel()

    async def run(self) -> None:
        """The attempt has ended and is reported; no process and no file of it is left on the node."""
        self._main = asyncio.create_task(self._live())
        beating = asyncio.create_task(self._beat())
        try:
            await asyncio.wait({self._main})
            if self._killed:
                pass
            elif self._main.cancelled():
                self._report(jobs.WAITING, PREEMPTED, self._leave)
            elif fault := self._main.exception():
                self._log.error("the agent failed", exc_info=fault)
                self._fail(Failed(_FAILURE.get(self._state, jobs.ERROR_IB), AGENT_FAILED, repr(fault)))
            await self._reporter.flush()
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await asyncio.to_thread(remove_tree, self._folder)
            if self._lease is not None:
                self._lease.release()
        self._log.info("ended")

    async def _live(self) -> None:
        held: list[Package] = []
        try:
            program = await self._prepare(held)
            outcome = await self._execute(program)
            if outcome.code == PREEMPTED:
                self._report(jobs.WAITING, PREEMPTED, outcome.text)
                return
            if outcome.code == GUARD_LOST and self.assignment.attempt < _GUARDED_ATTEMPTS:
                self._report(jobs.WAITING, GUARD_LOST, outcome.text)  # most likely not the job's fault
                return
            self._saving = True
            if outcome.code:
                await self._keep_evidence(outcome)
            else:
                await self._save(outcome)
        except Failed as end:
            self._fail(end)
        finally:
            for package in held:
                self._tools.packages.release(package)

    async def _prepare(self, held: list[Package]) -> Program:
        """STARTED: the work directory with the input files, and the packages' environment."""
        self.directory.mkdir(parents=True)
        self._folder.chmod(0o711)
        if self._needs_time:
            self._reporter.put(self._to(jobs.STARTED))
        program = await setup.prepare(self.assignment, self.payload, self.directory, self._tools, held)
        try:
            self._lease = self._tools.isolation.lease(self.assignment.task)
        except GridError as error:
            raise Failed(jobs.ERROR_IB, AGENT_FAILED, error.message) from error
        if self._lease is None:
            return program
        await asyncio.to_thread(isolation.give, self.directory, self._lease.uid)
        return replace(program, uid=self._lease.uid)

    @property
    def _needs_time(self) -> bool:
        """Whether STARTED is worth a call of its own."""
        return bool(self.payload.packages or self.payload.inputs)

    async def _execute(self, program: Program) -> Outcome:
        """RUNNING: until the payload has ended."""
        payload = self.payload
        limits = Limits(payload.ttl, payload.memory, payload.disk)
        self._execution = Execution(program, limits, grace=self._tools.grace, clock=self._tools.clock)
        running = asyncio.create_task(self._execution.run())
        try:
            await self._execution.started.wait()
            started = () if self._needs_time else (self._to(jobs.STARTED),)
            self._reporter.put(*started, self._to(jobs.RUNNING, **self._place()))
            return await running
        finally:
            if not running.done():
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def _place(self) -> dict[str, Any]:
        """Where it runs, and as whom: "uid N", or why not as an account of its own."""
        told = f"uid {self._lease.uid}" if self._lease is not None else self._tools.isolation.told
        return {"host": self._tools.host, "isolation": told}

    async def _save(self, outcome: Outcome) -> None:
        """SAVING: every file of OutputFile is stored; DONE registers them."""
        self._reporter.put(self._to(jobs.SAVING))
        choice = stage.choose(self.directory, self.payload.outputs or STREAMS)
        if choice.unsafe:
            text = f"OutputFile: not the job's own files: {', '.join(choice.unsafe[:10])}"
            self._report(jobs.ERROR_SV, OUTPUT_UNSAFE, text, outcome, await self._stored_if_possible(STREAMS))
            return
        if choice.missing or choice.clashes:
            what = f"no file matches {', '.join(choice.missing)}" if choice.missing else ""
            same = f"several files are called {', '.join(choice.clashes)}" if choice.clashes else ""
            text = "OutputFile: " + "; ".join(part for part in (what, same) if part)
            kept = await self._stored_if_possible(STREAMS)
            self._report(jobs.ERROR_SV, OUTPUT_MISSING, text, outcome, kept)
            return
        try:
            outputs = await self._store(choice.files, _OUTPUT_PATIENCE)
        except GridError as error:
            raise Failed(jobs.ERROR_SV, OUTPUT_NOT_STORED, error.message) from error
        if few := stage.too_few(choice.files, outputs):
            text = f"fewer replicas than asked of {', '.join(few)}"
            self._report(jobs.DONE_WARN, FEWER_REPLICAS, text, outcome, outputs)
        else:
            self._report(jobs.DONE, "", "", outcome, outputs)

    async def _keep_evidence(self, outcome: Outcome) -> None:
        """ERROR_E: with the files that OutputErrorE names, as far as they exist and can be stored."""
        outputs = await self._stored_if_possible(self.payload.outputs_on_error or STREAMS)
        self._report(jobs.ERROR_E, outcome.code, outcome.text, outcome, outputs)

    async def _stored_if_possible(self, specs: Sequence[OutputSpec]) -> list[Output]:
        choice = stage.choose(self.directory, specs)
        single = [file for file in choice.files if file.path.name not in choice.clashes]
        try:
            return await self._store(single, 30.0)
        except GridError as error:
            self._log.warning("evidence not stored", reason=error.message)
            return []

    async def _store(self, files: Sequence[stage.Chosen], patience: float) -> list[Output]:
        api, directory = self._tools.session.api, self.payload.output_dir
        return await stage.store(api, files, directory, self.assignment.token, self._tools.clock, patience)

    def _report(
        self, to: str, code: str, text: str, outcome: Outcome | None = None, outputs: Sequence[Output] = ()
    ) -> None:
        facts: dict[str, Any] = {"host": self._tools.host}
        if code:
            facts["code"] = code
        if outcome is not None:
            facts |= {"status": outcome.status, "usage": dict(outcome.usage)}
        reason = f"{code}: {text}" if code else text
        mine = self.assignment
        self._reporter.put(Report(mine.task, mine.attempt, to, reason, facts, tuple(outputs)))

    def _fail(self, end: Failed) -> None:
        if self._state == jobs.ASSIGNED:
            self._reporter.put(self._to(jobs.STARTED))
        self._report(end.to, end.code, end.text)

    def _to(self, to: str, **facts: Any) -> Report:
        self._state = to
        return Report(self.assignment.task, self.assignment.attempt, to, "", facts)

    async def _beat(self) -> None:
        """Say that the attempt lives, from its assignment to its end, and hear whether it still may."""
        mine, session = self.assignment, self._tools.session
        while True:
            await asyncio.sleep(self._tools.heartbeat)  # the first report says it too
            usage = self._execution.figures() if self._execution is not None else {}
            with contextlib.suppress(TemporaryError):
                try:
                    told = await session.beat(mine.token, Beat(mine.task, mine.attempt, usage))
                except TemporaryError:
                    raise
                except GridError as error:
                    self._log.warning("heartbeat refused", reason=error.message)
                    told = []
                for command in told:
                    if (command.task, command.attempt) != (mine.task, mine.attempt):
                        continue
                    if command.verb == KILL:
                        self.kill(str(command.facts.get("reason", "stale")))
                    elif command.verb == PREEMPT:
                        self.preempt(str(command.facts.get("reason", "told to leave")))
