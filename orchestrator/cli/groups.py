"""The live view of many machines: one line for each group, and the last failures. Pure but for rich."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.deploy.events import Finished, Planned, Started
from orchestrator.deploy.model import Action
from orchestrator.deploy.report import Ended, Result
from orchestrator.deploy.signature import grouped
from orchestrator.units import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType

MANY = 20  # machines; above that machines share a line
_RECENT = 60.0  # seconds that the rate is taken over
_DOING = {
    Action.CREATE: "making", Action.REPLACE: "replacing", Action.DESTROY: "destroying", Action.DRAIN: "draining",
    Action.CONFIGURE: "configuring", Action.VERIFY: "verifying", Action.ADOPT: "waiting for",
    Action.UNDRAIN: "undraining",
}  # fmt: skip


@dataclass
class Progress:
    """One group: how many changes there are, what is done, what runs, and how fast it goes."""

    total: int = 0
    ended: Counter[Ended] = field(default_factory=Counter)
    running: Counter[Action] = field(default_factory=Counter)
    recent: deque[float] = field(default_factory=deque)  # when the last ones ended

    def rate(self, now: float) -> float:
        """Changes per second, lately."""
        while self.recent and self.recent[0] < now - _RECENT:
            self.recent.popleft()
        return len(self.recent) / max(1.0, now - self.recent[0]) if len(self.recent) > 1 else 0.0

    def left(self, now: float) -> float | None:
        """Seconds until all have ended, if it goes on like that; None when that cannot be told."""
        todo, rate = self.total - sum(self.ended.values()), self.rate(now)
        return None if not todo or not rate else todo / rate


class Groups:
    """Fed with events; ``rows`` and ``failures`` say what is true now. Time is an argument."""

    def __init__(self) -> None:
        self.groups: dict[str, Progress] = {}
        self._failed: list[Result] = []

    def feed(self, event: object, now: float) -> None:
        """Take an event in."""
        match event:
            case Planned(plan):
                for change in plan.work:
                    self.groups.setdefault(change.group, Progress()).total += 1
            case Started(change):
                self.groups.setdefault(change.group, Progress()).running[change.action] += 1
            case Finished(result):
                group = self.groups.setdefault(result.change.group, Progress())
                group.ended[result.ended] += 1
                if group.running[result.change.action]:
                    group.running[result.change.action] -= 1
                if result.ended is Ended.DONE:
                    group.recent.append(now)
                if result.ended is Ended.FAILED:
                    self._failed.append(result)
            case _:
                return

    def rows(self, now: float) -> Iterator[tuple[str, str, str, str, str]]:
        """Group, share done, what runs, rate, time left."""
        for name, group in self.groups.items():
            done = f"{group.ended[Ended.DONE]}/{group.total}"
            doing = [f"{_DOING.get(action, action)} {many}" for action, many in group.running.items() if many]
            bad = [f"{group.ended[how]} {how}" for how in (Ended.FAILED, Ended.SKIPPED) if group.ended[how]]
            rate, left = group.rate(now), group.left(now)
            told = f"{rate:.1f}/s" if rate else ""
            yield name, done, ", ".join([*doing, *bad]), told, f"{format_duration(left)} left" if left else ""

    def failures(self, most: int = 3) -> list[str]:
        """The kinds of failure so far, the most frequent first."""
        kinds = grouped((r.change.object, r.error, r.evidence) for r in self._failed)
        return [f"{kind}" + (f" ({kind.evidence})" if kind.evidence else "") for kind in kinds[:most]]

    def render(self, now: float) -> RenderableType:
        """For the live view."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for row in self.rows(now):
            table.add_row(*(Text(cell) for cell in row))
        for text in self.failures():
            table.add_row(Text("✗", "red"), "", Text(text, overflow="ellipsis", no_wrap=True))
        return table
