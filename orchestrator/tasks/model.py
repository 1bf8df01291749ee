"""What travels between manager, broker, ClusterMonitor and agent. No heavy imports: the agent carries this.

Every value is a frozen dataclass with ``to_json`` (plain JSON values) and ``from_json`` (UserError
when the value has not that shape). Times are seconds since the epoch by the server's clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeVar, cast

from orchestrator.catalogue.model import Output
from orchestrator.errors import UserError

Json = dict[str, Any]
T = TypeVar("T")
__all__ = ["Assignment", "Beat", "Claimed", "Command", "Output", "Report", "ReportResult"]
KILL, PEEK, PREEMPT = "kill", "peek", "preempt"


def value_of(data: Any, name: str, kind: type[T], what: str, default: T | None = None) -> T:
    """``data[name]`` of type ``kind`` (an int passes as a float); UserError names what is wrong."""
    if not isinstance(data, Mapping):
        raise UserError(f"a {what} must be a JSON object, not {type(data).__name__}")
    found = data.get(name, default)
    if kind is float and isinstance(found, int) and not isinstance(found, bool):
        return cast(T, float(found))
    wrong = (kind is int and isinstance(found, bool)) or (
        isinstance(found, int | float) and not -(2**63) < found < 2**63  # NaN and infinity are not
    )
    if wrong or not isinstance(found, kind):
        given = "is missing" if found is None else f"is {found!r}"
        raise UserError(f"{name} of a {what} must be of type {kind.__name__}, but it {given}", field=name)
    return found


def storable(value: Any) -> Any:
    """``value`` as PostgreSQL's JSON can hold it: no NUL, no lone surrogate, no NaN or infinity."""
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(name): storable(each) for name, each in value.items()}
    return [storable(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Assignment:
    """One attempt at a task, given to a resource. ``jdl`` is read with the kind's own model (jobs.model.Payload)."""

    task: int
    attempt: int
    kind: str
    jdl: Json
    token: str  # acts for the task's owner, for this attempt only
    user: str
    site: str
    deadline: float  # without a report or beat before this the task is given to somebody else

    def to_json(self) -> Json:
        return dict(
            vars(self)
        )  # not asdict: all of it is plain, and copying it deeply takes longer than the rest

    @classmethod
    def from_json(cls, data: Any) -> Self:
        what = "assignment"
        return cls(
            value_of(data, "task", int, what),
            value_of(data, "attempt", int, what),
            value_of(data, "kind", str, what),
            dict(value_of(data, "jdl", dict, what)),
            value_of(data, "token", str, what),
            value_of(data, "user", str, what),
            value_of(data, "site", str, what),
            value_of(data, "deadline", float, what),
        )


@dataclass(frozen=True)
class Claimed:
    """The broker's answer: what to do now, or how many seconds to wait before asking again."""

    tasks: tuple[Assignment, ...] = ()
    retry_in: float = 0.0

    def to_json(self) -> Json:
        return {"tasks": [task.to_json() for task in self.tasks], "retry_in": self.retry_in}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        tasks = value_of(data, "tasks", list, "claim's answer")
        retry_in = value_of(data, "retry_in", float, "claim's answer", 0.0)
        return cls(tuple(Assignment.from_json(task) for task in tasks), retry_in)


@dataclass(frozen=True)
class Report:
    """A resource says: this attempt has moved to the state ``to``.

    Reporting the same move twice is harmless. ``facts`` go into the task's result (exit code, host,
    usage); ``outputs`` are booked in the transaction that makes the move.
    """

    task: int
    attempt: int
    to: str
    reason: str = ""
    facts: Json = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()

    def to_json(self) -> Json:
        return asdict(self) | {"outputs": [output.to_json() for output in self.outputs]}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        what = "report"
        return cls(
            value_of(data, "task", int, what),
            value_of(data, "attempt", int, what),
            value_of(data, "to", str, what),
            value_of(data, "reason", str, what, ""),
            dict(value_of(data, "facts", dict, what, {})),
            tuple(list_of(data, "outputs", Output)) if "outputs" in data else (),
        )


@dataclass(frozen=True)
class ReportResult:
    """The manager's verdict. Not accepted means: another attempt owns the task, or the move is illegal; stop it."""

    task: int
    accepted: bool
    why: str  # empty when accepted
    state: str  # what the task's state is now

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        what = "report's result"
        return cls(
            value_of(data, "task", int, what),
            value_of(data, "accepted", bool, what),
            value_of(data, "why", str, what, ""),
            value_of(data, "state", str, what, ""),
        )


@dataclass(frozen=True)
class Beat:
    """The attempt lives. ``usage``: cpu (s), wall (s), memory (bytes), disk (bytes), as far as known."""

    task: int
    attempt: int
    usage: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        numbers = value_of(data, "task", int, "beat"), value_of(data, "attempt", int, "beat")
        return cls(*numbers, dict(value_of(data, "usage", dict, "beat", {})))


@dataclass(frozen=True)
class Command:
    """What the agent that runs (task, attempt) shall do: ``kill``, ``peek`` or ``preempt``."""

    id: int
    task: int
    attempt: int
    verb: str
    facts: Json = field(default_factory=dict)

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        what = "command"
        return cls(
            value_of(data, "id", int, what),
            value_of(data, "task", int, what),
            value_of(data, "attempt", int, what),
            value_of(data, "verb", str, what),
            dict(value_of(data, "facts", dict, what, {})),
        )


def list_of(data: Any, name: str, kind: type[T], most: int = 10_000) -> list[T]:
    """``data[name]`` as a list of ``kind`` (a dataclass with from_json), at most ``most`` of them."""
    values: Sequence[Any] = value_of(data, name, list, "request")
    if len(values) > most:
        raise UserError(f"{name} has {len(values)} elements; send at most {most} in one request")
    if wrong := [each for each in values if not isinstance(each, dict)]:
        raise UserError(f"{name} must hold JSON objects, not {wrong[0]!r:.40}")
    return [cast(Any, kind).from_json(each) for each in values]
