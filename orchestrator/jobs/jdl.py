"""JDL text → a validated job. Pure; all problems at once, each with its line and column."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.classads import Attribute, Expression, Problem, parse, refuse
from orchestrator.errors import UserError
from orchestrator.jobs.model import output_spec
from orchestrator.software.model import parse_spelling
from orchestrator.units import parse_duration, parse_size

Json = dict[str, Any]
MOST_PACKAGES = 50
_ARGUMENT = re.compile(r"\$(\d+)")


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


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise UserError("must be text in double quotes")
    return value


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and each for each in values):
        raise UserError('must be a list of texts, like {"a", "b"}')
    return values


def _outputs(value: Any) -> list[str]:
    values = _texts(value)
    for each in values:
        name = each.partition("@")[0]
        if name.startswith("/") or ".." in name.split("/") or not name:
            raise UserError(f"{each!r} must be a name or pattern relative to the work directory")
        try:
            output_spec(each)
        except ValueError as error:
            raise UserError(f"{each!r}: write the number of copies as @disk=2") from error
    return values


def _lfns(value: Any) -> list[str]:
    names = [each.removeprefix("LF:") for each in _texts(value)]
    for each in names:
        if not each.startswith("/"):
            raise UserError(f"{each!r} is not an LFN; write LF:/vo/…")
    return names


def _directory(value: Any) -> str:
    if not _text(value).startswith("/") or ".." in _text(value).split("/"):
        raise UserError(f"{value!r} is not an absolute directory of the catalogue")
    return _text(value).rstrip("/")


def _packages(value: Any) -> list[str]:
    values = [each.rpartition("@")[2] for each in _texts(value)]  # AliEn writes VO_ALICE@name::version
    if len(values) > MOST_PACKAGES:
        raise UserError(f"names {len(values)} packages; at most {MOST_PACKAGES} are possible")
    for each in values:
        parse_spelling(each)
    return values


def _arguments(value: Any) -> str:
    text = " ".join(value) if isinstance(value, list) else _text(value)
    try:
        shlex.split(text)
    except ValueError as error:
        raise UserError(f"cannot be split into words: {error}") from error
    return text


def _positive(convert: Callable[[Any], float], what: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise UserError(f"must be {what}")
        number = convert(value)
        if not 0 < number < 2**53:
            raise UserError(f"must be {what} above 0, not {value}")
        return int(number)

    return check


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"must be a number, not {value!r}") from error


def _fraction(value: Any) -> float:
    if not 0 <= _number(value) <= 1:
        raise UserError(f"must be between 0 and 1, not {value}")
    return _number(value)


def _merge(value: Any) -> list[str]:
    for each in _texts(value):
        parts = each.split(":")
        if len(parts) != 3 or not all(parts) or not parts[1].startswith("/"):
            raise UserError(f"{each!r} must be <file of the parts>:<LFN of a JDL>:<file to make>")
    return _texts(value)


_SIZE, _TIME = _positive(parse_size, "a size like 2 GB"), _positive(parse_duration, "a time like 6 h")
_COUNT = _positive(_number, "a whole number")
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "Executable": _text,
    "Arguments": _arguments,
    "InputFile": _lfns,
    "InputData": _lfns,
    "InputDataCollection": _lfns,
    "OutputFile": _outputs,
    "OutputArchive": _texts,
    "OutputDir": _directory,
    "OutputErrorE": _outputs,
    "Packages": _packages,
    "ValidationCommand": _text,
    "TTL": _TIME,
    "Price": _number,
    "MemorySize": _SIZE,
    "WorkDirectorySize": _SIZE,
    "CPUCores": _COUNT,
    "Split": _text,
    "SplitArguments": _arguments,
    "SplitMaxInputFileNumber": _COUNT,
    "SplitMaxInputFileSize": _SIZE,
    "Merge": _merge,
    "MergeOutputDir": _directory,
    "JDLVariables": _texts,
    "MaxWaitingTime": _TIME,
    "MaxFailFraction": _fraction,
    "MaxResubmitFraction": _fraction,
    "Email": _text,
    "JobTag": _text,
    "Type": _text,
    "User": _text,
    "Requirements": lambda value: value,
}
_BY_LOWER = {name.lower(): name for name in _READERS}


def read(text: str, arguments: Sequence[str], defaults: Defaults) -> JobSpec:
    """The job of ``text`` with ``$1..$n`` replaced by ``arguments``; UserError names every problem."""
    values, places, problems = parse(text)
    readable = not problems
    warnings: list[str] = []
    attributes: Json = {}
    for name, value in values.items():
        place = places[name]
        known = _BY_LOWER.get(name.lower())
        try:
            value = replaced(value, arguments)
            attributes[known or name] = _READERS[known](value) if known else value
        except UserError as error:
            problems.append(Problem(place.line, place.column, f"{known or name} {error.message}"))
        if known is None:
            warnings.append(_unknown(place))
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
    where = {_BY_LOWER.get(name.lower(), name): (at.line, at.column) for name, at in places.items()}
    return JobSpec(attributes, own, tuple(warnings), where)


def replaced(value: Any, arguments: Sequence[str]) -> Any:
    """``value`` with every ``$n`` in its texts replaced; UserError when there are too few arguments."""
    if isinstance(value, list):
        return [replaced(each, arguments) for each in value]
    if isinstance(value, Expression):
        return Expression.parse(replaced(value.text, arguments)) if "$" in value.text else value
    if not isinstance(value, str):
        return value
    highest = max((int(number) for number in _ARGUMENT.findall(value)), default=0)
    if highest > len(arguments):
        raise UserError(f"uses ${highest}, but {len(arguments)} arguments were given to submit")
    return _ARGUMENT.sub(lambda found: arguments[int(found[1]) - 1] if int(found[1]) else found[0], value)


def _unknown(place: Attribute) -> str:
    near = difflib.get_close_matches(place.name.lower(), _BY_LOWER, n=1, cutoff=0.75)
    hint = f"; did you mean {_BY_LOWER[near[0]]}?" if near else "; it is kept, but nothing uses it"
    return f"{place.line}:{place.column}: {place.name} is not a JDL attribute{hint}"
