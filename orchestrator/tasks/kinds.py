"""What the task manager must know of a kind of task (job, transfer): its life table and one hook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from orchestrator.tasks.model import Json, Report

if TYPE_CHECKING:  # decide, which is pure, needs this module
    from orchestrator.runtime.sql import Connection, Row

WAITING, ASSIGNED = "WAITING", "ASSIGNED"  # every kind has these two; the claim statement names them
KILLED = "KILLED"  # and this one, which can be reached from every state that is not final


@dataclass(frozen=True)
class Task:
    """One row of grid.task, or of its archive."""

    id: int
    kind: str
    parent: int | None
    owner: str
    state: str
    priority: float
    attempt: int
    max_attempts: int
    task_class: int | None
    spec: Json
    resource: str
    site: str
    seq: int
    submitted: float
    changed: float
    reason: str
    result: Json
    archived: bool = False

    @classmethod
    def of(cls, row: Row) -> Self:
        """The task of a row of ``SELECT *``."""
        plain: dict[str, Any] = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        times = {name: row[name].timestamp() for name in ("submitted", "changed")}
        return cls(**plain | times, task_class=row["class"])


class Given(NamedTuple):
    """Of a task that was just given to a resource: what its assignment says, as ``claim`` and ``claimed`` return it."""

    id: int
    attempt: int
    kind: str
    owner: str
    spec: Json
    changed: float  # seconds since the epoch: when it was given


@dataclass(frozen=True)
class Patience:
    """How long the manager waits for a resource, in seconds."""

    acknowledge: float = 15.0  # ASSIGNED, and nothing was heard of the agent
    silence: float = 12.0  # running, and no heartbeat: ZOMBIE
    grace: float = 5.0  # ZOMBIE, and still nothing: EXPIRED, another attempt
    waiting: float = 7 * 86400.0  # WAITING, and no resource came
    wide: float = 600.0  # so long a class of many cores goes before older ones of few, on resources of many


class Kind(Protocol):
    """A kind of task. The tables are data; ``on_move`` is the only code the manager calls."""

    @property
    def name(self) -> str: ...
    @property
    def life(self) -> Mapping[str, frozenset[str]]: ...
    @property
    def active(self) -> frozenset[str]:
        """States in which an attempt is with a resource and must beat; ASSIGNED is one."""
        ...

    @property
    def reportable(self) -> frozenset[str]:
        """States that a resource may report; WAITING means preempted."""
        ...

    @property
    def silent(self) -> str: ...  # beats stopped
    @property
    def lost(self) -> str: ...  # beats stopped for too long
    @property
    def never_started(self) -> str: ...  # no attempt left, none of them began
    @property
    def overwaited(self) -> str: ...  # no resource came in time
    @property
    def refused(self) -> Mapping[str, str]:
        """State to go to when ``on_move`` refuses the reported one (outputs could not be booked); else that one."""
        ...

    def payload(self, spec: Json) -> Json:
        """The ``jdl`` of an assignment, from the task's ``spec``."""
        ...

    def lifetime(self, spec: Json) -> float:
        """Seconds one attempt may last: how long its token is good."""
        ...

    async def on_move(self, connection: Connection, task: Task, report: Report | None) -> None:
        """Called in the transaction of every move, after it. UserError or PermanentError refuses the move."""
        ...
