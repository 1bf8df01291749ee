"""One JDL with many lists of arguments: the text is parsed once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.classads import Expression, parse
from orchestrator.errors import UserError
from orchestrator.jobs import jdl
from orchestrator.jobs.jdl import Defaults, JobSpec

# Attributes that no other value, and no resource, depends on.
ALONE = frozenset(
    {"Executable", "Arguments", "InputFile", "InputData", "OutputFile", "OutputArchive", "OutputDir", "OutputErrorE"}
)  # fmt: skip

MOST_TEXT = 32 << 20  # characters of all jobs together


def read(
    text: str,
    lists: Sequence[Sequence[str]],
    defaults: Defaults,
    check: Callable[[JobSpec], None] = lambda _: None,
) -> Iterator[JobSpec]:
    """The job of each list of arguments, in order: what ``jdl.read`` makes of it, and ``check`` lets pass
    (it is asked of the first job, and of the others if more than what stands ALONE differs).

    UserError as there, with the place of the list that it speaks of (from 1) in front and in ``facts["place"]``.
    """
    values, _, _ = parse(text)
    places = {jdl.spelled(name): value for name, value in values.items() if _has_place(value)}
    first: JobSpec | None = None
    size = 0
    for number, arguments in enumerate(lists, 1):
        try:
            size += jdl.bounded(text, arguments)
            if size > MOST_TEXT:
                raise UserError(f"the JDLs of all have more than {MOST_TEXT >> 20} MiB; submit fewer at once")
            if first is None or not places.keys() <= ALONE:
                spec = jdl.read(text, arguments, defaults)
                check(spec)
                first = first or spec
            else:
                spec = _filled(first, places, text, arguments, defaults)
        except UserError as error:
            said = f"arguments {number} of {len(lists)}: {error.message}"
            raise UserError(said, **error.facts, place=number) from error
        yield spec


def _filled(
    first: JobSpec, places: dict[str, Any], text: str, arguments: Sequence[str], defaults: Defaults
) -> JobSpec:
    try:
        own = {name: jdl.converted(name, jdl.replaced(value, arguments)) for name, value in places.items()}
        if own.get("Executable") == "":
            raise UserError("Executable is empty")
    except UserError:
        return jdl.read(text, arguments, defaults)  # it names every problem, with its line
    return replace(first, attributes=first.attributes | own)


def _has_place(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_place(each) for each in value)
    return "$" in (value.text if isinstance(value, Expression) else value if isinstance(value, str) else "")
