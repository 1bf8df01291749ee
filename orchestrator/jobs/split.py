"""Splitting a master job into parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from orchestrator.catalogue.model import Placed
from orchestrator.errors import UserError
from orchestrator.jobs import patterns
from orchestrator.jobs.attributes import checked
from orchestrator.jobs.modes import MOST_PARTS, Group, Mode, groups, how_many, lfn_of, mode_of

Json = dict[str, Any]
MOST_TEXT = 512 << 20  # characters of the JDLs of all parts
MOST_NAMES = 100_000  # that are filled into one part
LONGEST = 100_000  # characters of a filled attribute: the kernel takes no longer argument
CHECKED = 100  # parts by which a submission is judged; the optimizer judges them all
_WORK = 512  # characters that a name to fill in counts: the time of a replacement is bounded with the text
_PATTERNED = ("Arguments", "OutputDir", "OutputFile", "OutputArchive")
_MASTER_ONLY = frozenset(
    {"Split", "SplitArguments", "SplitDefinitions", "SplitMaxInputFileNumber", "SplitMaxInputFileSize",
     "EventsPerJob", "InputDataCollection", "Merge", "MergeOutputDir", "MaxFailFraction", "MaxResubmitFraction"}
)  # fmt: skip


def check(attributes: Mapping[str, Any]) -> None:
    """UserError for what can be known to be wrong before the input files are looked up."""
    mode = mode_of(str(attributes["Split"]))
    if not mode.by_input:
        parts(attributes, most=CHECKED)
    elif not attributes.get("InputData") and not attributes.get("InputDataCollection"):
        raise UserError(f'"{mode.name}" wants files in InputData or InputDataCollection')


def parts(
    attributes: Mapping[str, Any],
    placed: Mapping[str, Placed] | None = None,
    sites: Mapping[str, str] | None = None,
    most: int | None = None,
) -> list[Json]:
    """The attributes of every part of a job that asks for Split; ``Counter`` is its number, without gaps.

    ``placed``: what the catalogue knows of each LFN of InputData; ``sites``: the site of each storage
    element; ``most``: stop after so many parts. Each group of the mode makes one part for each of SplitArguments, which are appended to
    Arguments. Numbers begin with 1 (``production:A-B``: with A). Two keys are no attributes:
    ``Requirements`` is a part's own expression (userdefined), ``InputSites`` where it must run (ce).

    UserError when the mode is unknown, nothing or too much comes of it, or two parts would write the same file.
    """
    mode = mode_of(str(attributes["Split"]))
    common = {name: value for name, value in attributes.items() if name not in _MASTER_ONLY}
    found: list[Json] = []
    own = (*_PATTERNED, "InputData")
    each = len(str({name: value for name, value in common.items() if name not in own}))
    size = 0
    made = islice(_each(mode, attributes, placed, sites), most)
    for counter, (group, extra) in enumerate(made, _first(mode)):
        part, work = _part(common, group, extra, counter)
        found.append(part)
        size += each + work * _WORK + sum(len(str(part.get(name, ""))) for name in own)
        _bounded(len(found), size)
    if not found:
        raise UserError(f'Split = "{attributes["Split"]}" makes no part')
    if most is not None and (count := how_many(mode, attributes) * len(_extras(attributes))) > len(found):
        _bounded(count, size * count // len(found))
    _no_collision(found)
    return found


def _bounded(count: int, size: int) -> None:
    if count > MOST_PARTS:
        raise UserError(f"more than {MOST_PARTS} parts are too many")
    if size > MOST_TEXT:
        raise UserError(
            f"its parts have more than {MOST_TEXT >> 20} MiB of JDL together; make less of it common"
        )


def lfns(attributes: Mapping[str, Any]) -> list[str]:
    """The LFNs of InputData."""
    return [lfn_of(text) for text in attributes.get("InputData", ())]


def _first(mode: Mode) -> int:
    return mode.span[0] if mode.span is not None and mode.name == "production" else 1


def _each(
    mode: Mode,
    attributes: Mapping[str, Any],
    placed: Mapping[str, Placed] | None,
    sites: Mapping[str, str] | None,
) -> Iterator[tuple[Group, str]]:
    for group in groups(mode, attributes, placed or {}, sites or {}):
        for extra in _extras(attributes):
            yield group, extra


def _extras(attributes: Mapping[str, Any]) -> list[str]:
    given = attributes.get("SplitArguments") or [""]
    return [given] if isinstance(given, str) else given


def _part(common: Mapping[str, Any], group: Group, extra: str, counter: int) -> tuple[Json, int]:
    """One part, and how many names were filled in."""
    own = dict(common) | (group.definition or {})
    if group.files:
        own["InputData"] = list(group.files)
    if group.events:
        own["FirstEvent"], own["LastEvent"] = group.events
    if group.sites:
        own["InputSites"] = list(group.sites)
    if extra:
        own["Arguments"] = f"{own.get('Arguments', '')} {extra}".strip()
    facts = patterns.Facts(counter, group.value, lfns(own), group.events)
    works = {name: patterns.work(own.get(name), len(facts.files)) for name in _PATTERNED}
    if (work := sum(works.values())) > MOST_NAMES:
        raise UserError(f"part {counter} has {work} names to fill in; at most {MOST_NAMES} are possible")
    for name in _PATTERNED:
        if works[name]:
            before = len(str(own[name]))
            if name == "Arguments":
                own[name] = patterns.filled_words(own[name], facts)
            else:
                own[name] = checked(name, patterns.filled(own[name], facts))
            if len(str(own[name])) > max(LONGEST, before):
                raise UserError(
                    f"{name} of part {counter} has more than {LONGEST} characters; "
                    "a payload finds the LFNs of its input data in InputData.txt"
                )
    return own | {"Counter": counter}, work


def _no_collision(found: list[Json]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for part in found:
        names = [name.partition("@")[0] for name in part.get("OutputFile", ())]
        names += [archive.partition(":")[0] for archive in part.get("OutputArchive", ())]
        for name in names if "OutputDir" in part else ():
            place = (part["OutputDir"], name)
            if seen.setdefault(place, part["Counter"]) != part["Counter"]:
                raise UserError(
                    f"parts {seen[place]} and {part['Counter']} would both write {'/'.join(place)}; "
                    "put #alien_counter_03i# into OutputDir"
                )
