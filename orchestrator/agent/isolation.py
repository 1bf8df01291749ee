"""An account of its own for each payload, when the agent is root: the job reads nothing of agent, site or other jobs.

The uids are those that systemd calls dynamic (61184–65519, systemd.exec(5)): no package and no person
has one of them. A uid is leased by a lock on a file of its number, so agents of one node do not meet;
the kernel ends the lease of an agent that dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.errors import TemporaryError
from orchestrator.runtime.files import remove_tree

FIRST, LAST = 61184, 65519
PUBLIC = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (where any job may leave files)
_LOCKS = ("/run/orchestrate-accounts", "/var/lib/orchestrate-accounts")
_PDEATHSIG, _NO_NEW_PRIVS = 1, 38  # <linux/prctl.h>
Prctl = Callable[..., int]


class Lease:
    """One uid, ours until ``release``."""

    def __init__(self, uid: int, lock: int, path: Path) -> None:
        self.uid = uid
        self._lock, self._path = lock, path

    def release(self) -> None:
        """No process and no file in a public folder has the uid; others may have it."""
        if self._lock >= 0:
            end_all(self.uid)
            forget(self.uid)
            self._path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


class Isolation:
    """What this agent can do for its payloads: ``hindrance`` is "" when each gets a uid of its own."""

    def __init__(self, hindrance: str, locks: Path) -> None:
        self.hindrance = hindrance
        self._locks = locks

    @property
    def told(self) -> str:
        """For ad and reports: "uid", "agent" (an agent that is not root), or "root: WHY"."""
        if not self.hindrance:
            return "uid"
        return f"root: {self.hindrance}" if os.geteuid() == 0 else "agent"

    def lease(self, start: int) -> Lease | None:
        """A uid that nobody else has, looked for from ``start`` on; None where there is no isolation.

        TemporaryError when all are taken.
        """
        if self.hindrance:
            return None
        used = _used()
        for offset in range(LAST - FIRST + 1):
            uid = FIRST + (start + offset) % (LAST - FIRST + 1)
            if uid not in used and not _named(uid) and (found := _lock(self._locks, uid)) is not None:
                forget(uid)
                return found
        raise TemporaryError("every account for payloads is taken on this node", retry_in=30.0)


def find(paths: Sequence[Path], locks: Path | None = None) -> Isolation:
    """What is possible here. A payload must be able to come to each of ``paths``, which exist."""
    if os.geteuid() != 0:
        return Isolation("the agent is not root", Path())
    folder = locks or _locks_folder()
    if folder is None:
        return Isolation(f"no folder for the accounts' locks could be made: {', '.join(_LOCKS)}", Path())
    for path in paths:
        if why := _try(path):
            return Isolation(why, folder)
    return Isolation("", folder)


def become(uid: int, prctl: Prctl) -> None:
    """This process, a fresh fork of root's, is ``uid`` for ever, without groups and capabilities."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")


def give(directory: Path, uid: int) -> None:
    """``directory`` (0700) and all below it belong to ``uid``. Call it before any process of ``uid`` runs."""
    directory.chmod(0o700)
    os.lchown(directory, uid, uid)
    for folder, names, files in os.walk(directory):
        for name in (*names, *files):
            os.lchown(os.path.join(folder, name), uid, uid)


def end_all(uid: int) -> None:
    """No process of ``uid`` runs, whoever its parent is: the kernel finds them all at once, also without /proc."""
    child = os.fork()
    if child == 0:
        try:
            os.setresuid(uid, uid, uid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def forget(uid: int) -> None:
    """What jobs of ``uid`` left in the node's public folders is gone."""
    for folder in PUBLIC:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid != uid:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        remove_tree(Path(entry.path))
                    else:
                        os.unlink(entry.path)


def _locks_folder() -> Path | None:
    for name in _LOCKS:
        with contextlib.suppress(OSError):
            os.makedirs(name, mode=0o700, exist_ok=True)
            if os.lstat(name).st_uid == 0 and os.lstat(name).st_mode & 0o077 == 0:
                return Path(name)
    return None


def _lock(folder: Path, uid: int) -> Lease | None:
    path = folder / str(uid)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return Lease(uid, lock, path)
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        os.close(lock)  # its last holder removed it before we had the lock


def _used() -> set[int]:
    """The uids of the node's processes, as far as it tells."""
    found = set()
    for name in _listed("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                found.add(os.stat(f"/proc/{name}").st_uid)
    return found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _named(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _try(path: Path) -> str:
    """Why a process of such a uid cannot come to ``path``; "" when it can."""
    prctl: Prctl = ctypes.CDLL(None, use_errno=True).prctl
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _probe(path, prctl, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        said = told.read(1000).decode(errors="replace")
    os.waitpid(child, 0)
    return said


def _probe(path: Path, prctl: Prctl, writing: int) -> NoReturn:
    step = "root cannot take another uid here"
    try:
        become(LAST, prctl)
        step = ""
        for folder in (*reversed(path.parents), path):
            step = f"{folder} is closed to other accounts (chmod o+x it)"
            if not os.access(folder, os.X_OK):
                break
        else:
            step = ""
    except OSError as error:
        step = f"{step}: {error.strerror}"
    finally:
        os.write(writing, step.encode())
        os._exit(0)
