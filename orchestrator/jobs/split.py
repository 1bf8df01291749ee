"""Splitting a master job into parts. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import UserError

Json = dict[str, Any]
MOST_PARTS = 100_000
_PATTERN = re.compile(r"#alien_(counter|split)(?:_(\d*)i)?#")
_PATTERNED = ("Arguments", "OutputDir", "OutputFile", "OutputArchive")
_MASTER_ONLY = (
    "Split",
    "SplitArguments",
    "SplitMaxInputFileNumber",
    "SplitMaxInputFileSize",
    "Merge",
    "MergeOutputDir",
    "MaxFailFraction",
    "MaxResubmitFraction",
)


@dataclass(frozen=True)
class Part:
    """One part before patterns are filled: its number, what it was split by, attributes of its own."""

    counter: int
    value: str
    changes: Json = field(default_factory=dict)


def _production(argument: str, _: Mapping[str, Any]) -> list[Part]:
    found = re.fullmatch(r"(\d+)-(\d+)", argument.strip())
    if found is None or int(found[1]) > int(found[2]):
        raise UserError(f'Split = "production:{argument}" must be "production:A-B" with A not above B')
    first, last = int(found[1]), int(found[2])
    if last - first + 1 > MOST_PARTS:
        raise UserError(f"{last - first + 1} parts are too many; at most {MOST_PARTS}")
    return [Part(number, str(number)) for number in range(first, last + 1)]


Mode = Callable[[str, Mapping[str, Any]], list[Part]]
MODES: Mapping[str, Mode] = {"production": _production}


def parts(attributes: Mapping[str, Any]) -> list[Json]:
    """The attributes of every part of a job that asks for Split; ``Counter`` is its number.

    UserError when the mode is unknown, nothing comes of it, or two parts would write the same file.
    """
    mode, _, argument = str(attributes["Split"]).partition(":")
    if mode.strip().lower() not in MODES:
        raise UserError(f"Split mode {mode!r} is unknown; there are {', '.join(sorted(MODES))}")
    made = MODES[mode.strip().lower()](argument, attributes)
    if not made:
        raise UserError(f'Split = "{attributes["Split"]}" makes no part')
    found = [_part(attributes, each) for each in made]
    _no_collision(found)
    return found


def _part(master: Mapping[str, Any], part: Part) -> Json:
    own = {name: value for name, value in master.items() if name not in _MASTER_ONLY} | part.changes
    extra = str(master.get("SplitArguments", ""))
    if extra:
        own["Arguments"] = f"{own.get('Arguments', '')} {extra}".strip()
    for name in _PATTERNED:
        if name in own:
            own[name] = filled(own[name], part.counter, part.value)
    return own | {"Counter": part.counter}


def filled(value: Any, counter: int, split: str) -> Any:
    """``#alien_counter#``, ``#alien_counter_03i#`` (padded) and ``#alien_split#`` replaced."""
    if isinstance(value, list):
        return [filled(each, counter, split) for each in value]

    def one(found: re.Match[str]) -> str:
        if found[1] == "split":
            return split
        width = found[2] or ""
        return f"{counter:{'0' if width.startswith('0') else ''}{int(width or 0) or ''}d}"

    return _PATTERN.sub(one, value) if isinstance(value, str) else value


def _no_collision(found: list[Json]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for part in found:
        for name in part.get("OutputFile", ()) if "OutputDir" in part else ():
            place = (part["OutputDir"], name.partition("@")[0])
            if place in seen:
                raise UserError(
                    f"parts {seen[place]} and {part['Counter']} would both write {'/'.join(place)}; "
                    "put #alien_counter_03i# into OutputDir"
                )
            seen[place] = part["Counter"]
