"""What happens while a plan is made and applied, as data: the live view and ``--json`` are made of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from orchestrator.deploy.model import Action
from orchestrator.deploy.plan import Change, Plan
from orchestrator.units import format_duration


class Ended(StrEnum):
    """How a change ended."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # something it needs failed
    INTERRUPTED = "interrupted"  # Ctrl-C came first


@dataclass(frozen=True)
class Result:
    """One change and how it ended; ``evidence`` is a file."""

    change: Change
    ended: Ended
    seconds: float = 0.0
    error: str = ""
    evidence: str = ""
    temporary: bool = False  # trying again later may help


@dataclass(frozen=True)
class Report:
    """What became of a plan, and what is true now."""

    verb: str
    results: tuple[Result, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False

    def of(self, ended: Ended) -> tuple[Result, ...]:
        """Results that ended so."""
        return tuple(result for result in self.results if result.ended is ended)

    @property
    def exit_code(self) -> int:
        """0; 130 after Ctrl-C; 3 when trying again later may help; 4 when something must be mended."""
        failed = self.of(Ended.FAILED)
        if self.interrupted:
            return 130
        if failed:
            return 3 if all(result.temporary for result in failed) else 4
        return 0

    @property
    def summary(self) -> str:
        """One line that says what is true now."""
        done = _counted([result.change for result in self.of(Ended.DONE)])
        took = f" in {format_duration(self.seconds)}"
        if self.interrupted:
            left = len(self.of(Ended.INTERRUPTED))
            return f"interrupted: {done or 'nothing changed'}{took}, {left} not done; the same command again goes on"
        failed, skipped = self.of(Ended.FAILED), self.of(Ended.SKIPPED)
        if failed:
            names = ", ".join(result.change.object for result in failed[:5]) + (
                " …" if len(failed) > 5 else ""
            )
            waiting = f", {len(skipped)} waiting for that not started" if skipped else ""
            return f"{len(failed)} failed ({names}){waiting}; {done or 'nothing else changed'}{took}"
        if not self.results:
            return "nothing to do"
        return f"{done}{took}"


_PAST = {
    Action.CREATE: "created", Action.CONFIGURE: "configured", Action.VERIFY: "verified", Action.ADOPT: "adopted",
    Action.REPLACE: "replaced", Action.DESTROY: "destroyed", Action.DRAIN: "drained",
}  # fmt: skip


def _counted(changes: Sequence[Change]) -> str:
    many = Counter(change.action for change in changes)
    told = [
        f"{many[action]} {past}"
        for action, past in _PAST.items()
        if many[action] and action is not Action.VERIFY
    ]
    if not told and many[Action.VERIFY]:
        return f"{many[Action.VERIFY]} groups verified"
    return ", ".join(told)


@dataclass(frozen=True)
class Planned:
    """The plan is made; apply starts."""

    plan: Plan


@dataclass(frozen=True)
class Started:
    """A change has begun (its intent is on disk)."""

    change: Change


@dataclass(frozen=True)
class Progressed:
    """A running change says what it waits for."""

    change: Change
    text: str


@dataclass(frozen=True)
class Finished:
    """A change ended (its outcome is on disk), or will never start."""

    result: Result


@dataclass(frozen=True)
class Noted:
    """Something worth knowing that is no change."""

    text: str


@dataclass(frozen=True)
class Closed:
    """The last event."""

    report: Report


Event = Planned | Started | Progressed | Finished | Noted | Closed
Sink = Callable[[Event], None]  # called from one thread at a time, in order


def as_json(event: Event) -> Mapping[str, Any]:
    """One event as plain data, for a line of ``--json``."""
    name = type(event).__name__.lower()
    match event:
        case Planned(plan):
            return {"event": name, "changes": [_brief(change) for change in plan.changes]}
        case Started(change):
            return {"event": name, **_brief(change)}
        case Progressed(change, text):
            return {"event": name, "id": change.id, "text": text}
        case Finished(result):
            facts = {key: value for key, value in asdict(result).items() if key != "change"}
            return {"event": name, **_brief(result.change), **facts}
        case Noted(text):
            return {"event": name, "text": text}
        case Closed(report):
            many = Counter(str(result.ended) for result in report.results)
            return {
                "event": name, "summary": report.summary, "exit_code": report.exit_code,
                "seconds": round(report.seconds, 3), "results": dict(many),
            }  # fmt: skip


def _brief(change: Change) -> dict[str, Any]:
    return {"id": change.id, "action": str(change.action), "object": change.object, "group": change.group,
            "reason": change.reason}  # fmt: skip
