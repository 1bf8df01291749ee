"""Life-cycle tables: one table per kind of thing, and no move that the table does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from orchestrator.errors import PermanentError

S = TypeVar("S", bound=str)
Table = Mapping[S, frozenset[S]]


class IllegalTransition(PermanentError):
    """A move that the life-cycle table does not hold; ``facts`` has ``old`` and ``new``."""


def advance(table: Mapping[S, frozenset[S]], old: S, new: S) -> S:
    """Return ``new`` if ``table`` allows ``old`` → ``new``; raise IllegalTransition otherwise."""
    if new not in table.get(old, frozenset()):
        raise IllegalTransition(f"{old} → {new} is not a legal move", old=str(old), new=str(new))
    return new
