"""Dependency order of a plan: what may start now, what can never start, how long it should take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from orchestrator.deploy.plan import Change
from orchestrator.errors import PermanentError


class Schedule:
    """Hands out changes whose needs are done. Not thread-safe: one loop owns it."""

    def __init__(self, changes: Sequence[Change]) -> None:
        """PermanentError when the changes need each other in a circle or need one that is not there."""
        self._changes = {change.id: change for change in changes}
        self._sorter: TopologicalSorter[str] = TopologicalSorter()
        self._dependents: dict[str, list[str]] = {}
        for change in changes:
            self._sorter.add(change.id, *change.needs, *change.after)
            for need in (*change.needs, *change.after):
                if need not in self._changes:
                    raise PermanentError(f"change {change.id} needs {need}, which the plan does not hold")
            for need in change.needs:
                self._dependents.setdefault(need, []).append(change.id)
        try:
            self._sorter.prepare()
        except CycleError as error:
            raise PermanentError(f"changes need each other: {' → '.join(error.args[1])}") from error
        self._open = set(self._changes)
        self._done: set[str] = set()

    @property
    def unfinished(self) -> bool:
        """Some change is neither done nor given up."""
        return bool(self._open)

    @property
    def left(self) -> tuple[Change, ...]:
        """Changes that are neither done nor given up, in the order of the plan."""
        return tuple(change for key, change in self._changes.items() if key in self._open)

    def ready(self) -> tuple[Change, ...]:
        """Changes that may start now; each is handed out once."""
        found: list[Change] = []
        while keys := self._sorter.get_ready():
            for key in keys:
                if key in self._open:
                    found.append(self._changes[key])
                else:  # given up; what only waits for its end may go on
                    self._sorter.done(key)
        return tuple(found)

    def waits_for(self, change: Change) -> set[str]:
        """Ids of the changes that must still be done before that one."""
        return set(change.needs) - self._done

    def done(self, key: str) -> None:
        """That change went well; those that waited for it alone become ready."""
        self._sorter.done(key)
        self._done.add(key)
        self._open.discard(key)

    def failed(self, key: str) -> tuple[Change, ...]:
        """That change failed; returns all that depend on it, which now never start."""
        self._sorter.done(key)
        self._open.discard(key)
        lost: list[Change] = []
        queue = [key]
        for here in queue:
            for dependent in self._dependents.get(here, ()):
                if dependent in self._open:
                    self._open.discard(dependent)
                    lost.append(self._changes[dependent])
                    queue.append(dependent)
        return tuple(lost)


def predicted(changes: Sequence[Change]) -> float:
    """Seconds along the longest chain of needs, when nothing waits for a free hand."""
    by_id = {change.id: change for change in changes}
    sorter = TopologicalSorter({change.id: (*change.needs, *change.after) for change in changes})
    ends: dict[str, float] = {}
    for key in sorter.static_order():
        if (change := by_id.get(key)) is not None:
            ends[key] = change.seconds + max(
                (ends.get(need, 0.0) for need in (*change.needs, *change.after)), default=0.0
            )
    return max(ends.values(), default=0.0)
