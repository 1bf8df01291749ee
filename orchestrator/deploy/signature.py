"""Failures that are the same failure: texts without what differs from one machine to the next. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_MASKS = (
    (re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.I), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b", re.I), "<id>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.I), "<address>"),
    (re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*"), "<path>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "#"),
)
_LONGEST = 160
# What an answer means is in these numbers: 404 and 503 are two failures.
_STATUS = re.compile(r"\b(?:answered|status|code|error|HTTP(?:/[\d.]+)?)[ :=]+([1-5]\d\d)\b", re.I)


def signature(text: str, names: Iterable[str] = ()) -> str:
    """The first line of ``text`` with machine names, ids, addresses, paths and numbers masked."""
    line = next((each.strip() for each in text.splitlines() if each.strip()), "it says nothing")
    for name in sorted(names, key=len, reverse=True):
        line = line.replace(name, "<machine>")
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found.group(0))
        return f"\0{chr(0xE000 + len(kept) - 1)}\0"

    line = _STATUS.sub(keep, line)
    for pattern, word in _MASKS:
        line = pattern.sub(word, line)
    for n, was in enumerate(kept):
        line = line.replace(f"\0{chr(0xE000 + n)}\0", was)
    line = re.sub(r"^<machine>(?: \(.*?\))?: ", "", line)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


@dataclass(frozen=True)
class Trouble:
    """One kind of failure: which objects had it, and where one of them left evidence."""

    signature: str
    objects: tuple[str, ...]
    evidence: str = ""

    def __str__(self) -> str:
        if len(self.objects) == 1:
            return f"{self.objects[0]}: {self.signature}"
        return f"{len(self.objects)} machines: {self.signature}"


def grouped(failures: Iterable[tuple[str, str, str]]) -> tuple[Trouble, ...]:
    """(object, text, evidence file) → kinds of failure, the most frequent first."""
    found: dict[str, tuple[dict[str, None], str]] = {}
    for name, text, file in failures:
        key = signature(text, (name,))
        names, first = found.get(key, ({}, ""))
        names[name] = None
        found[key] = (names, first or file)
    troubles = [Trouble(key, tuple(names), file) for key, (names, file) in found.items()]
    return tuple(sorted(troubles, key=lambda trouble: -len(trouble.objects)))
