"""The words of the deploy plane: life cycle of a machine, what the ledger knows, the ports it uses. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from orchestrator.configure.model import Configurator, Outcome, Target
from orchestrator.providers.base import Machine, Offering
from orchestrator.states import Table

__all__ = [
    "PROGRESS", "STAGES", "Action", "Configurator", "Decision", "Failure", "HasHealths", "HasJobs", "Health", "Intent", "IntentState", "Outcome",
    "Override", "Record", "Stage", "Target", "Workload", "World",
]  # fmt: skip


class Action(StrEnum):
    """What one change does."""

    CREATE = "create"  # make it, or start it again when it is stopped
    CONFIGURE = "configure"
    VERIFY = "verify"  # of a group: wait until its machines do their work
    REPLACE = "replace"
    DESTROY = "destroy"
    DRAIN = "drain"
    UNDRAIN = "undrain"  # it takes tasks again
    ADOPT = "adopt"  # it exists and is wanted: wait until it runs, and record it as ours
    NONE = "none"  # told, not done


class Stage(StrEnum):
    """How far the deploy plane is with a machine (the provider's own word is MachineState)."""

    CREATING = "creating"
    CREATED = "created"
    CONFIGURING = "configuring"
    CONFIGURED = "configured"
    READY = "ready"
    DRAINING = "draining"
    DRAINED = "drained"
    DESTROYING = "destroying"
    GONE = "gone"
    FAILED = "failed"


# Every stage may begin anything again, since a crash may have cut it short anywhere.
_BEGIN = frozenset(
    {Stage.CREATING, Stage.CONFIGURING, Stage.DRAINING, Stage.DESTROYING, Stage.FAILED, Stage.READY}
)
STAGES: Table[Stage] = {
    Stage.CREATING: _BEGIN - {Stage.READY} | {Stage.CREATED, Stage.GONE},
    Stage.CREATED: _BEGIN | {Stage.GONE},
    Stage.CONFIGURING: _BEGIN - {Stage.READY} | {Stage.CONFIGURED, Stage.GONE},
    Stage.CONFIGURED: _BEGIN | {Stage.GONE},
    Stage.READY: _BEGIN | {Stage.GONE},
    Stage.DRAINING: _BEGIN | {Stage.DRAINED, Stage.GONE},
    Stage.DRAINED: _BEGIN | {Stage.GONE},
    Stage.DESTROYING: frozenset({Stage.DESTROYING, Stage.CREATING, Stage.CREATED, Stage.GONE, Stage.FAILED}),
    Stage.FAILED: _BEGIN | {Stage.CREATED, Stage.GONE},
    Stage.GONE: frozenset({Stage.CREATING}),
}

# action → (stage while it runs, stage after it went well)
PROGRESS: Mapping[Action, tuple[Stage, Stage]] = {
    Action.CREATE: (Stage.CREATING, Stage.CREATED),
    Action.ADOPT: (Stage.CREATING, Stage.CREATED),
    Action.REPLACE: (Stage.DESTROYING, Stage.CREATED),
    Action.CONFIGURE: (Stage.CONFIGURING, Stage.CONFIGURED),
    Action.DRAIN: (Stage.DRAINING, Stage.DRAINED),
    Action.UNDRAIN: (Stage.DRAINING, Stage.READY),
    Action.DESTROY: (Stage.DESTROYING, Stage.GONE),
}


@dataclass(frozen=True)
class Record:
    """What the ledger knows of a machine of ours."""

    name: str
    group: str
    role: str
    provider: str
    stage: Stage
    at: float  # seconds since the epoch of the last move


class IntentState(StrEnum):
    """``open`` before the side effect; one of the others after it."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # stopped by Ctrl-C or found open after a crash; the world was asked


@dataclass(frozen=True)
class Intent:
    """One side effect, written before it is made."""

    id: int
    epoch: int
    action: Action
    object: str
    group: str
    role: str
    provider: str
    state: IntentState
    reason: str
    opened: float
    closed: float | None = None
    error: str = ""
    keep_data: bool = False


@dataclass(frozen=True)
class Decision:
    """What was decided, when and why."""

    at: float
    object: str
    group: str
    action: Action
    reason: str


@dataclass(frozen=True)
class Failure:
    """A making of a machine that failed, and no later one of it went well."""

    object: str
    provider: str
    place: str  # zone or host, "" when it is not known


@dataclass(frozen=True)
class Override:
    """A count set by ``scale``. It lapses when the site spec's own count is edited (``base`` differs)."""

    count: int
    base: int


@dataclass(frozen=True)
class Health:
    """Whether a machine does its work; ``what`` says what was seen or is missing.

    ``warning``: what the admin should know although it works.
    """

    ok: bool
    what: str = ""
    warning: str = ""


class Workload(Protocol):
    """The grid as the deploy plane sees it. Calls are safe from several threads and return within seconds."""

    def healthy(self, machine: Machine) -> Health:
        """Central: the broker answers; VO box: its CE is registered; worker: an agent has asked for work."""
        ...

    def jobs_on(self, machine: Machine) -> Sequence[int]:
        """Tasks that run on the machine now."""
        ...

    def drain(self, machine: Machine) -> None:
        """No new task starts on the machine from now on; running ones go on. Idempotent."""
        ...

    def undrain(self, machine: Machine) -> None:
        """The machine takes tasks again. Idempotent."""
        ...


@runtime_checkable
class HasHealths(Protocol):
    """A workload that answers for many machines by one question; those it leaves out are asked alone."""

    def healths(self, machines: Sequence[Machine]) -> Mapping[str, Health]: ...


@runtime_checkable
class HasJobs(Protocol):
    """A workload that tells the running tasks of many machines by one question; unknown counts as none."""

    def jobs_of(self, machines: Sequence[Machine]) -> Mapping[str, Sequence[int]]: ...


@dataclass(frozen=True)
class World:
    """Everything ``decide`` may look at, as it was at ``now``."""

    now: float
    machines: tuple[Machine, ...] = ()
    records: Mapping[str, Record] = field(default_factory=dict)
    open: tuple[Intent, ...] = ()
    overrides: Mapping[str, Override] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)  # pet → digest it should have
    health: Mapping[str, Health] = field(default_factory=dict)  # machines that were asked
    jobs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # machine → running tasks
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (action, role) → usual duration
    failures: tuple[Failure, ...] = ()
    offerings: Mapping[str, Mapping[str, Offering]] = field(default_factory=dict)  # by provider

    @property
    def unmade(self) -> tuple[Failure, ...]:
        """Failed makings of machines that were not seen working since: one may have come late."""
        well = {name for name, health in self.health.items() if health.ok}
        well |= {name for name, record in self.records.items() if record.stage is Stage.READY}
        return tuple(failure for failure in self.failures if failure.object not in well)
