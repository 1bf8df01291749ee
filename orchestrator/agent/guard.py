"""The guard: a process of the agent's that runs one payload and leaves none of its processes behind.

It is forked, not executed, so it costs milliseconds and needs no file. It is the reaper of all
processes below it (PR_SET_CHILD_SUBREAPER, prctl(2)): one that detaches itself from its parent comes
back to the guard. When the agent dies, even by SIGKILL, the guard's socket ends and it kills them all;
when the guard dies, the payload gets SIGKILL (PR_SET_PDEATHSIG). With a ``uid`` the payload is of that
account; the guard stays the agent's, so the payload cannot touch it.

The agent writes single letters: ``T`` SIGTERM to all, ``K`` SIGKILL to all. The guard writes JSON
lines: {"pid"} or {"failed"} once, {"status", "rss"} when the payload's first process has ended, and
{"cpu"} when no process is left.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from orchestrator.agent import isolation, processes

_PDEATHSIG, _SUBREAPER = 1, 36  # <linux/prctl.h>
PATIENCE = 10.0  # seconds in which killed processes must be gone
_Prctl = Callable[..., int]


@dataclass(frozen=True)
class Program:
    """What is run: ``path`` with ``arguments``; stdin is empty, output is appended to the two files."""

    path: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    stdout: str
    stderr: str
    uid: int | None = None  # of its own; None: the agent's


def start(program: Program) -> tuple[int, socket.socket]:
    """Run ``program`` under a new guard; returns the guard's pid and our end of its socket.

    To be called from the main thread. The caller waits for the pid after the socket has ended.
    """
    ours, theirs = socket.socketpair()
    prctl: _Prctl = ctypes.CDLL(None, use_errno=True).prctl  # found before the fork, where it is safe
    pid = os.fork()
    if pid == 0:
        try:
            gc.disable()
            _guard(program, theirs, prctl)
        finally:
            os._exit(70)
    theirs.close()
    return pid, ours


def _guard(program: Program, control: socket.socket, prctl: _Prctl) -> NoReturn:
    signal.set_wakeup_fd(-1)
    os.setsid()
    _close_all_but(control.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    prctl(_SUBREAPER, 1, 0, 0, 0)
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    broken, breaker = os.pipe2(os.O_CLOEXEC)
    guard = os.getpid()
    payload = os.fork()
    if payload == 0:
        _become(program, prctl, guard, breaker)
    os.close(breaker)
    reason = os.read(broken, 1000)
    _tell(control, {"failed": reason.decode(errors="replace")} if reason else {"pid": payload})
    _watch(payload, control, wake)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    _tell(control, {"cpu": used.ru_utime + used.ru_stime})
    os._exit(0)


def _watch(payload: int, control: socket.socket, wake: int) -> None:
    """Return when no process is left, or those that are cannot be found."""
    killing = False
    give_up = float("inf")
    while True:
        alive, ended = _reap(payload, control)
        if not alive:
            return
        if ended or killing:
            give_up = min(give_up, time.monotonic() + PATIENCE)
            _signal_all(payload, signal.SIGKILL)
            if time.monotonic() > give_up:
                return
        killing = killing or ended
        watched: list[Any] = [wake, *([] if control.fileno() < 0 else [control])]
        ready, _, _ = select.select(watched, [], [], 0.02 if killing else None)
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
        if control in ready:
            orders = _orders(control)
            if orders is None or b"K" in orders:
                killing = True
            elif b"T" in orders:
                _signal_all(payload, signal.SIGTERM)
            if orders is None:
                control.close()


def _orders(control: socket.socket) -> bytes | None:
    try:
        return control.recv(64) or None
    except OSError:
        return None


def _reap(payload: int, control: socket.socket) -> tuple[bool, bool]:
    """Whether children are left, and whether the payload's first process ended in this call."""
    ended = False
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return False, ended
        if pid == 0:
            return True, ended
        if pid == payload:
            ended = True
            _tell(control, {"status": os.waitstatus_to_exitcode(status), "rss": used.ru_maxrss * 1024})


def _signal_all(payload: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(payload, number)
    for one in processes.descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one.pid, number)


def _become(program: Program, prctl: _Prctl, guard: int, breaker: int) -> NoReturn:
    """Become the payload; what hinders it is written to ``breaker``."""
    step = "prepare"
    try:
        os.setsid()
        if program.uid is not None:
            isolation.become(program.uid, prctl)
        prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)  # a change of account would clear it
        if os.getppid() != guard:
            os._exit(70)
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ,
        ):  # fmt: skip
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(0o077)
        os.chdir(program.directory)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for target, name, flags in (
            (0, "/dev/null", os.O_RDONLY),
            (1, program.stdout, append),
            (2, program.stderr, append),
        ):
            with contextlib.suppress(OSError):  # the agent may have been started without it
                os.close(target)
            opened = _open(name, flags)
            if opened != target:
                os.dup2(opened, target)
                os.close(opened)
            os.set_inheritable(target, True)
        step = f"execute {program.path}"
        _execute(program)
    except OSError as error:
        os.write(breaker, f"cannot {step}: {error.strerror}".encode())
    finally:
        os._exit(127)


def _open(name: str, flags: int) -> int:
    try:
        return os.open(name, flags, 0o600)
    except FileNotFoundError:
        if name != "/dev/null":  # a bare chroot may lack that
            raise
    reading, writing = os.pipe()
    os.close(writing)  # reads as empty, like /dev/null
    return reading


def _execute(program: Program) -> None:
    try:
        os.execve(program.path, [program.path, *program.arguments], program.environment)  # noqa: S606
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without #! runs by sh, as execlp(3) has it.
    os.execve("/bin/sh", ["sh", program.path, *program.arguments], program.environment)  # noqa: S606


def _tell(control: socket.socket, told: dict[str, Any]) -> None:
    if control.fileno() >= 0:
        with contextlib.suppress(OSError):
            control.sendall(json.dumps(told).encode() + b"\n")


def _close_all_but(kept: int) -> None:
    """Connections, locks and other guards' sockets of the agent do not live on in the guard."""
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(min(4096, os.sysconf("SC_OPEN_MAX"))))
    for number in numbers:
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)
