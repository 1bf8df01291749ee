"""Typed identifiers and quantities, and their human spelling ("8 GiB", "6 h")."""

from __future__ import annotations

import re
from typing import NewType

from orchestrator.errors import UserError

TaskId = NewType("TaskId", int)
Bytes = NewType("Bytes", int)
Seconds = NewType("Seconds", float)

_SIZES = {"": 1, "b": 1} | {
    unit: factor**power
    for power, letter in enumerate("kmgtp", start=1)
    for unit, factor in ((f"{letter}b", 1000), (f"{letter}ib", 1024), (letter, 1024))
}
_TIMES = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def _parse(text: str | float, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    match = _QUANTITY.fullmatch(str(text))
    if match is None or match[2].lower() not in units:
        raise UserError(f"{text!r} is not a {what}; write for example {example!r}", value=str(text))
    return float(match[1]) * units[match[2].lower()]


def parse_size(text: str | int) -> Bytes:
    """Bytes from "8 GiB", "500 MB", "4G" (binary) or a plain number; UserError otherwise."""
    return Bytes(round(_parse(text, _SIZES, "size", "8 GiB")))


def parse_duration(text: str | float) -> Seconds:
    """Seconds from "6 h", "30 min", "7 d" or a plain number; UserError otherwise."""
    return Seconds(_parse(text, _TIMES, "duration", "6 h"))


def format_size(size: float) -> str:
    """Binary units, three significant digits: "1.50 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def format_duration(seconds: float) -> str:
    """The two largest units: "2 h 5 min", "12.3 s"."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
