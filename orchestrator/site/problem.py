"""One thing that is wrong in a site spec, and how to say what would be right. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong at a path of the document, and what to do."""

    path: Path
    message: str
    hint: str
    key: bool = False
    """True when the key is at fault, not its value."""


def dotted(path: Path) -> str:
    """``providers.farm.hosts[0].name``"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def choose(wrong: str, known: Iterable[str], what: str) -> str:
    """The nearest known word, or all of them."""
    words = [str(word) for word in known]
    near = get_close_matches(wrong.lower(), words, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if not words:
        return f"there is no {what} yet; add it"
    listed = ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
    return f"{what}s here: {listed}"


def show(value: Any) -> str:
    """A short description of a value for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…" + text[0] * isinstance(value, str)
