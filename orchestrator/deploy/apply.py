"""Walk a plan: in dependency order, in parallel, bounded per provider, an intent around every change.

One loop (the caller's thread) owns the schedule and the ledger; worker threads only act and
report to it through a queue. Nothing that is not in the plan is done.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from orchestrator.deploy import actions, runs
from orchestrator.deploy.boots import Boots
from orchestrator.deploy.context import Context
from orchestrator.deploy.events import Progressed
from orchestrator.deploy.evidence import Evidence
from orchestrator.deploy.lines import CALLS, Lines
from orchestrator.deploy.model import Action, Health, Outcome
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.proofs import Proofs
from orchestrator.deploy.report import Report
from orchestrator.deploy.session import Session
from orchestrator.deploy.spec import counts, is_pet
from orchestrator.deploy.tally import Tally
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.runtime.clock import Inbox, aside

T = TypeVar("T")
_MAKING = ("create:", "adopt:", "replace:")
_GATHER = 0.1  # seconds that outcomes wait for others: each write of the ledger is a write of the disk
_TICK = 0.25  # seconds: the longest nap of the loop, so that Ctrl-C is noticed


class Apply:
    """One walk over one plan. ``machines`` are those that exist, by name; ``well`` were seen working."""

    def __init__(
        self,
        ctx: Context,
        session: Session,
        plan: Plan,
        machines: Mapping[str, Machine],
        well: Collection[str] = (),
    ) -> None:
        self._ctx, self._session, self._plan = ctx, session, plan
        self.machines = dict(machines)
        self._tally = Tally(ctx, session, plan, well)
        self._schedule = self._tally.schedule
        self._inbox: Inbox[Callable[[], None]] = ctx.clock.inbox()
        self._boots, self._lines, self._evidence = Boots(ctx), Lines(ctx), Evidence(ctx)
        self._runs, self._proofs = runs.Gather(ctx.limits.gather), Proofs(ctx)
        ctx.tasks.heard = self._hear
        # Lists, health checks and evidence run beside the calls; each kind is bounded by its own counter.
        hands = sum(ctx.parallel(name) + 2 for name in ctx.guards) + len(ctx.site.groups) + runs.MOST
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix="apply")

    def run(self) -> Report:
        """Every change is done, failed, or waits for one that failed; outcomes are in the ledger.

        After ``ctx.stop`` nothing new starts, and what runs is finished and recorded. LeaseLost when
        another holder took over.
        """
        try:
            while self._schedule.unfinished and not (self._ctx.stop.is_set() and not self._tally.running):
                self._start()
                self._collect()
        except BaseException:
            self._ctx.stop.set()  # ends the waits of the worker threads
            raise
        finally:
            with aside(self._ctx.clock):
                self._pool.shutdown(wait=self._session.lost.is_set() is False, cancel_futures=True)
        return self._tally.report()

    # --- starting

    def _start(self) -> None:
        if self._ctx.stop.is_set():
            return
        chosen: list[Change] = []
        for change in self._schedule.ready():
            if change.action is Action.CONFIGURE:
                self._runs.add(change, self._ctx.clock.monotonic())
            elif change.action in CALLS:
                self._lines.add(change)
            else:
                chosen.append(change)
        called, refused = self._lines.take()
        together = self._runs.take(self._ctx.clock.monotonic(), self._soon)
        self._tally.begin([*chosen, *called, *together])
        for change in (*chosen, *called):
            self._act(change)
        self._tally.refused([(change, storm.message) for change, storm in refused])
        if together:
            self._configure(together)
        self._boots.poll(lambda name, call: self._work(call, lambda future: self._listed(name, future)))
        self._proofs.poll(lambda call: self._work(call, self._proved))

    def _soon(self) -> bool:
        """Some machine is being made whose configuration could still join the next run."""
        making = {key for key in (*self._tally.running, *self._lines.waiting) if key.startswith(_MAKING)}
        waits = (self._schedule.waits_for(c) for c in self._schedule.left if c.action is Action.CONFIGURE)
        return any(needs and needs <= making for needs in waits)

    def _act(self, change: Change) -> None:
        ctx, machine, plan = self._ctx, self.machines.get(change.object), self._plan
        match change.action:
            case Action.CREATE:
                self._submit(change, lambda: actions.create(ctx, change), self._made)
            case Action.REPLACE:
                self._submit(change, lambda: actions.remake(ctx, change, machine), self._made)
            case Action.DESTROY:
                old = None if plan.verb == "down" else machine
                destroy = lambda: actions.destroy(ctx, change, old, keep_data=plan.keep_data)  # noqa: E731
                self._submit(change, destroy, self._done)
            case Action.DRAIN if machine is not None:
                self._submit(change, lambda: actions.drain(ctx, change, machine), self._done)
            case Action.UNDRAIN if machine is not None:
                self._submit(change, lambda: ctx.workload.undrain(machine), self._done)
            case Action.ADOPT if machine is not None:
                self._made(change, machine)
            case Action.VERIFY:
                self._verify(change)
            case _:
                raise PermanentError(f"plan holds {change.id}, which cannot be applied")

    def _verify(self, change: Change) -> None:
        """Machines that failed are told already; those just seen working are asked again only if
        something changed that they lean on."""
        many = counts(self._ctx.site, self._ctx.ledger.overrides())[change.object]
        names = change.machines or self._ctx.site.machine_names(change.object, many)
        told = set() if is_pet(change.role) else self._tally.ill
        asked = [name for name in names if name not in told]
        if told and not asked:
            self._failed(change, PermanentError("none of its machines came up"))
            return
        if not any(need.startswith("verify:") for need in change.needs):
            asked = [name for name in asked if name not in self._tally.well]
        mine = [self.machines[name] for name in asked if name in self.machines]
        missing = [name for name in asked if name not in self.machines]
        tell = self._teller(change)
        self._submit(change, lambda: actions.verify(self._ctx, change, mine, missing, tell), self._verified)

    def _teller(self, change: Change) -> Callable[[str], None]:
        return lambda text: self._inbox.put(lambda: self._ctx.sink(Progressed(change, text)))

    def _hear(self, machine: str, task: str) -> None:
        change = self._tally.running.get(f"configure:{machine}")
        if change is not None:
            self._teller(change[0])(task)

    def _configure(self, changes: list[Change]) -> None:
        targets = [runs.target(change, self.machines[change.object]) for change in changes]
        told = {change.object: change for change in changes}

        def heard(outcome: Outcome) -> None:
            self._inbox.put(lambda: self._configured(told.pop(outcome.machine, None), outcome))

        def ended(future: Future[None]) -> None:
            self._runs.active -= 1
            default = PermanentError("the configuration run said nothing about it")
            for change in list(told.values()):
                self._failed(change, future.exception() or default)

        self._runs.active += 1
        self._work(lambda: runs.run(self._ctx, targets, heard), ended)

    def _submit(self, change: Change, call: Callable[[], T], then: Callable[[Change, T], None]) -> None:
        def returned(future: Future[T]) -> None:
            self._lines.returned(change)
            if (error := future.exception()) is not None:
                self._failed(change, error)
            else:
                then(change, future.result())

        self._work(call, returned)

    def _work(self, call: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """``call`` in a worker thread, then ``then`` here."""

        def over(future: Future[T]) -> None:
            self._inbox.put(lambda: then(future))
            self._ctx.clock.end()

        self._ctx.clock.begin()
        self._pool.submit(call).add_done_callback(over)

    # --- collecting

    def _collect(self) -> None:
        """Take in all that was reported; their outcomes go to disk in one transaction."""
        todo: list[Callable[[], None]] = []
        parts = (self._boots, self._proofs, self._runs, self._lines)
        pause = min(_TICK, self._tally.pause(_GATHER), *(part.pause for part in parts))
        try:
            todo.append(self._inbox.get(pause or 0.001 if self._waits else 0.0))
            while True:
                todo.append(self._inbox.get(0.0))
        except queue.Empty:
            pass
        for each in todo:
            each()
        if self._ctx.stop.is_set():
            for change in self._boots.drop():
                self._failed(change, actions.Interrupted(f"{change.object} was still booting"))
        stopped = self._ctx.stop.is_set()
        for change in self._proofs.release(lambda change: self._lines.like(change) and not stopped):
            self._done(change, proved=False)
        self._tally.flush(_GATHER)

    @property
    def _waits(self) -> bool:
        return bool(self._tally.running or self._lines.any or self._runs.waiting)

    def _made(self, change: Change, machine: Machine) -> None:
        if machine.state is MachineState.RUNNING:
            self._runs_now(change, machine)
        else:
            self._seen(machine)
            self._boots.add(change, machine)

    def _runs_now(self, change: Change, machine: Machine) -> None:
        """A pet has come up by that; a worker may be the first of its kind that should ask for work."""
        self._seen(machine)
        if is_pet(change.role):
            self._done(change)
        elif self._lines.like(change):
            self._proofs.add(change, machine)
        else:
            self._done(change, proved=False)

    def _proved(self, future: Future[Mapping[str, Health]]) -> None:
        for change, error in self._proofs.answered(future):
            if error is None:
                self._done(change)
            else:
                self._failed(change, error)

    def _seen(self, machine: Machine) -> None:
        self.machines[machine.name] = machine
        self._ctx.fleet.put(machine)

    def _listed(self, provider: str, future: Future[object]) -> None:
        error = future.exception()
        if error is not None and not isinstance(error, TemporaryError):
            verdicts: Iterable[tuple[Change, Machine | GridError]] = (
                (change, PermanentError(f"{provider} does not list its machines: {error}"))
                for change in self._boots.drop(provider)
            )
        else:
            verdicts = self._boots.listed(provider, None if error else future.result())
        for change, what in verdicts:
            if isinstance(what, GridError):
                self._failed(change, what)
            else:
                self._runs_now(change, what)

    def _verified(self, change: Change, checked: actions.Checked) -> None:
        self._tally.well.update(checked.well)
        self._tally.well.difference_update(checked.ill)
        stopped = isinstance(checked.error, actions.Interrupted)
        self._session.seen(checked.well, () if stopped else checked.ill)
        if checked.error is None:
            self._done(change)
        else:
            self._failed(change, checked.error)

    def _configured(self, change: Change | None, outcome: Outcome) -> None:
        if change is None:
            return
        if outcome.ok:
            self._done(change)
        else:
            first = outcome.evidence.strip().partition("\n")[0] or "it says nothing"
            self._failed(change, runs.Failed(f"{change.object}: {first}"), outcome.evidence)

    def _done(self, change: Change, _: object = None, *, proved: bool = True) -> None:
        if change.action is Action.DESTROY:
            self.machines.pop(change.object, None)
            self._ctx.fleet.drop(change.object)
        self._lines.ended(change, None, proved)
        self._tally.done(change)

    def _failed(self, change: Change, error: BaseException, more: str = "") -> None:
        self._lines.ended(change, error, proved=False)
        machine = self.machines.get(change.object)
        if self._ctx.stop.is_set():
            self._tally.failed(change, error)
            return

        def kept(future: Future[str]) -> None:
            self._tally.failed(change, error, "" if future.exception() else future.result(), machine)

        # What shows why must be read before the machine goes, but nothing else waits for it.
        self._work(lambda: self._evidence.keep(change, error, more), kept)
