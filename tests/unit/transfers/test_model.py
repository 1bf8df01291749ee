"""The life of a transfer over all pairs of states, what the manager makes of reports, and what an FTD is told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from orchestrator import states
from orchestrator.classads import Ad, Expression
from orchestrator.tasks import decide
from orchestrator.tasks.kinds import Kind, Task
from orchestrator.tasks.model import Report
from orchestrator.transfers import model
from orchestrator.transfers.ftd import ftd_ad as resource_ad
from orchestrator.transfers.kind import TransferKind, ftd_ad
from orchestrator.transfers.model import LIFE, Leg

KIND = TransferKind(None)
_KIND: Kind = KIND  # it is one

# The table once more, as the design has it: a state, and where it may go.
LEGAL = {
    "INSERTING": "WAITING STAGING TRANSFERRING DONE FAILED EXPIRED KILLED",
    "WAITING": "ASSIGNED INSERTING EXPIRED KILLED",
    "ASSIGNED": "STAGING TRANSFERRING CLEANING FAILED ZOMBIE WAITING KILLED",
    "STAGING": "TRANSFERRING DONE INSERTING EXPIRED FAILED ZOMBIE WAITING KILLED",
    "TRANSFERRING": "CLEANING DONE INSERTING EXPIRED FAILED ZOMBIE WAITING KILLED",
    "CLEANING": "DONE FAILED ZOMBIE WAITING KILLED",
    "ZOMBIE": "ASSIGNED STAGING TRANSFERRING CLEANING LOST KILLED",
    "LOST": "WAITING",
    "DONE": "",
    "FAILED": "",
    "EXPIRED": "",
    "KILLED": "",
}


@pytest.mark.parametrize(("old", "new"), itertools.product(LEGAL, LEGAL))
def test_every_pair_of_states(old: str, new: str) -> None:
    if new in LEGAL[old].split():
        assert states.advance(LIFE, old, new) == new
    else:
        with pytest.raises(states.IllegalTransition):
            states.advance(LIFE, old, new)


def test_the_table_is_closed() -> None:
    assert LIFE.keys() == LEGAL.keys()
    assert all(not LIFE[state] for state in model.FINAL - {model.LOST})
    assert KIND.active < LIFE.keys()
    assert KIND.reportable < LIFE.keys()
    assert {KIND.silent, KIND.lost, KIND.never_started, KIND.overwaited} < LIFE.keys()


def task(state: str, attempt: int = 1, **spec: Any) -> Task:
    return Task(
        7, "transfer", None, "ada", state, 1.0, attempt, 5, 3, spec, "ftd", "here", 4, 0.0, 0.0, "", {}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "attempt", "to", "verdict", "goes"),
    [
        ("ASSIGNED", 1, "TRANSFERRING", "accept", "TRANSFERRING"),
        ("TRANSFERRING", 1, "DONE", "accept", "DONE"),
        ("TRANSFERRING", 1, "FAILED", "accept", "WAITING"),  # attempts are left
        ("TRANSFERRING", 5, "FAILED", "accept", "FAILED"),  # it persevered
        ("TRANSFERRING", 1, "WAITING", "accept", "WAITING"),
        ("ASSIGNED", 1, "DONE", "illegal", None),
        ("TRANSFERRING", 1, "INSERTING", "illegal", None),
        ("INSERTING", 1, "DONE", "stale", None),
        ("KILLED", 1, "DONE", "stale", None),
    ],
)
def test_reports(state: str, attempt: int, to: str, verdict: str, goes: str | None) -> None:
    found = decide.judge(KIND, task(state, attempt), Report(7, attempt, to), False, None)
    assert (found.verdict, found.step.to if found.step else None) == (verdict, goes)
    other = decide.judge(KIND, task(state, attempt), Report(7, attempt + 1, to), False, None)
    assert other.verdict == "stale"


def test_silence_is_another_attempt_and_at_last_the_end() -> None:
    line = ["TRANSFERRING"]
    while (step := decide.overdue(KIND, task(line[-1]))) is not None and step.to != "WAITING":
        line.append(step.to)
    assert (line, step and step.again) == (["TRANSFERRING", "ZOMBIE", "LOST"], True)
    assert decide.overdue(KIND, task("LOST", 5)) is None
    assert decide.overdue(KIND, task("WAITING")).to == "EXPIRED"  # type: ignore[union-attr]


SPEC = {
    "role": "fetch",
    "lfn": "/vo/f",
    "guid": "g",
    "pfn": "/ab/g",
    "content": {"size": 5, "md5": "0" * 32},
    "source": {"se": "a", "url": "https://a/ab/g"},
    "target": {"se": "b", "url": "https://b/ab/g"},
}


def test_an_assignment_carries_both_envelopes() -> None:
    kind = TransferKind(None, lambda pfn, method, size, md5: f"{method} {pfn} {size} {md5[:2]}")
    leg = Leg.of(kind.payload(SPEC))
    assert (leg.source.envelope, leg.target.envelope) == ("GET a:/ab/g 5 00", "PUT b:/ab/g 5 00")
    clean = Leg.of(kind.payload(SPEC | {"role": "clean"}))
    assert clean.target.envelope == "DELETE b:/ab/g 5 00"
    assert Leg.of(leg.to_json()) == leg
    local = SPEC | {"source": {"se": "a", "url": "file:///a"}}
    assert Leg.of(kind.payload(local)).source.envelope == ""


@pytest.mark.parametrize(
    "broken", [{}, {"role": "dance"}, {"content": {"size": "x"}}, {"source": 5}, {"target": {"se": "a"}}]
)
def test_what_is_no_leg_is_refused(broken: dict[str, Any]) -> None:
    whole = TransferKind(None).payload(SPEC) | broken
    with pytest.raises((KeyError, TypeError, ValueError)):
        Leg.of(whole if broken else {})


def _ftd(**more: Any) -> Ad:
    asks = {"Requirements": Expression.parse('other.Type == "transfer" && other.Small')}
    return Ad(resource_ad("box", ["b"], (3 << 30) + 5, ["https"]) | asks | more)


def test_only_an_ftd_near_the_storage_element_that_knows_the_protocol_takes_it() -> None:
    ad = ftd_ad("ada", SPEC, "b")
    near = _ftd()
    assert (ad.accepts(near), near.accepts(ad)) == (True, True)
    assert near.values["FreeCache"] == 3 << 30
    for other in (_ftd(CloseSE=["c"]), _ftd(Protocols=["file"]), _ftd(Type="machine")):
        assert not ad.accepts(other)
    large = ftd_ad("ada", SPEC | {"content": {"size": 1 << 40, "md5": "0" * 32}}, "b")
    assert not near.accepts(large)
    mixed = ftd_ad("ada", SPEC | {"source": {"se": "a", "url": "file:///a"}}, "b")
    assert not mixed.accepts(near)
    assert mixed.accepts(_ftd(Protocols=["https", "file"]))
    worker = Ad({"Type": "machine", "Requirements": Expression.parse('other.Type == "job"')})
    assert not worker.accepts(ad)
