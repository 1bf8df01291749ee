"""Patterns that the parts of a split job fill in: ``#alien_counter_03i#``, ``#alienfirstfilename/re/sub/#``. Pure.

========================================  ====================================================================
``#alien_counter#``, ``_03i``, ``_3i``    the part's number; as the C format %03i or %3i
``#alien_split#``                         what the part was split by: a directory, an SE, a number, A-B
``#alien_first_event#``, ``_last_event#``  the part's range of events (Split = "event:A-B")
``#alien[WHICH]fulldir#``                 the whole LFN of the part's first input file
``#alien[WHICH]dir#``, ``dirdir``, …      the name of its directory; of the one above; …
``#alien[WHICH]filename#``                its name without directories
``#alien[WHICH]filename/RE/SUB/#``        its name with the first match of RE replaced by SUB (``\\1`` is a group)
========================================  ====================================================================

WHICH is ``first`` (also when left out), ``last`` or ``all`` (a list with commas). Source: AliEn2's
Splitting optimizer. RE is an expression of RE2, which matches in time linear in the length of the
name, whatever the expression (no backtracking), in bounded memory; its length is bounded too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2

from orchestrator.errors import UserError

LONGEST = 200  # characters of an expression
_MEMORY = 1 << 20  # bytes of its automaton
_PATTERN = re.compile(
    r"#alien(?:_(?P<value>counter|split|first_event|last_event)(?:_(?P<width>\d{0,2})i)?"
    r"|(?P<which>first|last|all)?(?:(?P<fulldir>fulldir)|(?P<dirs>(?:dir){1,20})"
    r"|(?P<filename>filename)(?:/(?P<re>[^/#]*)/(?P<sub>[^/#]*)/)?))#",
    re.IGNORECASE,
)
_GROUP = re.compile(r"\\(\d)")  # \1 in SUB


@dataclass(frozen=True)
class Facts:
    """What the patterns of one part mean; ``files`` are the LFNs of its input data, in order."""

    counter: int
    split: str
    files: Sequence[str] = ()
    events: tuple[int, int] | None = None
    values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        first, last = self.events or (None, None)
        values = {"counter": self.counter, "split": self.split, "first_event": first, "last_event": last}
        object.__setattr__(self, "values", values)


def used(value: Any) -> bool:
    """Whether a text, or one of a list, has a pattern."""
    if isinstance(value, list):
        return any(used(each) for each in value)
    return isinstance(value, str) and _PATTERN.search(value) is not None


def work(value: Any, files: int) -> int:
    """How many replacements ``filled`` makes in a text, or in a list of them, for a part with so many files."""
    if isinstance(value, list):
        return sum(work(each, files) for each in value)
    found = _PATTERN.finditer(value) if isinstance(value, str) else ()
    return sum(files if (each["which"] or "").lower() == "all" else 1 for each in found)


def check(value: Any) -> None:
    """UserError when a pattern's expression is wrong or too long, or its SUB names a group that RE has not."""
    for text in value if isinstance(value, list) else [value]:
        for found in _PATTERN.finditer(text) if isinstance(text, str) else ():
            if found["re"] is not None:
                _renamed("x", found["re"], found["sub"])


def without(text: str) -> str:
    """``text`` with ``x`` for every pattern, to judge the rest of it."""
    return _PATTERN.sub("x", text)


def filled(value: Any, facts: Facts) -> Any:
    """``value`` (a text, or a list of them) with every pattern replaced.

    UserError when a pattern asks for an input file or events and the part has none.
    """
    if isinstance(value, list):
        return [filled(each, facts) for each in value]
    return _PATTERN.sub(lambda found: _value(found, facts), value) if isinstance(value, str) else value


def filled_words(text: str, facts: Facts) -> str:
    """As ``filled``, for a text that a shell's rules split: a name with blanks or quotes stays in its word."""
    values: list[str] = []

    def keep(found: re.Match[str]) -> str:
        values.append(_value(found, facts))
        return f"\0{len(values) - 1}\0"

    marked = _PATTERN.sub(keep, text)
    plain = all(shlex.quote(value) in (value, "''") for value in values)
    words = [marked] if plain else shlex.split(marked)
    full = [re.sub("\0(\\d+)\0", lambda found: values[int(found[1])], word) for word in words]
    return full[0] if plain else shlex.join(full)


def _value(found: re.Match[str], facts: Facts) -> str:
    if found["value"]:
        value = facts.values[found["value"].lower()]
        if value is None:
            raise UserError(f'{found[0]} asks for events, which only Split = "event:A-B" gives')
        if found["width"] is None or isinstance(value, str):
            return str(value)
        zero = "0" if found["width"].startswith("0") else ""
        return f"{value:{zero}{int(found['width'] or 0) or ''}d}"
    if not facts.files:
        raise UserError(f"{found[0]} asks for an input file, but part {facts.counter} has no InputData")
    which = (found["which"] or "first").lower()
    files = facts.files if which == "all" else [facts.files[-1 if which == "last" else 0]]
    return ",".join(_of_file(lfn, found) for lfn in files)


def _of_file(lfn: str, found: re.Match[str]) -> str:
    if found["fulldir"]:
        return lfn
    if found["dirs"]:
        above = lfn.split("/")[: -len(found["dirs"]) // 3]
        return above[-1] if above else ""
    name = lfn.rpartition("/")[2]
    return name if found["re"] is None else _renamed(name, found["re"], found["sub"])


def _renamed(name: str, expression: str, replacement: str) -> str:
    compiled = _compiled(expression)
    for number in _GROUP.findall(replacement):
        if int(number) > compiled.groups:
            raise UserError(f"{replacement!r} names group {number}, which {expression!r} does not have")
    found = compiled.search(name)
    if found is None:
        return name
    new = _GROUP.sub(lambda group: found[int(group[1])] or "", replacement)
    return f"{name[: found.start()]}{new}{name[found.end() :]}"


@lru_cache(maxsize=256)
def _compiled(expression: str) -> Any:
    if len(expression) > LONGEST or not expression.isprintable():
        raise UserError(f"{expression[:40]!r} must be at most {LONGEST} printable characters")
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        said = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise UserError(f"{expression!r} is not a regular expression: {said}") from error
