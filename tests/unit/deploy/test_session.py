"""The lease: one holder, fenced by its epoch; intents survive; a stale holder writes nothing."""

import json
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from orchestrator.deploy.holder import myself, surely_dead, told
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Action, IntentState, Override, Stage
from orchestrator.deploy.plan import Change
from orchestrator.deploy.session import LeaseHeld, LeaseLost, Session, acquire
from orchestrator.runtime.clock import SystemClock

MAKE = Change("create:m-1", Action.CREATE, "m-1", "m", "worker", "local", "it is missing")
DESTROY = Change("destroy:m-1", Action.DESTROY, "m-1", "m", "worker", "local", "too many")


class HandClock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.time += seconds
        return event.is_set()


def never(holder: str) -> bool:
    return False


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.of_file(tmp_path / "state" / "ledger.db", "lab")


def test_the_file_is_private_and_its_tables_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.db"
    Ledger.of_file(path, "lab").close()
    Ledger.of_file(path, "lab").close()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_the_second_holder_is_told_who_works_and_since_when(ledger: Ledger) -> None:
    clock = HandClock()
    with acquire(ledger, myself(), clock, never):
        with pytest.raises(LeaseHeld, match=told(myself())) as caught:
            acquire(ledger, "somebody", clock, never)
        assert caught.value.facts["since"] == 1000.0
    with acquire(ledger, "somebody", clock, never) as session:
        assert session.epoch == 2


def test_a_stale_holder_writes_nothing_at_all(ledger: Ledger) -> None:
    clock = HandClock()
    old = acquire(ledger, "old", clock, never, ttl=10)
    (intent,) = old.open([MAKE])
    clock.time += 11
    new = acquire(ledger, "new", clock, never, ttl=10)
    writes = [
        lambda: old.open([DESTROY]),
        lambda: old.close([(intent, MAKE, IntentState.DONE, "", "")]),
        lambda: old.decided([MAKE]),
        lambda: old.scale("m", Override(3, 1)),
        lambda: old.observed("m-1", {"a": 1}),
        lambda: old.seen(["m-1"]),
        lambda: old.settle([]),
        old.forget,
    ]
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert [i.state for i in ledger.intents("m-1")] == [IntentState.OPEN]
    assert ledger.decisions("m-1") == ()
    assert ledger.overrides() == {}
    new.close([(intent, MAKE, IntentState.DONE, "", "")])
    assert ledger.records()["m-1"].stage is Stage.CREATED


def test_intents_and_stages_follow_each_other(ledger: Ledger) -> None:
    with acquire(ledger, "me", HandClock(), never) as session:
        (first,) = session.open([MAKE])
        assert ledger.records()["m-1"].stage is Stage.CREATING
        session.close([(first, MAKE, IntentState.DONE, "", "")])
        session.seen(["m-1", "unknown"])
        assert ledger.records()["m-1"].stage is Stage.READY
        (second,) = session.open([DESTROY], keep_data=True)
        assert ledger.open_intents()[0].keep_data
        session.close([(second, DESTROY, IntentState.DONE, "", "")])
        assert ledger.records() == {}


def test_a_new_intent_closes_what_was_left_open_on_the_same_machine(ledger: Ledger) -> None:
    clock = HandClock()
    acquire(ledger, "killed", clock, never).open([DESTROY])
    with acquire(ledger, "next", clock, lambda holder: True) as session:
        (fresh,) = session.open([MAKE])
        assert [i.id for i in ledger.open_intents()] == [fresh]


def test_predictions_come_from_what_went_well(ledger: Ledger) -> None:
    clock = HandClock()
    with acquire(ledger, "me", clock, never) as session:
        for seconds, state in ((2, IntentState.DONE), (4, IntentState.DONE), (90, IntentState.FAILED)):
            (intent,) = session.open([MAKE])
            clock.time += seconds
            session.close([(intent, MAKE, state, "", "")])
    assert ledger.seconds() == {("create", "worker"): 3.0}


def test_sites_in_one_ledger_do_not_see_each_other(ledger: Ledger) -> None:
    other = Ledger(ledger.engine, "other")
    with acquire(ledger, "a", HandClock(), never) as mine, acquire(other, "b", HandClock(), never) as theirs:
        mine.open([MAKE])
        theirs.forget()
        assert other.open_intents() == ()
        assert len(ledger.open_intents()) == 1


HOLDER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from orchestrator.deploy.holder import myself, surely_dead
    from orchestrator.deploy.ledger import Ledger
    from orchestrator.deploy.model import Action
    from orchestrator.deploy.plan import Change
    from orchestrator.deploy.session import LeaseLost, acquire
    from orchestrator.runtime.clock import SystemClock

    ledger = Ledger.of_file(Path(sys.argv[1]), "lab")
    session = acquire(ledger, myself(), SystemClock(), surely_dead, ttl=float(sys.argv[2]))
    with session:
        print("held", flush=True)
        sys.stdin.readline()
        try:
            session.open([Change("x", Action.CREATE, "x", "m", "worker", "local", "")])
            print("wrote", flush=True)
        except LeaseLost:
            print("lost", flush=True)
    """
)


def start(path: Path, ttl: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLDER, str(path), str(ttl)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lease_of_a_killed_process_of_this_host_is_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    process = start(path, ttl=3600)
    ledger = Ledger.of_file(path, "lab")
    with pytest.raises(LeaseHeld):
        acquire(ledger, myself(), SystemClock(), surely_dead)
    process.kill()
    process.wait()
    assert acquire(ledger, myself(), SystemClock(), surely_dead).epoch == 2


def test_a_paused_holder_that_wakes_after_its_lease_was_taken_writes_nothing(tmp_path: Path) -> None:
    import os
    import signal

    path = tmp_path / "ledger.db"
    process = start(path, ttl=0.6)
    ledger = Ledger.of_file(path, "lab")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        session = eventually(ledger)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    out, _ = process.communicate("go\n", timeout=20)
    assert out == "lost\n"
    assert ledger.intents("x") == ()
    assert session.epoch == 2


def eventually(ledger: Ledger) -> Session:
    until = time.monotonic() + 10
    while True:
        try:
            return acquire(ledger, myself(), SystemClock(), surely_dead, ttl=60)
        except LeaseHeld:
            assert time.monotonic() < until
            threading.Event().wait(0.05)


def test_a_living_holder_keeps_renewing(ledger: Ledger) -> None:
    with acquire(ledger, "me", SystemClock(), never, ttl=0.3):
        first = ledger.lease()
        until = time.monotonic() + 5
        while ledger.lease() == first:
            assert time.monotonic() < until
            threading.Event().wait(0.02)
    assert ledger.lease() is None


def test_a_holder_that_cannot_be_judged_is_not_dead() -> None:
    assert not surely_dead(myself())
    assert not surely_dead("nonsense")
    data = json.loads(myself())
    assert not surely_dead(json.dumps(data | {"boot": "another host"}))
    assert not surely_dead(json.dumps(data | {"boot": ""}))
    assert surely_dead(json.dumps(data | {"start": "1"}))
