"""Two `up`s of one site at once, as two processes of the real command line: one works, the other says who
does and since when; one that was paused while its lease was taken writes nothing when it wakes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from orchestrator.deploy import tables
from orchestrator.deploy.ledger import Ledger
from orchestrator.errors import TemporaryError
from tests.support.crash import Death, Moment, Running, run
from tests.support.crash_sites import SimSite, up

UP = ("up", "site.yaml")


class Shared(SimSite):
    """A simulated site whose ledger may be a database of a team."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, 2)
        self._url = url
        self.environment = {"LEDGER": url}

    def want(self, step: Any) -> None:
        super().want(step)
        if self._url:
            file = self.folder / "site.yaml"
            file.write_text(json.dumps(json.loads(file.read_text()) | {"ledger": {"env": "LEDGER"}}))

    def ledger(self) -> Ledger:
        return Ledger.open(self._url, "lab") if self._url else super().ledger()


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    url = ""
    if request.param == "postgresql":
        server = request.getfixturevalue("server")
        name = f"lease{os.getpid()}_{time.monotonic_ns()}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        url = server.replace("/grid?", f"/{name}?")
    monkeypatch.setenv("LEDGER", url)
    made = Shared(tmp_path / "site", url)
    made.want(up(2))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def paused(site: Shared) -> Iterator[Running]:
    """An `up` that stopped itself (SIGSTOP) right after its first intents were written."""
    with stopped(site, "after") as running:
        yield running


@contextlib.contextmanager
def stopped(site: Shared, moment: Moment) -> Iterator[Running]:
    running = Running(site.folder, UP, Death(moment, write=4, by=signal.SIGSTOP))
    try:
        until(lambda: running.stopped)
        yield running
    finally:
        if running.alive:
            os.kill(running.pid, signal.SIGKILL)
            running.end()


def until(look: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def done(ledger: Ledger, statement: sa.Update) -> bool:
    """Whether it is; not while somebody holds a lock on the row."""
    try:
        with ledger.transaction() as connection:
            connection.execute(statement)
    except TemporaryError:
        return False
    return True


def written(ledger: Ledger) -> dict[str, list[Any]]:
    """All that the ledger holds of the site, the lease too."""
    with ledger.transaction() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table))))
            for table in (*tables.OF_SITE, tables.lease)
        }


def test_one_works_and_the_other_says_who_does_and_since_when(site: Shared, paused: Running) -> None:
    ledger = site.ledger()
    held = ledger.lease()
    before = written(ledger)
    assert held is not None
    second = run(site.folder, UP)
    assert second.code == 3
    said = " ".join(second.said.split())
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held[1]))
    assert f"process {paused.pid} since {since}" in said
    assert f"{json.loads(held[0])['user']}@{json.loads(held[0])['host']}" in said
    assert written(ledger) == before
    ledger.close()
    os.kill(paused.pid, signal.SIGCONT)
    first = paused.end()
    assert first.code == 0, first.said
    assert site.troubles(up(2)) == []


def test_a_paused_holder_that_wakes_after_its_lease_was_taken_writes_nothing(
    site: Shared, paused: Running
) -> None:
    taken_over(site, paused, 4, "another orchestrate took over")


@pytest.mark.parametrize("site", ["postgresql"], indirect=True)
def test_nor_does_one_that_was_paused_within_a_transaction_which_it_does_not_block(site: Shared) -> None:
    with stopped(site, "before") as running:
        taken_over(site, running, 3, "the ledger of lab does not answer")


def taken_over(site: Shared, paused: Running, code: int, said: str) -> None:
    ledger = site.ledger()
    late = tables.lease.update().values(expires=time.time() - 1)  # its time is over
    until(lambda: done(ledger, late))
    second = run(site.folder, UP)
    assert second.code == 0, second.said
    assert site.troubles(up(2)) == []
    before = written(ledger)
    os.kill(paused.pid, signal.SIGCONT)
    first = paused.end()
    assert (first.code, said in " ".join(first.said.split())) == (code, True), first.said
    assert written(ledger) == before
    ledger.close()
    assert site.troubles(up(2)) == []
