"""Which merge jobs a finished master needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UserError
from orchestrator.jobs.jdl import Defaults, read

Json = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """``<file of the parts>:<LFN of a JDL>:<file to make>``."""

    file: str
    jdl: str
    output: str


@dataclass(frozen=True)
class Finished:
    """A part that succeeded: its number and the LFNs of its outputs."""

    counter: int
    lfns: tuple[str, ...]


def rules(attributes: Mapping[str, Any]) -> list[Rule]:
    """The rules of a master's Merge attribute (none: an empty list)."""
    return [Rule(*text.split(":")) for text in attributes.get("Merge", ())]


def output_dir(attributes: Mapping[str, Any], fallback: str) -> str:
    """MergeOutputDir; else the parts' OutputDir up to the first directory that differs among them; else ``fallback``."""
    if "MergeOutputDir" in attributes:
        return str(attributes["MergeOutputDir"])
    common = []
    for name in str(attributes.get("OutputDir") or fallback).split("/"):
        if "#" in name:
            break
        common.append(name)
    return "/".join(common) if len(common) > 1 else fallback


def jobs(
    attributes: Mapping[str, Any],
    jdls: Mapping[str, str],
    finished: Sequence[Finished],
    directory: str,
    defaults: Defaults,
) -> list[tuple[Json, str]]:
    """(attributes, requirements) of one merge job per rule.

    Its inputs are all parts' files of the rule's name, placed under ``<number of the part, three
    digits>/<file>``, in order. UserError when a JDL is wrong or no part has such a file.
    """
    made = []
    for rule in rules(attributes):
        spec = read(jdls[rule.jdl], [], defaults)
        if "Split" in spec.attributes:
            raise UserError(f"{rule.jdl}: a merge job cannot ask for Split")
        inputs = [
            {"lfn": lfn, "name": f"{part.counter:03d}/{rule.file}"}
            for part in sorted(finished, key=lambda each: each.counter)
            for lfn in part.lfns
            if lfn.rpartition("/")[2] == rule.file
        ]
        if not inputs:
            raise UserError(f"no part has an output named {rule.file}, which Merge wants")
        own = dict(spec.attributes)
        own["InputData"] = [each["lfn"] for each in inputs]
        own["Inputs"] = inputs
        own["OutputFile"] = [rule.output]
        own["OutputDir"] = directory
        made.append((own, spec.requirements))
    return made
