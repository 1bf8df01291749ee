"""The classes with waiting members as a broker remembers them, in the order in which they are served. Pure.

A copy of grid.task_class that may be a little old: what it says is tried, and the database decides.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from orchestrator.tasks.decide import Waiting, fits, rank, wide_first

FRONT = 32
Key = tuple[float, float, int]


class Index:
    """Classes by site pin, best first."""

    def __init__(self) -> None:
        self._classes: dict[int, Waiting] = {}
        self._sites: dict[str, list[tuple[Key, int]]] = {}
        self._now = 0.0  # when the classes were read
        self._served: dict[str, float] = {}  # owner -> when something of theirs was last given away
        self._behind: dict[str, float] = {}  # owner -> rank's ``behind``

    def replace(self, classes: Iterable[Waiting], now: float = 0.0) -> list[int]:
        """The index holds these and no others; returns those that have more members than it knew."""
        known = self._classes
        self._classes = {each.id: each for each in classes}
        self._sites, heads = {}, dict[str, float]()
        for each in self._classes.values():
            heads[each.owner] = min(each.oldest, heads.get(each.owner, each.oldest))
        self._now, self._served = now, {owner: at for owner, at in self._served.items() if owner in heads}
        self._behind = {owner: max(0.0, at - heads[owner]) for owner, at in self._served.items()}
        for each in self._classes.values():
            self._sites.setdefault(each.site, []).append((self._rank(each), each.id))
        for line in self._sites.values():
            line.sort()
        return [
            number
            for number, each in self._classes.items()
            if number not in known or each.waiting > known[number].waiting
        ]

    def _rank(self, each: Waiting) -> Key:
        return rank(each, self._behind.get(each.owner, 0.0))

    def __len__(self) -> int:
        return len(self._classes)

    def all(self) -> set[int]:
        """The classes that had members when the index was made."""
        return set(self._classes)

    def get(self, number: int) -> Waiting | None:
        """The class, if it had members when the index was made."""
        return self._classes.get(number)

    def waiting(self, site: str, accepts: Callable[[int], bool]) -> Iterator[Waiting]:
        """Classes with members that a resource of ``site`` may serve and accepts, best first."""
        lines = [line for pin in {"", site} if (line := self._sites.get(pin))]
        classes = self._classes
        for _, number in heapq.merge(*lines) if len(lines) > 1 else iter(lines[0] if lines else ()):
            if accepts(number) and (each := classes[number]).waiting > 0:
                yield each

    def take(self, number: int, count: int) -> None:
        """``count`` members are spoken for (or, when it is negative, are there after all)."""
        if (each := self._classes.get(number)) is not None:
            each.waiting -= count
            if count > 0:
                self._served[each.owner] = self._now

    def follow(self, number: int, best_priority: float, oldest: float) -> None:
        """A member of a class with this priority and age was given away; the next one is behind it."""
        each = self._classes.get(number)
        if each is None:
            return
        line, old = self._sites[each.site], self._rank(each)
        each.best_priority, each.oldest = best_priority, oldest
        if self._rank(each) != old:
            del line[bisect_left(line, (old, number))]
            insort(line, (self._rank(each), number))


@dataclass(frozen=True, slots=True)
class Asked:
    """What one resource asks for: up to ``count`` tasks that fit into ``free`` together."""

    site: str
    count: int
    free: Mapping[str, float]


def allot(
    index: Index,
    asked: Asked,
    needs: Callable[[int], Mapping[str, float]],
    accepts: Callable[[int], bool],
    wide_wait: float,
) -> list[tuple[int, int]]:
    """(class, how many of it) for one resource, best first; these members are taken from the index.

    ``needs``: what a member of a class uses; ``accepts``: whether class and resource accept each other.
    A resource with several cores goes to the class, of the best FRONT ones, that uses most of them, unless a
    narrower one has waited ``wide_wait`` seconds longer.
    """
    found: list[tuple[int, int]] = []
    free, left = dict(asked.free), asked.count
    lines: Iterable[Waiting] = index.waiting(asked.site, accepts)
    if free.get("Cores", 1.0) > 1:
        able = (each for each in lines if fits(free, needs(each.id), 1))
        front = wide_first(list(islice(able, FRONT)), lambda number: needs(number)["Cores"], wide_wait)
        lines = chain(front, able)
    for each in lines:
        need = needs(each.id)
        number = fits(free, need, min(left, each.waiting))
        if number == 0:
            continue
        found.append((each.id, number))
        left -= number
        if left == 0:
            break
        for name in free:
            free[name] -= need.get(name, 0.0) * number
    for chosen, number in found:
        index.take(chosen, number)
    return found
