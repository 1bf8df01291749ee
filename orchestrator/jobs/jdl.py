"""JDL text → a validated job. Pure; all problems at once, each with its line and column."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.classads import Attribute, Expression, Problem, parse, refuse
from orchestrator.jobs.attributes import BY_LOWER, bounded, converted, replaced, spelled, typed

__all__ = ["Defaults", "JobSpec", "bounded", "converted", "read", "replaced", "spelled"]
Json = dict[str, Any]


@dataclass(frozen=True)
class Defaults:
    """What the VO gives to a job that does not ask. Sizes in bytes, times in seconds."""

    vo: str
    ttl: int = 21_600
    memory_per_core: int = 2 * 1024**3
    disk: int = 2 * 1024**3
    waiting: int = 7 * 86_400


@dataclass(frozen=True)
class JobSpec:
    """A valid job: attributes in AliEn's spelling and of their proper types, and what the user should know."""

    attributes: Json
    requirements: str  # the user's own, "" when there are none
    warnings: tuple[str, ...] = ()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # line and column of each attribute


def read(text: str, arguments: Sequence[str], defaults: Defaults) -> JobSpec:
    """The job of ``text`` with ``$1..$n`` replaced by ``arguments``; UserError names every problem."""
    bounded(text, arguments)
    values, places, problems = parse(text)
    readable = not problems
    attributes, wrong, unknown = typed(values, places, arguments)
    problems += wrong
    exported = {name.lower() for name in attributes.get("JDLVariables", ())}
    warnings = [_unknown(place) for place in unknown if place.name.lower() not in exported]
    if readable and not any(name.lower() == "executable" for name in places):
        problems.append(Problem(1, 1, 'Executable is missing; add for example Executable = "/bin/echo";'))
    elif attributes.get("Executable") == "":
        problems.append(Problem(1, 1, "Executable is empty"))
    if problems:
        raise refuse(problems)
    requirements = attributes.pop("Requirements", None)
    cores = attributes.setdefault("CPUCores", 1)
    attributes.setdefault("Arguments", "")
    attributes.setdefault("TTL", defaults.ttl)
    attributes.setdefault("Price", 1.0)
    attributes.setdefault("MemorySize", defaults.memory_per_core * cores)
    attributes.setdefault("WorkDirectorySize", defaults.disk)
    attributes.setdefault("OutputFile", ["stdout", "stderr"])
    attributes.setdefault("OutputErrorE", ["stdout", "stderr"])
    attributes.setdefault("MaxWaitingTime", defaults.waiting)
    own = requirements.text if isinstance(requirements, Expression) else ""
    where = {spelled(name): (at.line, at.column) for name, at in places.items()}
    return JobSpec(attributes, own, tuple(warnings), where)


def _unknown(place: Attribute) -> str:
    near = difflib.get_close_matches(place.name.lower(), BY_LOWER, n=1, cutoff=0.75)
    hint = f"; did you mean {BY_LOWER[near[0]]}?" if near else "; it is kept, but nothing uses it"
    return f"{place.line}:{place.column}: {place.name} is not a JDL attribute{hint}"
