"""The live view of few machines: a line for each change that runs."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from orchestrator.deploy.plan import Change
from orchestrator.deploy.report import Ended

if TYPE_CHECKING:
    from rich.console import RenderableType


class Board:
    """What runs now, as a table that is drawn again and again."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[Change, float, str]] = {}
        self.ended: Counter[str] = Counter()
        self.total = 0
        self.started = time.monotonic()

    def render(self) -> RenderableType:
        """A line for each running change, and the sum."""
        from rich.spinner import Spinner
        from rich.table import Table

        now = time.monotonic()
        table = Table.grid(padding=(0, 1))
        rows = list(self.running.values())
        for change, since, text in rows[:12]:
            took = f"{now - since:.0f} s"
            words = f"{change.action:<9} {change.object}"
            table.add_row(Spinner("dots"), words, took, f"[dim]{plain(text)}[/dim]")
        if len(rows) > 12:
            table.add_row("", f"… and {len(rows) - 12} more", "", "")
        failed = f", [red]{self.ended[Ended.FAILED]} failed[/red]" if self.ended[Ended.FAILED] else ""
        done = sum(self.ended.values())
        table.add_row(
            "", f"[bold]{done}/{self.total} changes[/bold]{failed}", f"{now - self.started:.0f} s", ""
        )
        return table


def plain(text: str) -> str:
    """``text`` that rich takes as it is."""
    return text.replace("[", "\\[")
