"""The decisions of manager and broker, by tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.errors import UserError
from orchestrator.jobs import model
from orchestrator.jobs.kind import JobKind
from orchestrator.tasks import decide
from orchestrator.tasks.decide import Step, Waiting, fits, judge, overdue, rank, wide_first
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.model import Assignment, Beat, Claimed, Command, Output, Report, ReportResult

KIND = JobKind(None)
TASK = Task(
    id=7, kind="job", parent=None, owner="ada", state="RUNNING", priority=1.0, attempt=2, max_attempts=3,
    task_class=1, spec={}, resource="node-1", site="CERN", seq=4, submitted=0.0, changed=0.0, reason="", result={},
)  # fmt: skip
DAY = 86400.0


def ids(*classes: Waiting) -> list[int]:
    return [each.id for each in sorted(classes, key=rank)]


def waiting(number: int, **more: float) -> Waiting:
    values = {"best_priority": 1.0, "oldest": 0.0, "factor": 1.0} | more
    return Waiting(number, "job", "ada", "", 1, **values)


def test_order_of_classes() -> None:
    assert ids(waiting(1, best_priority=1), waiting(2, best_priority=2)) == [2, 1]
    assert ids(waiting(1, factor=0.1), waiting(2)) == [2, 1]
    assert ids(waiting(1, oldest=5), waiting(2, oldest=4)) == [2, 1]
    assert ids(waiting(2), waiting(1)) == [1, 2]


def test_nobody_waits_for_ever() -> None:
    """A class of the lowest share goes before whatever comes a day after it."""
    old = waiting(1, factor=0.01, oldest=0)
    assert ids(old, waiting(2, oldest=DAY / 2)) == [2, 1]
    assert ids(old, waiting(2, oldest=DAY)) == [1, 2]


def test_wide_ones_go_first_for_a_while() -> None:
    cores = {1: 1.0, 2: 8.0, 3: 4.0}

    def order(*oldest: float) -> list[int]:
        classes = sorted((waiting(n, oldest=at) for n, at in enumerate(oldest, 1)), key=rank)
        return [each.id for each in wide_first(classes, lambda number: cores[number], 600.0)]

    assert order(0, 500, 300) == [2, 3, 1]
    assert order(0, 700, 300) == [1, 2, 3]  # the narrow one has waited ten minutes longer
    assert order(0, 2000, 1000) == [1, 3, 2]


@pytest.mark.parametrize(
    ("free", "need", "count", "wanted"),
    [
        ({"Cores": 8, "Memory": 16}, {"Cores": 2, "Memory": 3}, 10, 4),
        ({"Cores": 8, "Memory": 7}, {"Cores": 2, "Memory": 3}, 10, 2),
        ({"Cores": 8}, {"Cores": 1, "Memory": 3}, 3, 3),
        ({"Cores": 1}, {"Cores": 2}, 3, 0),
        ({"Cores": -1}, {"Cores": 2}, 3, 0),
        ({}, {}, 3, 3),
    ],
)
def test_packing(free: dict[str, float], need: dict[str, float], count: int, wanted: int) -> None:
    assert fits(free, need, count) == wanted


@pytest.mark.parametrize(
    ("state", "attempt", "to", "verdict", "step"),
    [
        ("RUNNING", 2, "SAVING", "accept", Step("SAVING", "r")),
        ("RUNNING", 1, "SAVING", "stale", None),
        ("RUNNING", 3, "SAVING", "stale", None),
        ("RUNNING", 2, "DONE", "illegal", None),
        ("RUNNING", 2, "KILLED", "illegal", None),
        ("RUNNING", 2, "ZOMBIE", "illegal", None),
        ("RUNNING", 2, "NONSENSE", "illegal", None),
        ("RUNNING", 2, "WAITING", "accept", Step("WAITING", "r", again=True, free=True)),
        ("KILLED", 2, "SAVING", "stale", None),
        ("WAITING", 2, "STARTED", "stale", None),
        ("ASSIGNED", 2, "ERROR_A", "accept", Step("WAITING", "r", again=True)),
        ("ZOMBIE", 2, "SAVING", "accept", Step("SAVING", "r")),
        ("ZOMBIE", 2, "DONE", "illegal", None),
    ],
)
def test_reports(state: str, attempt: int, to: str, verdict: str, step: Step | None) -> None:
    found = judge(KIND, replace(TASK, state=state), Report(7, attempt, to, "r"), False, "RUNNING")
    assert (found.verdict, found.step) == (verdict, step)
    assert (found.why == "") is (verdict == "accept")


def test_the_last_attempt_that_never_started_is_an_error() -> None:
    last = replace(TASK, state="ASSIGNED", attempt=3)
    assert judge(KIND, last, Report(7, 3, "ERROR_A", "r"), False, None).step == Step("ERROR_A", "r")


def test_a_report_delivered_again() -> None:
    assert judge(KIND, TASK, Report(7, 2, "STARTED"), True, None).verdict == "repeated"
    assert judge(KIND, TASK, Report(7, 1, "STARTED"), True, None).verdict == "stale"


@pytest.mark.parametrize("state", sorted(model.LIFE))
def test_whatever_is_overdue_makes_a_legal_move_or_none(state: str) -> None:
    for attempt in (2, 3):
        step = overdue(KIND, replace(TASK, state=state, attempt=attempt))
        expected = state in model.ACTIVE | {"WAITING", "ZOMBIE"} or (state == "EXPIRED" and attempt == 2)
        assert (step is not None) is expected
        if step is not None:
            assert step.to in model.LIFE[state]
            assert step.again == (step.to == "WAITING")


def test_back_off_grows_to_a_minute() -> None:
    assert [decide.retry_in(n) for n in (0, 1, 5, 6, 1000)] == [1, 2, 32, 60, 60]


OUTPUT = Output("/v/a", "g", 1, "m", "a", "SE", "/p")
VALUES = [
    Assignment(1, 2, "job", {"TTL": 1}, "t", "ada", "CERN", 3.5),
    Claimed((Assignment(1, 2, "job", {}, "t", "ada", "CERN", 3.0),), 1.5),
    Report(1, 2, "DONE", "r", {"exit": 0}, (OUTPUT,)),
    ReportResult(1, False, "stale", "KILLED"),
    Beat(1, 2, {"cpu": 1.5}),
    Command(1, 2, 3, "kill", {"x": 1}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_travels_is_read_back(value: object) -> None:
    assert type(value).from_json(value.to_json()) == value  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrong", [None, [], 3, {"task": "x"}, {"task": True}, {"task": 2**63, "attempt": 1}])
def test_what_is_malformed_is_a_user_error(value: object, wrong: object) -> None:
    with pytest.raises(UserError):
        type(value).from_json(wrong)  # type: ignore[attr-defined]
