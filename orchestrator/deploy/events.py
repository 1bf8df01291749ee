"""What happens while a plan is made and applied, as data: the live view and ``--json`` are made of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.report import Report, Result


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
                "troubles": [asdict(trouble) for trouble in report.troubles],
            }  # fmt: skip


def _brief(change: Change) -> dict[str, Any]:
    return {"id": change.id, "action": str(change.action), "object": change.object, "group": change.group,
            "reason": change.reason}  # fmt: skip
