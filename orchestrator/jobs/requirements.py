"""What a job needs of a resource: JDL → conditions, and the ad of its task class. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.classads import Ad, Expression, quote
from orchestrator.jobs.model import KIND
from orchestrator.units import format_duration, format_size

METHODS = ("torrent", "http", "cvmfs")  # how a resource may install a package it lacks
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Condition:
    """One requirement: in the user's words, and as a ClassAd expression over ``other``."""

    text: str
    expression: str

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def conditions(attributes: Mapping[str, Any], requirements: str) -> list[Condition]:
    """All that a resource must fulfil to run a job with these attributes and the user's requirements."""
    found = [Condition("it is a worker", 'other.Type == "machine"')]
    installable = " || ".join(f'member("{method}", other.InstallMethods)' for method in METHODS)
    for package in attributes.get("Packages", ()):
        text = f"package {package} is installed or can be"
        found.append(Condition(text, f"member({quote(package)}, other.Packages) || {installable}"))
    ttl, cores = int(attributes["TTL"]), int(attributes["CPUCores"])
    memory, disk = int(attributes["MemorySize"]), int(attributes["WorkDirectorySize"])
    found += [
        Condition(f"{format_duration(ttl)} left (TTL)", f"other.TTL >= {ttl}"),
        Condition(f"{cores} cores (CPUCores)", f"other.Cores >= {cores}"),
        Condition(f"{format_size(memory)} of memory (MemorySize)", f"other.Memory >= {memory}"),
        Condition(f"{format_size(disk)} of disk (WorkDirectorySize)", f"other.Disk >= {disk}"),
    ]
    if requirements:
        found.append(Condition(f"Requirements = {requirements}", requirements))
    return found


def task_ad(attributes: Mapping[str, Any], user: str, requirements: str) -> Ad:
    """The ad of all jobs that look the same to every resource.

    It holds what resources ask about (Type, User, limits, packages, JobTag) and the attributes that
    the user's own requirements name; arguments, files and the like would only make more classes.
    """
    names = ["TTL", "CPUCores", "MemorySize", "WorkDirectorySize", "Packages", "JobTag"]
    asked = {word.lower() for word in _IDENTIFIER.findall(requirements)}
    names += [name for name in attributes if name.lower() in asked and name not in names]
    values = {name: attributes[name] for name in names if name in attributes}
    everything = " && ".join(f"({each.expression})" for each in conditions(attributes, requirements))
    return Ad(values | {"Type": KIND, "User": user, "Requirements": Expression(everything)})
