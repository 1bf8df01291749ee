"""Which processes belong to a machine, and how to end them.

Every process of a machine carries ``ORCHESTRATE_MACHINE=<root>`` in its environment, from its
supervisor on. So they are found even after the supervisor was killed; children that dropped their
environment are found through their parents.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MARK = "ORCHESTRATE_MACHINE"
_PROC = Path("/proc")


class Process(NamedTuple):
    """A process, told apart from a later one with the same number by its start time (clock ticks)."""

    pid: int
    started: str


def _stat(pid: int) -> tuple[str, int, str] | None:
    """State letter, parent and start time (proc(5)); None when it is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[1]), fields[19]


def _marked(pid: int, root: str) -> bool:
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
    return f"{MARK}={root}".encode() in environment.split(b"\0")


def belongs(pid: int, root: str) -> bool:
    """True when ``pid`` runs (is no zombie) and carries the mark of the machine at ``root``."""
    return _marked(pid, root)  # a zombie has no environment


def _pids() -> Iterator[int]:
    for name in os.listdir(_PROC):
        if name.isdigit():
            yield int(name)


def of_machine(root: str) -> set[Process]:
    """All live processes of the machine at ``root``, but never the caller or its ancestors."""
    stats = {pid: stat for pid in _pids() if (stat := _stat(pid)) is not None and stat[0] not in "ZX"}
    children: dict[int, list[int]] = {}
    for pid, (_, parent, _) in stats.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = [pid for pid in stats if _marked(pid, root)]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(children.get(pid, ()))
    mine = os.getpid()
    while mine in stats:
        found.discard(mine)
        mine = stats[mine][1]
    return {Process(pid, stats[pid][2]) for pid in found}


def _send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        stat = _stat(process.pid)
        if stat is not None and stat[2] == process.started:
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue


def kill(processes: Iterable[Process]) -> None:
    """End them at once (SIGKILL)."""
    _send(processes, signal.SIGKILL)


def _alive(processes: Iterable[Process]) -> set[Process]:
    return {
        process
        for process in processes
        if (stat := _stat(process.pid)) is not None and stat[2] == process.started and stat[0] not in "ZX"
    }


def wait_gone(processes: Iterable[Process], seconds: float) -> set[Process]:
    """Wait until all are gone, at most ``seconds``; return those that are not."""
    deadline = time.monotonic() + seconds
    left = _alive(processes)
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = _alive(left)
    return left


def end_all(root: str, *, grace: float = 5.0) -> None:
    """No process of the machine is left: SIGTERM, after ``grace`` seconds SIGKILL, until none is found."""
    seen = of_machine(root)
    _send(seen, signal.SIGTERM)
    wait_gone(seen, grace)
    for _ in range(50):  # a process may have forked between the look and the kill
        left = of_machine(root) | _alive(seen)
        if not left:
            return
        _send(left, signal.SIGKILL)
        wait_gone(left, 1.0)
