"""What an apply has begun and how it ended: intents around every change, results, the schedule behind them.

Owned by the apply loop; not thread-safe.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from orchestrator.deploy.context import Context
from orchestrator.deploy.events import Finished, Started
from orchestrator.deploy.model import Action, IntentState
from orchestrator.deploy.order import Schedule
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.report import Ended, Report, Result
from orchestrator.deploy.session import Outcome, Session
from orchestrator.errors import GridError, TemporaryError
from orchestrator.providers.base import Machine

_STATES = {
    Ended.DONE: IntentState.DONE, Ended.FAILED: IntentState.FAILED, Ended.INTERRUPTED: IntentState.INTERRUPTED,
}  # fmt: skip


class Tally:
    """The changes of one plan. ``well`` were seen doing their work, ``ill`` failed or were never begun."""

    def __init__(self, ctx: Context, session: Session, plan: Plan, well: Collection[str]) -> None:
        self._ctx, self._session, self._plan = ctx, session, plan
        self.schedule = Schedule(plan.work)
        self.running: dict[str, tuple[Change, int, float]] = {}  # change id → change, intent, start
        self.well, self.ill = set(well), set[str]()
        self._results: list[Result] = []
        self._told = 0
        self._closing: list[Outcome] = []
        self._oldest = 0.0  # when the first of them ended
        self._started = ctx.clock.monotonic()

    def begin(self, changes: Sequence[Change]) -> None:
        """Those are under way; their intents are on disk."""
        if not changes:
            return
        now = self._ctx.clock.monotonic()
        intents = self._session.open(changes, self._plan.keep_data, self._closing)
        self._closing = []
        self.flush()
        for change, intent in zip(changes, intents, strict=True):
            self.running[change.id] = (change, intent, now)
            self._ctx.sink(Started(change))

    def done(self, change: Change) -> None:
        """It went well."""
        self._end(change, Ended.DONE)
        self.schedule.done(change.id)

    def failed(
        self, change: Change, error: BaseException, file: str = "", machine: Machine | None = None
    ) -> None:
        """It did not, and what depends on it never starts. ``machine`` is what was made, where that matters."""
        ended = Ended.INTERRUPTED if self._ctx.stop.is_set() else Ended.FAILED
        told = error.message if isinstance(error, GridError) else f"{type(error).__name__}: {error}"
        place = machine.place if machine and change.action is not Action.VERIFY else ""
        if isinstance(error, GridError):
            place = place or str(error.facts.get("host", ""))
        self._end(change, ended, told, file, isinstance(error, TemporaryError), place)
        self._lost(change, ended)
        self._give_up(
            change, Ended.SKIPPED if ended is Ended.FAILED else ended, f"needs {change.id}, which {ended}"
        )

    def refused(self, changes: Sequence[tuple[Change, str]]) -> None:
        """Those are not begun, since too many like them failed; the decision log says so."""
        if changes:
            self._session.decided([replace(c, action=Action.NONE, reason=why) for c, why in changes])
        for change, why in changes:
            self._lost(change, Ended.SKIPPED)
            self._results.append(Result(change, Ended.SKIPPED, error=why, storm=True))
            self._give_up(change, Ended.SKIPPED, f"needs {change.id}, which was not tried")

    def flush(self, patience: float = 0.0) -> None:
        """Outcomes are on disk, in one transaction, and then told; those younger than ``patience`` seconds
        may wait for the next intents. Until then a crash has them looked up."""
        if self._closing and self.running and self._ctx.clock.monotonic() - self._oldest < patience:
            return
        if self._closing:
            self._session.close(self._closing)
            self._closing = []
        for result in self._results[self._told :]:
            self._ctx.sink(Finished(result))
        self._told = len(self._results)

    def pause(self, patience: float) -> float:
        """Seconds until the outcomes that wait must be written; large when none does."""
        return max(0.0, self._oldest + patience - self._ctx.clock.monotonic()) if self._closing else 60.0

    def report(self) -> Report:
        """What came of it; changes that were never begun are interrupted."""
        self._results += [Result(change, Ended.INTERRUPTED) for change in self.schedule.left]
        self.flush()
        interrupted = any(result.ended is Ended.INTERRUPTED for result in self._results)
        seconds = self._ctx.clock.monotonic() - self._started
        results = tuple(self._results)
        return Report(self._plan.verb, results, seconds, interrupted, well=frozenset(self.well))

    def _lost(self, change: Change, ended: Ended) -> None:
        self.well.discard(change.object)
        if ended is not Ended.INTERRUPTED:
            self.ill.add(change.object)

    def _give_up(self, change: Change, ended: Ended, why: str) -> None:
        for lost in self.schedule.failed(change.id):
            self._lost(lost, ended)
            self._results.append(Result(lost, ended, error=why))

    def _end(
        self,
        change: Change,
        ended: Ended,
        error: str = "",
        file: str = "",
        temporary: bool = False,
        place: str = "",
    ) -> None:
        _, intent, start = self.running.pop(change.id)
        if not self._closing:
            self._oldest = self._ctx.clock.monotonic()
        self._closing.append((intent, change, _STATES[ended], error, place))
        seconds = self._ctx.clock.monotonic() - start
        self._results.append(Result(change, ended, seconds, error, file, temporary))
