"""The deploy plane cut short at its ledger writes: a verb of the real command line, in a process of its own
that sends itself SIGKILL (or SIGSTOP) right before or right after a commit; and what that write is about.

A child is forked from the test, so that it need not import everything again; nothing in it is replaced,
it only listens to the ledger's engine.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

import orchestrator.deploy.commands
import orchestrator.wiring.deploy  # noqa: F401 - so are these: a forked child has them at once
from orchestrator.cli import main as cli

Moment = Literal["before", "after"]
Kinds = frozenset[str]  # what one write is about, such as "open create worker" and "done create worker"
_LONGEST = 180.0  # seconds of one verb
_numbers = itertools.count()


@dataclass(frozen=True)
class Death:
    """When the process dies: at its write number ``write``, or (0) at the first that is about something
    not in ``known``. ``whole``: what it has started dies with it; else its Ansible, say, goes on."""

    moment: Moment
    write: int = 0
    known: Collection[str] = ()
    whole: bool = False
    by: signal.Signals = signal.SIGKILL

    def due(self, number: int, kinds: Kinds) -> bool:
        return number == self.write if self.write else not kinds <= set(self.known)


@dataclass(frozen=True)
class Ended:
    """How a verb ended: ``code`` is negative when it was killed; its writes, the last one may be lost."""

    code: int
    writes: tuple[Kinds, ...]
    said: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Running:
    """A verb under way in a process of its own; its writes and what it says go to files in ``folder``."""

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        death: Death | None = None,
        environment: Mapping[str, str] | None = None,
        act: Callable[[], object] = cli.run,
    ) -> None:
        """``orchestrate words`` (or else ``act``) begins in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        unique = f"{os.getpid()}-{next(_numbers)}"
        self._trace, self._said = folder / f"writes-{unique}", folder / f"said-{unique}"
        self._trace.touch()
        arguments = (folder, self._trace, self._said, words, death, dict(environment or {}), act)
        self._process = multiprocessing.get_context("fork").Process(target=_child, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.exitcode is None

    @property
    def stopped(self) -> bool:
        """SIGSTOP has stopped it."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def end(self, seconds: float = _LONGEST) -> Ended:
        """How it ended; it is killed, and AssertionError raised, when it does not."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        writes = tuple(frozenset(line.split(",")) for line in self._trace.read_text().splitlines())
        said = self._said.read_text()
        for file in (self._trace, self._said):
            file.unlink()
        assert code is not None, f"it hangs after {len(writes)} writes: {said}"
        return Ended(code, writes, said)


def run(
    folder: Path,
    words: Sequence[str],
    death: Death | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """``orchestrate words`` in ``folder``, to its end or its death."""
    return Running(folder, words, death, environment).end()


def _child(
    folder: Path,
    trace: Path,
    told: Path,
    words: Sequence[str],
    death: Death | None,
    environment: Mapping[str, str],
    act: Callable[[], object],
) -> None:
    os.setsid()
    os.chdir(folder)
    said = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), said, said)):
        os.dup2(file, number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - they live as long as the process
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.update(environment)
    sys.argv = ["orchestrate", *words]
    watch = Watch(trace, death)
    sa.event.listen(sa.Engine, "before_execute", watch.statement)
    sa.event.listen(sa.Engine, "commit", watch.commit)
    act()


@dataclass
class Watch:
    """Sees every ledger write of this process: tells it in ``trace``, and kills the process at one."""

    trace: Path
    death: Death | None
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    about: dict[int, set[str]] = field(default_factory=dict)  # connection → kinds of its open transaction

    def statement(self, connection: sa.Connection, what: Any, many: Any, one: Any, _: object) -> None:
        rows = list(many) or ([one] if one else [{}])
        found = {kind for row in rows for kind in _kinds(connection, what, row)}
        if found:
            self.about.setdefault(id(connection.connection.driver_connection), set()).update(found)

    def commit(self, connection: sa.Connection) -> None:
        raw = connection.connection.driver_connection
        assert raw is not None
        with self.lock:
            kinds = frozenset(self.about.pop(id(raw), ()))
            if not kinds:
                return  # it only read
            self.count += 1
            with self.trace.open("a") as trace:
                trace.write(",".join(sorted(kinds)) + "\n")
            if self.death is None or not self.death.due(self.count, kinds):
                return
            if self.death.moment == "after":
                raw.commit()
            (os.killpg if self.death.whole else os.kill)(os.getpid(), self.death.by)


def _kinds(connection: sa.Connection, what: Any, row: Mapping[str, Any]) -> Iterator[str]:
    """What one statement with these values writes."""
    if isinstance(what, sa.schema.ExecutableDDLElement):
        yield "tables"
    if not isinstance(what, sa.sql.dml.UpdateBase) or not isinstance(what.table, sa.Table):
        return
    values = {**what.compile().params, **row}
    match what.table.name, what:
        case "intent", sa.Insert():
            yield f"open {values['action']} {values['role']}"
        case "intent", sa.Update() if "intent" in row:
            found = connection.exec_driver_sql(
                f"SELECT action, role FROM intent WHERE id = {row['intent']:d}"
            )
            yield " ".join((str(values["state"]), *found.one()))
        case "intent", sa.Update():
            yield "taken up again"
        case "machine", sa.Delete() if "called" in row:
            yield "machine gone"
        case "machine", sa.Insert() | sa.Update():
            yield f"machine {values['stage']}"
        case "lease", _:
            given_back = values["expires"] == 0.0
            yield "lease taken" if "since" in values else "lease given back" if given_back else "lease"
        case name, sa.Delete():
            yield f"{name} emptied"
        case name, _:
            yield str(name)
