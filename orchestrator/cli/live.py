"""How the events of apply are shown: a live view on a terminal, plain lines in a pipe, JSON lines for machines.

Every view ends with one line that says what is true now.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from orchestrator.cli.board import Board
from orchestrator.cli.groups import MANY, Groups
from orchestrator.deploy.events import (
    Closed,
    Event,
    Finished,
    Noted,
    Planned,
    Progressed,
    Sink,
    Started,
    as_json,
)
from orchestrator.deploy.model import Action
from orchestrator.deploy.order import predicted
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.report import Ended, Report, Result
from orchestrator.units import format_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_EVERY = 5.0  # seconds between reports of many machines, in a pipe
_MARKS = {Ended.DONE: "✓", Ended.FAILED: "✗", Ended.SKIPPED: "-", Ended.INTERRUPTED: "-"}
_COLOURS = {Ended.DONE: "green", Ended.FAILED: "red", Ended.SKIPPED: "yellow", Ended.INTERRUPTED: "yellow"}


@contextmanager
def view(as_lines_of_json: bool = False, out: TextIO | None = None) -> Iterator[Sink]:
    """A sink for events, shown on ``out`` (stdout)."""
    target = out or sys.stdout
    with ExitStack() as stack:
        if as_lines_of_json:
            yield lambda event: print(json.dumps(as_json(event)), file=target, flush=True)
        elif target.isatty():
            yield stack.enter_context(_live(target))
        else:
            yield Lines(target)


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) sets ``stop``: what runs is finished. The second one leaves at once;
    the ledger's intents tell the next run what was going on."""

    def heard(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        print("stopping: what runs is finished first; Ctrl-C again leaves at once", file=sys.stderr)

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Lines:
    """One plain line for each change that ended; of many machines only how far each group is."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._width = 0
        self._many = False
        self._groups = Groups()
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        self._groups.feed(event, time.monotonic())
        for line in self._lines(event):
            print(line, file=self._out, flush=True)

    def _lines(self, event: Event) -> Iterator[str]:
        match event:
            case Planned(plan):
                self._width = max(len(change.object) for change in plan.work)
                self._many = self._many or len({change.object for change in plan.work}) > MANY
                yield f"{len(plan.work)} changes, about {format_duration(predicted(plan.work))}"
            case Finished(result) if not self._many:
                yield from finished(result, self._width)
            case Finished(_):
                yield from self._progress(time.monotonic())
            case Noted(text):
                yield text
            case Closed(report):
                yield from troubles(report) if self._many else ()
                yield report.summary
            case _:
                return

    def _progress(self, now: float) -> Iterator[str]:
        if now >= self._next:
            self._next = now + _EVERY
            yield from ("  ".join(filter(None, row)) for row in self._groups.rows(now))


def finished(result: Result, width: int = 0) -> Iterator[str]:
    """The lines that tell how one change ended."""
    change = result.change
    took = format_duration(result.seconds) if result.ended in (Ended.DONE, Ended.FAILED) else result.ended
    yield f"{_MARKS[result.ended]} {change.action:<9} {change.object:<{width}}  {took}"
    if result.ended is Ended.FAILED:
        yield f"    {result.error}"
        if result.evidence:
            yield f"    evidence: {result.evidence}"


@contextmanager
def _live(out: TextIO) -> Iterator[Sink]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out, highlight=False)
    board, groups = Board(), Groups()
    width, many = 0, False
    shown: list[Live] = []

    def render() -> RenderableType:
        return groups.render(time.monotonic()) if many else board.render()

    def begin(plan: Plan) -> None:
        nonlocal width, many
        width = max(len(change.object) for change in plan.work)
        many = many or len({change.object for change in plan.work}) > MANY
        board.total += len(plan.work)
        console.print(f"{len(plan.work)} changes, about {format_duration(predicted(plan.work))}")
        if not shown:
            live = Live(console=console, get_renderable=render, refresh_per_second=8, transient=True)
            live.start()
            shown.append(live)

    def sink(event: Event) -> None:
        groups.feed(event, time.monotonic())
        match event:
            case Planned(plan):
                begin(plan)
            case Started(change):
                board.running[change.id] = (change, time.monotonic(), change.reason)
            case Progressed(change, text) if change.id in board.running:
                board.running[change.id] = (*board.running[change.id][:2], text)
            case Finished(result):
                board.running.pop(result.change.id, None)
                board.ended[result.ended] += 1
                if not many:
                    for line in finished(result, width):
                        console.print(line, style=_COLOURS[result.ended], markup=False, soft_wrap=True)
            case Noted(text):
                console.print(text, markup=False, soft_wrap=True)
            case Closed(report):
                _stop(shown)
                for line in troubles(report) if many else ():
                    console.print(line, style="red", markup=False, soft_wrap=True)
                colour = "bold green" if report.exit_code == 0 else "bold red"
                console.print(report.summary, style=colour, markup=False, soft_wrap=True)
            case _:
                return

    try:
        yield sink
    finally:
        _stop(shown)


def troubles(report: Report) -> Iterator[str]:
    """The failures that still stand, those alike in one line."""
    for trouble in report.troubles:
        yield f"✗ {trouble}"
        if trouble.evidence:
            yield f"    evidence: {trouble.evidence}"


def _stop(shown: list[Live]) -> None:
    while shown:
        shown.pop().stop()


def waiting_for(change: Change) -> str:
    """What a change waits for, in words."""
    needs = [need for need in change.needs if not need.endswith(f":{change.object}")]
    return f"after {', '.join(needs)}" if needs and change.action is not Action.VERIFY else ""
