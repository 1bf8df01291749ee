"""What the task manager and broker decide, as pure functions: no clock, no database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.tasks.kinds import ASSIGNED, WAITING, Kind, Task
from orchestrator.tasks.model import Report

DAY = 86400.0
Verdict = Literal["accept", "repeated", "stale", "illegal"]


@dataclass(slots=True)
class Waiting:
    """A task class with waiting members."""

    id: int
    kind: str
    owner: str
    site: str
    waiting: int
    best_priority: float
    oldest: float  # seconds since the epoch
    factor: float = 1.0  # the owner's fair share


def rank(each: Waiting, behind: float = 0.0) -> tuple[float, float, int]:
    """Lowest first: priority times the owner's share, plus one unit for each day of waiting.

    ``behind``: seconds that the owner's oldest member waited before the owner was last served. They do not count:
    whoever gets something all the time is not passed over, however long the line. Among the classes of one owner,
    and for an owner who gets nothing, age counts without bound. All grow older together, so the order does not
    depend on the time.
    """
    return ((each.oldest + behind) / DAY - each.best_priority * each.factor, each.oldest, each.id)


def wide_first(classes: Sequence[Waiting], cores: Callable[[int], float], wait: float) -> list[Waiting]:
    """``classes`` (best first) with those that use most cores in front, but behind those that have waited
    ``wait`` seconds longer than the widest: wide ones are not starved by narrow ones, nor narrow ones for ever."""
    by_width = sorted(classes, key=lambda each: -cores(each.id))
    soon = by_width[0].oldest - wait if by_width else 0.0
    return [each for each in classes if each.oldest < soon] + [
        each for each in by_width if each.oldest >= soon
    ]


def fits(free: Mapping[str, float], need: Mapping[str, float], count: int) -> int:
    """How many tasks of ``need`` go into ``free`` (cores, memory, disk), at most ``count``."""
    for name, amount in need.items():
        if amount > 0 and name in free and free[name] < amount * count:
            count = int(free[name] // amount)
    return max(0, count)


def retry_in(misses: int) -> float:
    """Seconds to wait after the n-th no-match in a row: 1, 2, 4 ... 60."""
    return float(min(60, 2 ** min(misses, 6)))


@dataclass(frozen=True)
class Step:
    """A move to make. ``again``: with the next attempt; ``free``: that attempt does not count."""

    to: str
    reason: str
    again: bool = False
    free: bool = False


@dataclass(frozen=True)
class Judged:
    verdict: Verdict
    why: str = ""
    step: Step | None = None


def judge(kind: Kind, task: Task, report: Report, reached: bool, before_silence: str | None) -> Judged:
    """What to do with a resource's report.

    ``reached``: this attempt has been in that state already. ``before_silence``: the state a silent
    attempt had, to which it returns by speaking.
    """
    if report.attempt != task.attempt:
        return Judged(
            "stale", f"attempt {report.attempt} is over; {kind.name} {task.id} is at {task.attempt}"
        )
    if reached and report.to != WAITING:
        return Judged("repeated")
    state = before_silence if task.state == kind.silent and before_silence else task.state
    if state not in kind.active:
        return Judged("stale", f"{kind.name} {task.id} is {task.state}; stop")
    if report.to not in kind.reportable or report.to not in kind.life.get(state, frozenset()):
        return Judged("illegal", f"{kind.name} {task.id} cannot go from {task.state} to {report.to}")
    if report.to == WAITING:
        return Judged("accept", step=Step(WAITING, report.reason or "preempted", again=True, free=True))
    if report.to == kind.never_started and task.attempt < task.max_attempts:
        return Judged("accept", step=Step(WAITING, report.reason or "never started", again=True))
    return Judged("accept", step=Step(report.to, report.reason))


def overdue(kind: Kind, task: Task) -> Step | None:
    """What to do with a task whose deadline has passed, or None when nothing is expected of it."""
    left = task.attempt < task.max_attempts
    if task.state == WAITING:
        return Step(kind.overwaited, "no resource took it in time; see `orchestrate job why`")
    if task.state == ASSIGNED:
        if left:
            return Step(WAITING, f"{task.resource} did not begin", again=True)
        return Step(kind.never_started, f"none of {task.attempt} attempts began")
    if task.state in kind.active:
        return Step(kind.silent, f"no heartbeat from {task.resource}")
    if task.state == kind.silent:
        return Step(kind.lost, f"{task.resource} stayed silent")
    if task.state == kind.lost and left:
        return Step(WAITING, f"attempt {task.attempt} was lost", again=True)
    return None
