"""How an apply ended: results, what is true now in one line, failures by kind. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.deploy.model import Action
from orchestrator.deploy.plan import Change
from orchestrator.deploy.signature import Trouble, grouped
from orchestrator.units import format_duration


class Ended(StrEnum):
    """How a change ended."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # something it needs failed, or too many like it did
    INTERRUPTED = "interrupted"  # Ctrl-C came first


@dataclass(frozen=True)
class Result:
    """One change and how it ended; ``evidence`` is a file."""

    change: Change
    ended: Ended
    seconds: float = 0.0
    error: str = ""
    evidence: str = ""
    temporary: bool = False  # trying again later may help
    storm: bool = False  # skipped because too many of its kind failed


@dataclass(frozen=True)
class Report:
    """What became of a plan, and what is true now. ``mended`` are failures that a later round made good."""

    verb: str
    results: tuple[Result, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    mended: tuple[Result, ...] = ()
    well: frozenset[str] = frozenset()  # machines that were seen doing their work

    def of(self, ended: Ended) -> tuple[Result, ...]:
        """Results that ended so."""
        return tuple(result for result in self.results if result.ended is ended)

    @property
    def withheld(self) -> tuple[Result, ...]:
        """Machines that a budget forbids."""
        return tuple(result for result in self.results if result.change.withheld)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Failures that still stand, by kind, the most frequent first."""
        return grouped((r.change.object, r.error, r.evidence) for r in self.of(Ended.FAILED))

    def then(self, later: Report) -> Report:
        """This round and a later one: where both tell of an object, the later one is true."""
        again = {result.change.object for result in later.results}
        kept = [r for r in self.results if r.ended is Ended.DONE or r.change.object not in again]
        gone = tuple(r for r in self.of(Ended.FAILED) if r.change.object in again)
        return Report(
            self.verb,
            (*kept, *later.results),
            self.seconds + later.seconds,
            later.interrupted,
            (*self.mended, *gone, *later.mended),
            self.well | later.well,
        )

    def still(self, objects: Collection[str]) -> Report:
        """This, when only those objects are not as they should be: other failures have mended themselves."""
        mended = tuple(r for r in self.of(Ended.FAILED) if r.change.object not in objects)
        over = (Ended.FAILED, Ended.SKIPPED)
        kept = tuple(r for r in self.results if r.ended not in over or r.change.object in objects)
        return replace(self, results=kept, mended=(*self.mended, *mended))

    @property
    def exit_code(self) -> int:
        """0; 130 after Ctrl-C; 3 when trying again later may help; 4 when something must be mended."""
        failed = self.of(Ended.FAILED)
        if self.interrupted:
            return 130
        if self.withheld or any(result.storm for result in self.results):
            return 4
        if failed:
            return 3 if all(result.temporary for result in failed) else 4
        return 3 if self.of(Ended.SKIPPED) else 0

    @property
    def summary(self) -> str:
        """One line that says what is true now."""
        done = _counted([result.change for result in self.of(Ended.DONE)])
        took = f" in {format_duration(self.seconds)}"
        if self.interrupted:
            left = len(self.of(Ended.INTERRUPTED))
            return f"interrupted: {done or 'nothing changed'}{took}, {left} not done; the same command again goes on"
        failed, skipped = self.of(Ended.FAILED), self.of(Ended.SKIPPED)
        if failed or skipped:
            return f"{self._failure(failed, skipped)}; {done or 'nothing else changed'}{took}"
        if not self.results:
            return "nothing to do"
        return f"{done}{took}"

    def _failure(self, failed: Sequence[Result], skipped: Sequence[Result]) -> str:
        told = [f"{len(failed)} failed ({_names(failed)})"] if failed else []
        for group, tried, left, why in self.storms:
            told.append(f"group {group} stopped after {tried} failed machines ({why}), {left} not tried")
        held = Counter((result.change.group, result.error) for result in self.withheld)
        told += [f"group {group}: {many} machines {why}" for (group, why), many in held.items()]
        waiting = sum(not result.storm and not result.change.withheld for result in skipped)
        if waiting:
            told.append(f"{waiting} waiting for that not started")
        return ", ".join(told)

    @property
    def storms(self) -> tuple[tuple[str, int, int, str], ...]:
        """(group, machines that failed, machines not tried, what most of them said) where a breaker opened."""
        left = Counter(result.change.group for result in self.results if result.storm)
        failed = [r for r in (*self.of(Ended.FAILED), *self.mended) if r.change.action in _MAKING]
        found = []
        for group, many in left.items():
            mine = [result for result in failed if result.change.group == group]
            kinds = grouped((r.change.object, r.error, r.evidence) for r in mine)
            why = kinds[0].signature if kinds else "they failed before"
            found.append((group, len({result.change.object for result in mine}), many, why))
        return tuple(found)


_PAST = {
    Action.CREATE: "created", Action.CONFIGURE: "configured", Action.VERIFY: "verified", Action.ADOPT: "adopted",
    Action.REPLACE: "replaced", Action.DESTROY: "destroyed", Action.DRAIN: "drained", Action.UNDRAIN: "undrained",
}  # fmt: skip
_MAKING = (Action.CREATE, Action.REPLACE, Action.ADOPT)


def _names(failed: Sequence[Result]) -> str:
    names = list(dict.fromkeys(result.change.object for result in failed))
    if len(names) <= 5:
        return ", ".join(names)
    kinds = grouped((r.change.object, r.error, r.evidence) for r in failed)
    return "; ".join(map(str, kinds[:2])) + (" …" if len(kinds) > 2 else "")


def _counted(changes: Sequence[Change]) -> str:
    many = Counter(change.action for change in changes)
    told = [
        f"{many[action]} {past}"
        for action, past in _PAST.items()
        if many[action] and action is not Action.VERIFY
    ]
    if not told and many[Action.VERIFY]:
        return f"{many[Action.VERIFY]} groups verified"
    return ", ".join(told)
