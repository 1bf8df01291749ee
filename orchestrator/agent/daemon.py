"""The agent: observe, decide, perform, until the slot ends or it is told to leave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent import isolation
from orchestrator.agent.decide import Ask, Policy, Seen, Stop, Wait, decide
from orchestrator.agent.job import Job
from orchestrator.agent.model import AgentConfig, Node, machine_ad
from orchestrator.agent.processmonitor import ProcessMonitor
from orchestrator.agent.session import Session
from orchestrator.agent.setup import Packages, Tools
from orchestrator.errors import NotAllowed, TemporaryError
from orchestrator.jobs import model as jobs
from orchestrator.runtime import daemon, logs
from orchestrator.runtime.clock import Clock
from orchestrator.tasks.model import Assignment, Claimed, Json, Report

# What a payload gets of the agent's own environment. ORCHESTRATE_MACHINE marks the processes of a
# local machine, so that destroying the machine finds them.
_INHERITED = ("ORCHESTRATE_MACHINE", "TZ")
_SEARCH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Ids:
    """Where ids come from: ``claim`` gives texts that no other claim has."""

    claim: str
    numbers: list[int]

    def next(self) -> str:
        self.numbers[0] += 1
        return f"{self.claim}-{self.numbers[0]}"


class Agent:
    """One agent. ``claims`` is a text that no other agent has."""

    def __init__(
        self, config: AgentConfig, node: Node, session: Session, packages: Packages, clock: Clock, claims: str
    ) -> None:
        self._config, self._node, self._session, self._packages = config, node, session, packages
        self._clock = clock
        self._ids = Ids(claims, [0])
        self._slot_end = clock.monotonic() + config.ttl
        self._idle_since = clock.monotonic()
        self._ask_after = 0.0
        self._jobs: dict[tuple[int, int], tuple[Job, asyncio.Task[None]]] = {}
        self._policy = Policy(
            node.cores, node.memory, config.slots, config.margin, idle_timeout=config.idle_timeout
        )
        self._monitor = ProcessMonitor(session, self._find)
        self._log = logs.get("agent")
        self._changed = asyncio.Event()
        self.drain = asyncio.Event()
        environment = {"PATH": _SEARCH, "LANG": "C.UTF-8", "USER": "grid", "SHELL": "/bin/sh"}
        environment |= {key: os.environ[key] for key in _INHERITED if key in os.environ}
        self._isolation = isolation.find([Path(path) for path in (config.workdir, config.cache) if path])
        if os.geteuid() == 0 and self._isolation.hindrance:
            self._log.warning("JOBS RUN AS ROOT", why=self._isolation.hindrance)
        self._tools = Tools(
            session, packages, clock, node.host, config.heartbeat, config.grace, environment, self._isolation
        )

    async def run(self) -> str:
        """Work until the slot ends, nothing comes, or ``drain`` is set; returns why it ended."""
        stop = asyncio.Event()
        watching = asyncio.create_task(
            daemon.loop("processmonitor", self._monitor.step, stop, self._monitor.wake)
        )
        leaving = asyncio.create_task(self._leave())
        try:
            while True:
                todo = decide(self._seen(), self._policy)
                if isinstance(todo, Stop):
                    self._log.info("stops", why=todo.why)
                    return todo.why
                if isinstance(todo, Wait):
                    await daemon.wait_any(todo.seconds, self._changed)
                    self._changed.clear()
                else:
                    await self._ask(todo)
        finally:
            stop.set()
            for task in (watching, leaving, *(task for _, task in self._jobs.values())):
                task.cancel()
            await asyncio.gather(watching, leaving, return_exceptions=True)

    def _seen(self) -> Seen:
        uses = [job.use for job, _ in self._jobs.values()]
        return Seen(
            self._clock.monotonic(),
            self._slot_end,
            self._idle_since,
            uses,
            self.drain.is_set(),
            self._ask_after,
        )

    async def _leave(self) -> None:
        """Once told to drain: running jobs go back to WAITING."""
        await self.drain.wait()
        for job, _ in list(self._jobs.values()):
            job.preempt("the node was taken back")
        self._changed.set()

    async def _ask(self, ask: Ask) -> None:
        claim_id, ad = self._ids.next(), self._ad(ask)
        asking = asyncio.create_task(self._session.claim(ad, wait=ask.wait, claim_id=claim_id))
        draining = asyncio.create_task(self.drain.wait())
        try:
            await asyncio.wait({asking, draining}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                asking.cancel()
                await self._give_back(ad, claim_id)
                return
            claimed = asking.result()
        except TemporaryError as error:
            self._log.warning("cannot ask", reason=error.message)
            claimed = Claimed(retry_in=max(1.0, error.retry_in))
        except NotAllowed as error:
            self._log.error("the session is over: no new job", reason=error.message)
            self._session.forget()
            self._slot_end = self._clock.monotonic()  # what runs is finished: its token is its own
            return
        finally:
            draining.cancel()
        for assignment in claimed.tasks:
            self._start(assignment)
        if not claimed.tasks:
            self._ask_after = self._clock.monotonic() + claimed.retry_in

    async def _give_back(self, ad: Json, claim_id: str) -> None:
        """We leave while the broker is asked: what it has just given us goes back."""
        with contextlib.suppress(TemporaryError, NotAllowed):
            claimed = await self._session.claim(ad, wait=0.0, claim_id=claim_id)
            for each in claimed.tasks:
                report = Report(each.task, each.attempt, jobs.WAITING, "PREEMPTED: the agent is leaving")
                await self._session.report(each.token, [report])

    def _ad(self, ask: Ask) -> Json:
        config, node = self._config, self._node
        return machine_ad(
            site=config.site,
            ce=config.ce,
            host=node.host,
            cores=ask.cores,
            memory=ask.memory,
            disk=shutil.disk_usage(config.workdir).free,
            ttl=ask.ttl,
            arch=node.arch,
            os=node.os,
            cvmfs=node.cvmfs,
            packages=self._packages.installed(),
            methods=config.methods,
            partitions=config.partitions,
            close_se=config.close_se,
            opportunistic=config.opportunistic,
            isolation=self._isolation.told,
        )

    def _start(self, assignment: Assignment) -> None:
        key = (assignment.task, assignment.attempt)
        self._log.info("got a job", task=key[0], attempt=key[1], user=assignment.user)
        folder = Path(self._config.workdir) / f"job-{key[0]}-{key[1]}"
        try:
            job = Job(assignment, folder, self._tools)
        except (KeyError, ValueError, TypeError) as error:
            self._refuse(assignment, error)
            return
        task = asyncio.create_task(job.run())
        self._jobs[key] = (job, task)
        task.add_done_callback(lambda ended: self._ended(key, ended))
        self._monitor.busy(True)

    def _refuse(self, assignment: Assignment, error: Exception) -> None:
        """The description of the job is not one; that is central's mistake and the job's end."""
        reason = f"AGENT_FAILED: the job's description cannot be read: {error!r}"
        moves = ((jobs.STARTED, ""), (jobs.ERROR_IB, reason))
        reports = [Report(assignment.task, assignment.attempt, to, why) for to, why in moves]
        task = asyncio.create_task(self._tell(assignment, reports))
        task.add_done_callback(lambda _: self._changed.set())

    async def _tell(self, assignment: Assignment, reports: list[Report]) -> None:
        await self._session.report(assignment.token, reports)

    def _ended(self, key: tuple[int, int], task: asyncio.Task[None]) -> None:
        del self._jobs[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a job's end was not clean", task=key[0], exc_info=error)
        self._idle_since = self._clock.monotonic()
        if not self._jobs:
            self._monitor.busy(False)
        self._changed.set()

    def _find(self, task: int, attempt: int) -> Job | None:
        held = self._jobs.get((task, attempt))
        return held[0] if held is not None else None
