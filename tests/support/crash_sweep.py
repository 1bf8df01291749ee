"""A site's life killed again and again: at every ledger write in turn, or once at each kind of write; after
each death the same verb runs again to its end, and the site is looked at from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.support.crash import Death, Ended, Moment, run


class Place(Protocol):
    """A site whose state outlives any process of the orchestrator."""

    @property
    def folder(self) -> Path: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    def want(self, step: Step) -> None:
        """The site spec says what ``step`` is to bring about."""
        ...

    def troubles(self, step: Step) -> list[str]:
        """What is not as it should be after ``step``: lines that begin with leaked, doubled or unconverged."""
        ...


@dataclass(frozen=True)
class Step:
    """One verb, and what the site is after it."""

    verb: str
    words: tuple[str, ...]
    machines: tuple[str, ...]
    version: int = 1  # of what rolls


@dataclass
class Found:
    """What a sweep has seen."""

    points: Counter[str] = field(default_factory=Counter)  # verb → times it was killed
    kinds: dict[str, set[str]] = field(default_factory=dict)  # verb → kinds of write it was killed at
    troubles: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{verb} killed {many} times" for verb, many in self.points.items())


def every_write(place: Place, steps: Sequence[Step], moment: Moment) -> Found:
    """Each step killed at its first write, then at its second, and so on, until none has one more;
    after each death the step is run again to its end, and the site is looked at."""
    found, number, more = Found(), 0, True
    while more:
        number, more = number + 1, False
        for step in steps:
            if _killed(place, step, Death(moment, write=number, whole=number % 2 == 0), found):
                more = True
                _again(place, step, found, f"killed {moment} write {number}")
    return found


def every_kind(place: Place, steps: Sequence[Step], found: Found, known: Collection[str] = ()) -> None:
    """The same with one write of each kind that is not ``known``, before and after in turn."""
    more = True
    while more:
        more = False
        for step in steps:
            before = set(found.kinds.get(step.verb, ()))
            if _killed(place, step, _next_kind(step, found, known), found):
                more = True
                _again(place, step, found, f"killed at {sorted(found.kinds[step.verb] - before)}")


def every_kind_in_a_row(place: Place, step: Step, found: Found) -> None:
    """One long step, killed at each kind of write in turn: every run goes on where the last one died."""
    while _killed(place, step, _next_kind(step, found), found):
        pass
    _again(place, step, found, "killed again and again")


def _next_kind(step: Step, found: Found, known: Collection[str] = ()) -> Death:
    many = found.points[step.verb]
    seen = frozenset(known) | found.kinds.setdefault(step.verb, set())
    return Death("after" if many % 2 else "before", known=seen, whole=many % 3 == 2)


def _killed(place: Place, step: Step, death: Death, found: Found) -> bool:
    """Whether it died; one that ends alive has had all its writes."""
    place.want(step)
    ended = run(place.folder, step.words, death, place.environment)
    if ended.killed:
        found.points[step.verb] += 1
        found.kinds.setdefault(step.verb, set()).update(ended.writes[-1])
    else:
        _look(place, step, ended, found, "it was not killed")
    return ended.killed


def _again(place: Place, step: Step, found: Found, where: str) -> None:
    _look(place, step, run(place.folder, step.words, None, place.environment), found, where)


def _look(place: Place, step: Step, ended: Ended, found: Found, where: str) -> None:
    troubles = place.troubles(step)
    if ended.code:
        troubles.append(f"unconverged: exit code {ended.code}: {ended.said[-500:]}")
    found.troubles += [f"{each} ({step.verb}, {where})" for each in troubles]
