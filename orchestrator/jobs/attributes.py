"""The attributes of a job: a reader for each, from what the JDL says to a value of its proper type. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.catalogue.model import clean
from orchestrator.classads import MAX_TEXT, Attribute, Expression, Problem, parse
from orchestrator.errors import UserError
from orchestrator.jobs import modes, patterns
from orchestrator.jobs.model import output_spec
from orchestrator.software.model import parse_spelling
from orchestrator.units import parse_duration, parse_size

Json = dict[str, Any]
MOST_PACKAGES = 50
_ARGUMENT = re.compile(r"\$([0-9]{1,6})")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS = frozenset({"inputs", "variables", "inputsites"})  # what the job optimizer adds to a JDL
_OF_MASTERS = frozenset({"Split", "SplitDefinitions", "Merge", "InputDataCollection", "User"})


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
    patterns.check(values)
    for each in map(patterns.without, values):
        name = each.partition("@")[0]
        if name.startswith("/") or ".." in name.split("/") or not name:
            raise UserError(f"{each!r} must be a name or pattern relative to the work directory")
        try:
            output_spec(each)
        except ValueError as error:
            raise UserError(f"{each!r}: write the number of copies as @disk=2") from error
    return values


def _lfns(value: Any) -> list[str]:
    found = []
    for each in _texts(value):
        lfn, comma, option = each.removeprefix("LF:").partition(",")
        if not lfn.startswith("/"):
            raise UserError(f"{each!r} is not an LFN; write LF:/vo/…")
        if comma and option.strip().lower() != "nodownload":
            raise UserError(f"{each!r}: only ,nodownload may follow an LFN")
        found.append(f"{clean(lfn.strip())}{',nodownload' if comma else ''}")
    return found


def _archives(value: Any) -> list[str]:
    patterns.check(_texts(value))
    return _texts(value)


def _directory(value: Any) -> str:
    patterns.check(_text(value))
    bare = patterns.without(_text(value))
    if not bare.startswith("/") or ".." in bare.split("/"):
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
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        raise UserError("must be text in double quotes, or a list of texts")
    text = " ".join(value) if isinstance(value, list) else _text(value)
    patterns.check(text)
    try:
        shlex.split(patterns.without(text))
    except ValueError as error:
        raise UserError(f"cannot be split into words: {error}") from error
    return text


def _split_arguments(value: Any) -> list[str]:
    return [_arguments(each) for each in _texts(value)]


def _split(value: Any) -> str:
    modes.mode_of(_text(value))
    return _text(value).strip()


def _definitions(value: Any) -> list[Json]:
    """Each JDL of SplitDefinitions (a text, or an ad in brackets) as attributes, Requirements as text."""
    found = []
    for number, each in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(each, str | dict):
            raise UserError('must be a list of JDLs, like {[Arguments = "1"], [Arguments = "2"]}')
        values, places, problems = parse(each) if isinstance(each, str) else (each, {}, [])
        own, wrong, _ = typed(values, places, ())
        if problems := problems + wrong:
            said = "; ".join(f"{each.line}:{each.column}: {each.message}" for each in problems)
            raise UserError(f"has a mistake in JDL {number}: {said}")
        if bad := sorted(_OF_MASTERS & set(own)):
            raise UserError(f"JDL {number} has {bad[0]}, which is for the master alone")
        requirements = own.get("Requirements")
        if "Requirements" in own and not isinstance(requirements, Expression):
            raise UserError(f"JDL {number} has Requirements: write it as a text then, not in brackets")
        found.append(own | ({"Requirements": requirements.text} if requirements else {}))
    return found


def _variables(value: Any) -> list[str]:
    for each in _texts(value):
        if not _NAME.fullmatch(each):
            raise UserError(f"{each!r} is not the name of an attribute")
    return _texts(value)


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


def _share(value: Any) -> float:
    if not 0 <= _number(value) <= 100:
        raise UserError(f"must be a number of resubmissions for each part (0 to 100), not {value}")
    return _number(value)


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
READERS: Mapping[str, Callable[[Any], Any]] = {
    "Executable": _text,
    "Arguments": _arguments,
    "InputFile": _lfns,
    "InputData": _lfns,
    "InputDataCollection": _lfns,
    "OutputFile": _outputs,
    "OutputArchive": _archives,
    "OutputDir": _directory,
    "OutputErrorE": _outputs,
    "Packages": _packages,
    "ValidationCommand": _text,
    "TTL": _TIME,
    "Price": _number,
    "MemorySize": _SIZE,
    "WorkDirectorySize": _SIZE,
    "CPUCores": _COUNT,
    "Split": _split,
    "SplitArguments": _split_arguments,
    "SplitDefinitions": _definitions,
    "EventsPerJob": _COUNT,
    "SplitMaxInputFileNumber": _COUNT,
    "SplitMaxInputFileSize": _SIZE,
    "Merge": _merge,
    "MergeOutputDir": _directory,
    "JDLVariables": _variables,
    "MaxWaitingTime": _TIME,
    "MaxFailFraction": _fraction,
    "MaxResubmitFraction": _share,
    "Email": _text,
    "JobTag": _text,
    "Type": _text,
    "User": _text,
    "Requirements": lambda value: value,
}
BY_LOWER = {name.lower(): name for name in READERS}


def spelled(name: str) -> str:
    """AliEn's spelling of an attribute's name; one that is not known stays as it is."""
    return BY_LOWER.get(name.lower(), name)


def converted(name: str, value: Any) -> Any:
    """The value of a known attribute in its proper type; UserError says what is wrong with it."""
    return READERS[name](value)


def checked(name: str, value: Any) -> Any:
    """As ``converted``, with the name in the error."""
    try:
        return converted(name, value)
    except UserError as error:
        raise UserError(f"{name} {error.message}") from error


def typed(
    values: Mapping[str, Any], places: Mapping[str, Attribute], arguments: Sequence[str]
) -> tuple[Json, list[Problem], list[Attribute]]:
    """The attributes by AliEn's spelling, what is wrong with others, and those that nobody knows."""
    attributes: Json = {}
    problems: list[Problem] = []
    unknown: list[Attribute] = []
    for name, value in values.items():
        place = places.get(name) or Attribute(name, "", 1, 1)
        known = BY_LOWER.get(name.lower())
        try:
            if name.lower() in _OURS:
                raise UserError("is set by the job optimizer alone; leave it out")
            value = replaced(value, arguments)
            attributes[known or name] = READERS[known](value) if known else value
        except UserError as error:
            problems.append(Problem(place.line, place.column, f"{known or name} {error.message}"))
        if known is None:
            unknown.append(place)
    return attributes, problems, unknown


def bounded(text: str, arguments: Sequence[str]) -> int:
    """The characters of a JDL text with ``arguments`` in it; UserError when they are too many."""
    places = (int(number) for number in _ARGUMENT.findall(text))
    more = sum(len(arguments[place - 1]) for place in places if 0 < place <= len(arguments))
    if len(text) + more > MAX_TEXT:
        said = f"the JDL with its arguments is too long: {len(text) + more} characters"
        raise UserError(f"{said}; at most {MAX_TEXT} are accepted")
    return len(text) + more


def replaced(value: Any, arguments: Sequence[str]) -> Any:
    """``value`` with every ``$n`` in its texts replaced; UserError when there are too few arguments."""
    if isinstance(value, list):
        return [replaced(each, arguments) for each in value]
    if isinstance(value, dict):
        return {name: replaced(each, arguments) for name, each in value.items()}
    if isinstance(value, Expression):
        return Expression.parse(replaced(value.text, arguments)) if "$" in value.text else value
    if not isinstance(value, str):
        return value
    highest = max((int(number) for number in _ARGUMENT.findall(value)), default=0)
    if highest > len(arguments):
        raise UserError(f"uses ${highest}, but {len(arguments)} arguments were given to submit")
    return _ARGUMENT.sub(lambda found: arguments[int(found[1]) - 1] if int(found[1]) else found[0], value)
