"""How a master is cut into groups, one function for each mode of ``Split``. Pure.

=====================  ========================================================================================
``production:A-B``     a part for each number from A to B
``event:A-B``          parts of ``EventsPerJob`` events each, the last one of what is left (``entries:A-B`` too)
``file``               a part for each input file
``directory``          the files of one directory together
``parentdirectory``    the files of all directories with the same parent together
``event``              the files whose directories have the same name (AliEn: the event's number) together
``se``                 the files with copies on exactly the same storage elements together
``ce``                 the files that exactly the same sites hold together; their part runs at one of these sites,
                       since a CE is close to the storage of its own site
``userdefined``        a part for each JDL of ``SplitDefinitions``; what one does not say, the master says
=====================  ========================================================================================

Groups of files come in the order of their first file. ``SplitMaxInputFileNumber`` and ``SplitMaxInputFileSize``
(bytes) cut a group into several; a file above the size is alone in its part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.catalogue.model import Placed
from orchestrator.errors import UserError

MOST_PARTS: Final = 100_000
RANGES: Final = frozenset({"production", "event", "entries"})  # with A-B
BY_INPUT: Final = frozenset({"file", "directory", "parentdirectory", "event", "se", "ce"})
MODES: Final = tuple(sorted(RANGES | BY_INPUT | {"userdefined"}))
Json = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """What one part is made of: ``value`` is what it was split by; the rest as the mode has it."""

    value: str
    files: tuple[str, ...] = ()  # as InputData spells them
    events: tuple[int, int] | None = None
    sites: tuple[str, ...] = ()
    definition: Json | None = None


@dataclass(frozen=True)
class Mode:
    """A ``Split`` that was understood; ``span`` is A-B."""

    name: str
    span: tuple[int, int] | None = None

    @property
    def by_input(self) -> bool:
        """Whether it groups input files."""
        return self.span is None and self.name in BY_INPUT


def mode_of(text: str) -> Mode:
    """UserError says what to write when ``text`` is no mode."""
    name, colon, argument = (part.strip() for part in text.partition(":"))
    name = name.lower()
    if name not in MODES:
        raise UserError(f"{name!r} is unknown; there are {', '.join(MODES)}")
    if not colon and name in BY_INPUT | {"userdefined"}:
        return Mode(name)
    found = re.fullmatch(r"(\d{1,15})-(\d{1,15})", argument)
    if name not in RANGES or found is None or int(found[1]) > int(found[2]):
        wanted = f'"{name}:A-B" with A not above B' if name in RANGES else f'"{name}" alone'
        raise UserError(f'"{text}" must be {wanted}')
    return Mode(name, (int(found[1]), int(found[2])))


def lfn_of(text: str) -> str:
    """The LFN of an InputData text ``LFN[,nodownload]``."""
    return text.partition(",")[0]


def groups(
    mode: Mode, attributes: Mapping[str, Any], placed: Mapping[str, Placed], sites: Mapping[str, str]
) -> Iterator[Group]:
    """The groups in order; ``placed`` by the LFNs of InputData, ``sites`` by storage element.

    UserError when the attributes lack what the mode needs, or there would be too many.
    """
    if mode.span is not None and mode.name == "production":
        _bounded(mode.span[1] - mode.span[0] + 1)
        yield from (Group(str(number)) for number in range(mode.span[0], mode.span[1] + 1))
    elif mode.span is not None:
        yield from _events(*mode.span, attributes)
    elif mode.name == "userdefined":
        definitions = attributes.get("SplitDefinitions", ())
        if not definitions:
            raise UserError('"userdefined" wants SplitDefinitions, a list of JDLs')
        yield from (Group(str(n), definition=each) for n, each in enumerate(definitions, 1))
    else:
        yield from _inputs(mode, attributes, placed, sites)


def how_many(mode: Mode, attributes: Mapping[str, Any]) -> int:
    """The number of groups of a mode that does not look at input files."""
    if mode.span is None:
        return len(attributes.get("SplitDefinitions", ()))
    numbers = mode.span[1] - mode.span[0] + 1
    return numbers if mode.name == "production" else -(-numbers // int(attributes["EventsPerJob"]))


def _bounded(parts: int) -> None:
    if parts > MOST_PARTS:
        raise UserError(f"{parts} parts are too many; at most {MOST_PARTS}")


def _events(first: int, last: int, attributes: Mapping[str, Any]) -> Iterator[Group]:
    each = int(attributes.get("EventsPerJob", 0))
    if each < 1:
        raise UserError("a range of events wants EventsPerJob, how many a part gets")
    _bounded(-(-(last - first + 1) // each))
    for start in range(first, last + 1, each):
        end = min(start + each - 1, last)
        yield Group(f"{start}-{end}", events=(start, end))


def _inputs(
    mode: Mode, attributes: Mapping[str, Any], placed: Mapping[str, Placed], sites: Mapping[str, str]
) -> Iterator[Group]:
    texts: dict[str, str] = {}
    for text in attributes.get("InputData", ()):
        texts.setdefault(lfn_of(text), text)  # one that is given twice counts once
    if not texts:
        raise UserError(f'"{mode.name}" wants files in InputData or InputDataCollection')
    key = _keys(sites)[mode.name]
    found: dict[tuple[str, ...], list[str]] = {}
    for lfn, text in texts.items():
        found.setdefault(key(placed[lfn]), []).append(text)
    number = int(attributes.get("SplitMaxInputFileNumber", 0)) or len(texts)
    size = int(attributes.get("SplitMaxInputFileSize", 0))
    for values, files in found.items():
        for batch in _batches(files, placed, number, size):
            where = values if mode.name == "ce" else ()
            yield Group(",".join(values), tuple(batch), sites=where)


def _keys(sites: Mapping[str, str]) -> Mapping[str, Callable[[Placed], tuple[str, ...]]]:
    def above(levels: int) -> Callable[[Placed], tuple[str, ...]]:
        return lambda file: (file.lfn.rsplit("/", levels)[0] or "/",)

    return {
        "file": lambda file: (file.lfn,),
        "directory": above(1),
        "parentdirectory": above(2),
        "event": lambda file: (file.lfn.split("/")[-2],),
        "se": lambda file: file.ses,
        "ce": lambda file: tuple(sorted({sites[se] for se in file.ses if se in sites})),
    }


def _batches(
    files: Sequence[str], placed: Mapping[str, Placed], number: int, size: int
) -> Iterator[list[str]]:
    """At most ``number`` files and ``size`` bytes (0: any) each, in order; a larger file is alone."""
    batch: list[str] = []
    held = 0
    for text in files:
        more = placed[lfn_of(text)].size
        if batch and (len(batch) == number or (size and held + more > size)):
            yield batch
            batch, held = [], 0
        batch.append(text)
        held += more
    yield batch
