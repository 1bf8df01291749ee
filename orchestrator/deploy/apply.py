"""Walk a plan: in dependency order, in parallel, bounded per provider, an intent around every change.

One loop (the caller's thread) owns the schedule and the ledger; worker threads only act and
report to it through a queue. Nothing that is not in the plan is done.
"""

from __future__ import annotations

import queue
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from orchestrator.deploy import actions, runs
from orchestrator.deploy.boots import Boots
from orchestrator.deploy.context import Context
from orchestrator.deploy.events import Ended, Finished, Progressed, Report, Result, Started
from orchestrator.deploy.model import Action, IntentState, Outcome
from orchestrator.deploy.order import Schedule
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.session import Session
from orchestrator.deploy.spec import counts
from orchestrator.errors import GridError, PermanentError, TemporaryError
from orchestrator.providers.base import Machine, MachineState
from orchestrator.runtime.clock import Inbox, aside

_CALLS = {Action.CREATE, Action.REPLACE, Action.DESTROY, Action.DRAIN}
_MAKING = ("create:", "adopt:", "replace:")
_TICK = 0.25  # seconds: the longest nap of the loop, so that Ctrl-C is noticed
_STATES = {
    Ended.DONE: IntentState.DONE, Ended.FAILED: IntentState.FAILED, Ended.INTERRUPTED: IntentState.INTERRUPTED,
}  # fmt: skip


class Apply:
    """One walk over one plan. ``machines`` are those that exist, by name."""

    def __init__(self, ctx: Context, session: Session, plan: Plan, machines: Mapping[str, Machine]) -> None:
        self._ctx, self._session, self._plan = ctx, session, plan
        self.machines = dict(machines)
        self._schedule = Schedule(plan.work)
        self._waiting: dict[str, deque[Change]] = {}  # provider → ready, no free hand yet
        self._running: dict[str, tuple[Change, int, float]] = {}  # change id → change, intent, start
        self._calls: Counter[str] = Counter()  # per provider
        self._inbox: Inbox[Callable[[], None]] = ctx.clock.inbox()
        self._results: list[Result] = []
        self._closing: list[tuple[int, Change, IntentState, str]] = []
        self._boots = Boots(ctx)
        self._runs = runs.Gather(ctx.limits.gather)
        ctx.tasks.heard = self._hear
        # Lists and health checks run beside the calls; each kind is bounded by its own counter.
        hands = sum(ctx.parallel(name) + 1 for name in ctx.providers) + len(ctx.site.groups) + runs.MOST
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix="apply")

    def run(self) -> Report:
        """Every change is done, failed, or waits for one that failed; outcomes are in the ledger.

        After ``ctx.stop`` nothing new starts, and what runs is finished and recorded. LeaseLost when
        another holder took over.
        """
        started = self._ctx.clock.monotonic()
        try:
            while self._schedule.unfinished and not (self._ctx.stop.is_set() and not self._running):
                self._start()
                self._collect()
        except BaseException:
            self._ctx.stop.set()  # ends the waits of the worker threads
            raise
        finally:
            with aside(self._ctx.clock):
                self._pool.shutdown(wait=self._session.lost.is_set() is False, cancel_futures=True)
        for change in self._schedule.left:
            self._tell(Result(change, Ended.INTERRUPTED))
        interrupted = any(result.ended is Ended.INTERRUPTED for result in self._results)
        seconds = self._ctx.clock.monotonic() - started
        return Report(self._plan.verb, tuple(self._results), seconds, interrupted)

    # --- starting

    def _start(self) -> None:
        if self._ctx.stop.is_set():
            return
        chosen: list[Change] = []
        for change in self._schedule.ready():
            if change.action is Action.CONFIGURE:
                self._runs.add(change, self._ctx.clock.monotonic())
            elif change.action in _CALLS:
                self._waiting.setdefault(change.provider, deque()).append(change)
            else:
                chosen.append(change)
        for provider, line in self._waiting.items():
            while line and self._calls[provider] < self._ctx.parallel(provider):
                self._calls[provider] += 1
                chosen.append(line.popleft())
        together = self._runs.take(self._ctx.clock.monotonic(), self._soon)
        self._begin([*chosen, *together])
        for change in chosen:
            self._act(change)
        if together:
            self._configure(together)
        self._boots.poll(lambda provider, call: self._submit_list(provider, call))

    def _soon(self) -> bool:
        """Some machine is being made whose configuration could still join the next run."""
        making = {change.id for change, _, _ in self._running.values()}
        making |= {change.id for line in self._waiting.values() for change in line}
        making = {key for key in making if key.startswith(_MAKING)}
        waits = (self._schedule.waits_for(c) for c in self._schedule.left if c.action is Action.CONFIGURE)
        return any(needs and needs <= making for needs in waits)

    def _begin(self, changes: list[Change]) -> None:
        if not changes:
            return
        now = self._ctx.clock.monotonic()
        intents = self._session.open(changes, self._plan.keep_data)
        for change, intent in zip(changes, intents, strict=True):
            self._running[change.id] = (change, intent, now)
            self._ctx.sink(Started(change))

    def _act(self, change: Change) -> None:
        ctx = self._ctx
        match change.action:
            case Action.CREATE:
                self._submit(change, lambda: actions.create(ctx, change), self._made)
            case Action.REPLACE:
                self._submit(change, lambda: actions.replace(ctx, change), self._made)
            case Action.DESTROY:
                keep = self._plan.keep_data
                self._submit(change, lambda: actions.destroy(ctx, change, keep_data=keep), self._done)
            case Action.DRAIN:
                machine = self.machines[change.object]
                self._submit(change, lambda: actions.drain(ctx, change, machine), self._done)
            case Action.ADOPT:
                self._made(change, self.machines[change.object])
            case Action.VERIFY:
                names = self._names(change.object)
                mine = [self.machines[name] for name in names if name in self.machines]
                down = [m.name for m in mine if m.state is not MachineState.RUNNING]
                down += [name for name in names if name not in self.machines]
                self._submit(
                    change,
                    lambda: actions.verify(ctx, change, mine, down, self._teller(change)),
                    self._verified,
                )
            case _:
                raise PermanentError(f"plan holds {change.id}, which cannot be applied")

    def _names(self, group: str) -> tuple[str, ...]:
        many = counts(self._ctx.site, self._ctx.ledger.overrides())
        return self._ctx.site.machine_names(group, many[group])

    def _teller(self, change: Change) -> Callable[[str], None]:
        return lambda text: self._inbox.put(lambda: self._ctx.sink(Progressed(change, text)))

    def _hear(self, machine: str, task: str) -> None:
        change = self._running.get(f"configure:{machine}")
        if change is not None:
            self._teller(change[0])(task)

    def _configure(self, changes: list[Change]) -> None:
        targets = [runs.target(change, self.machines[change.object]) for change in changes]
        told = {change.object: change for change in changes}

        def heard(outcome: Outcome) -> None:
            self._inbox.put(lambda: self._configured(told.pop(outcome.machine, None), outcome))

        def ended(future: Future[object]) -> None:
            self._runs.active -= 1
            default = PermanentError("the configuration run said nothing about it")
            for change in list(told.values()):
                self._failed(change, future.exception() or default)

        self._runs.active += 1
        self._hand(lambda: runs.run(self._ctx, targets, heard), ended)

    def _submit(self, change: Change, call: Callable[[], object], then: Callable[..., None]) -> None:
        self._hand(call, lambda future: self._returned(change, future, then))

    def _submit_list(self, provider: str, call: Callable[[], object]) -> None:
        self._hand(call, lambda future: self._listed(provider, future))

    def _hand(self, call: Callable[[], object], ended: Callable[[Future[object]], None]) -> None:
        """``call`` runs in a free thread; the loop hears of its end."""

        def over(future: Future[object]) -> None:
            self._inbox.put(lambda: ended(future))
            self._ctx.clock.end()

        self._ctx.clock.begin()
        self._pool.submit(call).add_done_callback(over)

    # --- collecting

    def _collect(self) -> None:
        """Take in all that was reported; their outcomes go to disk in one transaction."""
        pause = _TICK if self._running or not self._schedule.unfinished else 0.0
        todo: list[Callable[[], None]] = []
        try:
            todo.append(self._inbox.get(min(pause, self._boots.pause, self._runs.pause) or 0.001))
            while True:
                todo.append(self._inbox.get(0.0))
        except queue.Empty:
            pass
        before = len(self._results)
        for each in todo:
            each()
        if self._ctx.stop.is_set():
            self._give_up_waits()
        if self._closing:
            self._session.close(self._closing)
            self._closing = []
        for result in self._results[before:]:
            self._ctx.sink(Finished(result))

    def _returned(self, change: Change, future: Future[object], then: Callable[..., None]) -> None:
        if change.action in _CALLS:
            self._calls[change.provider] -= 1
        if (error := future.exception()) is not None:
            self._failed(change, error)
        else:
            then(change, future.result())

    def _made(self, change: Change, machine: Machine) -> None:
        self._seen(machine)
        if machine.state is MachineState.RUNNING:
            self._done(change)
        else:
            self._boots.add(change, machine)

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
                self._seen(what)
                self._done(change)

    def _verified(self, change: Change, names: list[str]) -> None:
        self._session.ready(names)
        self._done(change)

    def _configured(self, change: Change | None, outcome: Outcome) -> None:
        if change is None:
            return
        if outcome.ok:
            self._done(change)
        else:
            first = outcome.evidence.strip().partition("\n")[0] or "it says nothing"
            self._failed(change, runs.Failed(f"{change.object}: {first}"), outcome.evidence)

    def _give_up_waits(self) -> None:
        for change in self._boots.drop():
            self._failed(change, actions.Interrupted(f"{change.object} was still booting"))

    # --- ends

    def _done(self, change: Change, _: object = None) -> None:
        if change.action is Action.DESTROY:
            self.machines.pop(change.object, None)
            self._ctx.fleet.drop(change.object)
        self._end(change, Ended.DONE)
        self._schedule.done(change.id)

    def _failed(self, change: Change, error: BaseException, more: str = "") -> None:
        ended = Ended.INTERRUPTED if self._ctx.stop.is_set() else Ended.FAILED
        file = actions.evidence(self._ctx, change, error, more) if ended is Ended.FAILED else ""
        told = error.message if isinstance(error, GridError) else f"{type(error).__name__}: {error}"
        self._end(change, ended, told, file, isinstance(error, TemporaryError))
        for lost in self._schedule.failed(change.id):
            after = Ended.INTERRUPTED if ended is Ended.INTERRUPTED else Ended.SKIPPED
            self._results.append(Result(lost, after, error=f"needs {change.id}, which {ended}"))

    def _end(
        self, change: Change, ended: Ended, error: str = "", file: str = "", temporary: bool = False
    ) -> None:
        _, intent, start = self._running.pop(change.id)
        self._closing.append((intent, change, _STATES[ended], error))
        seconds = self._ctx.clock.monotonic() - start
        self._results.append(Result(change, ended, seconds, error, file, temporary))

    def _tell(self, result: Result) -> None:
        self._results.append(result)
        self._ctx.sink(Finished(result))
