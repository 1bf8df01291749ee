"""What a job needs of a resource: JDL → conditions, and the ad of its task class. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.catalogue.model import Placed
from orchestrator.classads import Ad, Expression, quote
from orchestrator.jobs.model import KIND
from orchestrator.units import format_duration, format_size

METHODS = ("torrent", "http", "cvmfs")  # how a resource may install a package it lacks
MOST_SES = 50  # named by one condition: the ClassAd library evaluates no chain of hundreds
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Condition:
    """One requirement: in the user's words, and as a ClassAd expression over ``other``."""

    text: str
    expression: str

    def to_json(self) -> dict[str, str]:
        return {"text": self.text, "expression": self.expression}


def near(files: Sequence[Placed], sites: Sequence[str] = ()) -> Condition | None:
    """Where a job may run for its input data: near a storage element that holds all of it.

    When none holds all, near those that hold the most bytes; the rest is read from afar. Files without a
    copy do not count. ``sites``: those that hold it all (Split = "ce"), then the job runs at one of them.
    None when it may run anywhere.
    """
    kept = [file for file in files if file.ses]
    size = sum(file.size for file in kept)
    what = f"its input data ({len(files)} file{'s' if len(files) != 1 else ''}, {format_size(size)})"
    if sites:
        alternatives = " || ".join(f"other.Site == {quote(site)}" for site in sites[:MOST_SES])
        return Condition(f"at {' or '.join(sites[:MOST_SES])}, which has {what}", alternatives)
    if not kept:
        return None
    everywhere = set[str](kept[0].ses).intersection(*(file.ses for file in kept))
    if everywhere:
        best, share = sorted(everywhere)[:MOST_SES], what
    else:
        bytes_at = Counter[str]()
        for file in kept:
            bytes_at.update(dict.fromkeys(file.ses, file.size))
        most = max(bytes_at.values())
        best = sorted(se for se, held in bytes_at.items() if held == most)[:MOST_SES]
        share = f"the most of {what}: {format_size(most)}; none holds all"
    alternatives = " || ".join(f"member({quote(se)}, other.CloseSE)" for se in best)
    return Condition(f"near {' or '.join(best)} (CloseSE), which holds {share}", alternatives)


def equipped(package: str) -> Condition:
    """The resource has the package, or can get it."""
    installable = " || ".join(f'member("{method}", other.InstallMethods)' for method in METHODS)
    return Condition(
        f"package {package} is installed or can be",
        f"member({quote(package)}, other.Packages) || {installable}",
    )


def conditions(
    attributes: Mapping[str, Any], requirements: str, close: Condition | None = None
) -> list[Condition]:
    """All that a resource must fulfil to run a job with these attributes and the user's requirements.

    ``close``: what ``near`` says of its input data.
    """
    found = [Condition("it is a worker", 'other.Type == "machine"')]
    if close is not None:
        found.append(close)
    found += [equipped(package) for package in attributes.get("Packages", ())]
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


def class_values(attributes: Mapping[str, Any], requirements: str) -> dict[str, Any]:
    """The attributes that a task class keeps.

    What resources ask about (limits, packages, JobTag) and what the user's own requirements name;
    arguments, files and the like would only make more classes.
    """
    names = ["TTL", "CPUCores", "MemorySize", "WorkDirectorySize", "Packages", "JobTag"]
    asked = {word.lower() for word in _IDENTIFIER.findall(requirements)}
    names += [name for name in attributes if name.lower() in asked and name not in names]
    return {name: attributes[name] for name in names if name in attributes}


def task_ad(
    attributes: Mapping[str, Any], user: str, requirements: str, close: Condition | None = None
) -> Ad:
    """The ad of all jobs that look the same to every resource."""
    told = conditions(attributes, requirements, close)
    everything = " && ".join(f"({each.expression})" for each in told)
    values = class_values(attributes, requirements)
    return Ad(values | {"Type": KIND, "User": user, "Requirements": Expression(everything)})
