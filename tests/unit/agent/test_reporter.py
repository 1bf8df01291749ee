"""Reports of a job keep their order, whatever the line does."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.agent.reporter import Reporter
from orchestrator.errors import NotAllowed, TemporaryError
from orchestrator.tasks.model import Report, ReportResult


class Line:
    """Fails ``failures`` times, refuses the states in ``bad``."""

    def __init__(self, failures: int = 0, bad: Sequence[str] = ()) -> None:
        self.failures, self.bad = failures, bad
        self.calls: list[list[str]] = []

    async def __call__(self, reports: Sequence[Report]) -> list[ReportResult]:
        self.calls.append([report.to for report in reports])
        if self.failures:
            self.failures -= 1
            raise TemporaryError("away", retry_in=0.0)
        return [
            ReportResult(r.task, r.to not in self.bad, "stale" if r.to in self.bad else "", r.to)
            for r in reports
        ]


def _reports(*states: str) -> list[Report]:
    return [Report(1, 1, to) for to in states]


async def test_what_waits_together_goes_together_in_order() -> None:
    line, refused = Line(), list[str]()
    reporter = Reporter(line, refused.append)
    reporter.put(*_reports("STARTED", "RUNNING"))
    reporter.put(*_reports("SAVING"))
    await reporter.flush()
    reporter.put(*_reports("DONE"))
    await reporter.flush()
    assert line.calls == [["STARTED", "RUNNING", "SAVING"], ["DONE"]]
    assert refused == []


async def test_a_line_that_fails_is_tried_again_with_all() -> None:
    line, refused = Line(failures=1), list[str]()
    reporter = Reporter(line, refused.append)
    reporter.put(*_reports("STARTED"))
    await reporter.flush()
    assert line.calls == [["STARTED"], ["STARTED"]]


async def test_after_a_refusal_nothing_more_is_sent() -> None:
    line, refused = Line(bad=("RUNNING",)), list[str]()
    reporter = Reporter(line, refused.append)
    reporter.put(*_reports("STARTED", "RUNNING", "SAVING"))
    await reporter.flush()
    reporter.put(*_reports("DONE"))
    await reporter.flush()
    assert refused == ["stale"]
    assert line.calls == [["STARTED", "RUNNING", "SAVING"]]


async def test_a_token_that_is_no_longer_accepted_is_a_refusal() -> None:
    async def closed(_: Sequence[Report]) -> list[ReportResult]:
        raise NotAllowed("expired")

    refused: list[str] = []
    reporter = Reporter(closed, refused.append)
    reporter.put(*_reports("DONE"))
    await reporter.flush()
    assert refused == ["expired"]
