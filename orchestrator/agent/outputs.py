"""What a job wrote, looked at as if the job were hostile: no link leads the agent out of the work directory.

The agent may be root, the job is not. A name that the job made may be a link to what only root reads,
a FIFO that never ends, a hard link to another's file.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import PermanentError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DEEPEST = 64  # folders that ** goes down


class Unsafe(PermanentError):
    """The name stands for something that is not the job's own file; the message says what."""


def open_inside(path: Path, root: Path) -> BinaryIO:
    """The regular file ``path``, opened for reading. It lies in ``root`` and belongs to the owner of ``root``.

    A link to a file inside ``root`` is followed. FileNotFoundError when nothing has that name, Unsafe
    for what is not such a file. No component is a link any more when it is opened.
    """
    base = os.path.realpath(root)
    parts = Path(os.path.realpath(path)).parts
    top = Path(base).parts
    if parts[: len(top)] != top or len(parts) == len(top):
        raise Unsafe("a link to outside the work directory")
    *folders, name = parts[len(top) :]
    inside = os.open(base, _FOLDER)
    try:
        owner = os.fstat(inside).st_uid
        for folder in folders:
            deeper = os.open(folder, _FOLDER, dir_fd=inside)
            os.close(inside)
            inside = deeper
        _check(os.stat(name, dir_fd=inside, follow_symlinks=False), owner)
        file = os.open(name, _FILE, dir_fd=inside)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise Unsafe("it changed while it was looked at") from error
        raise Unsafe(f"it cannot be read: {error.strerror}") from error
    finally:
        os.close(inside)
    try:
        _check(os.fstat(file), owner)
    except Unsafe:
        os.close(file)
        raise
    return os.fdopen(file, "rb")


def refusal(path: Path, root: Path) -> str:
    """Why ``path`` is no file of the job's; "" when it is one."""
    try:
        open_inside(path, root).close()
    except FileNotFoundError:
        return "a link to nothing"
    except Unsafe as error:
        return error.message
    return ""


def matching(pattern: str, root: Path) -> list[Path]:
    """What ``pattern`` stands for in ``root``, sorted, as glob.glob(recursive=True) has it; folders are left out.

    It never looks outside: a folder that is a link is entered only when it leads to inside, ``**``
    enters none. What is found may still be Unsafe.
    """
    base = Path(os.path.realpath(root))
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if not parts or pattern.startswith("/") or ".." in parts:
        return []
    found = {path for path in _expand(base, parts, base) if not path.is_dir()}
    return sorted(found)


def _expand(folder: Path, parts: list[str], base: Path) -> Iterator[Path]:
    first, rest = parts[0], parts[1:]
    if first == "**":
        for below in _below(folder, 0):
            yield from _expand(below, rest or ["*"], base)
        return
    for path in _named(folder, first):
        if not rest:
            yield path
        elif path.is_dir() and Path(os.path.realpath(path)).is_relative_to(base):
            yield from _expand(path, rest, base)


def _named(folder: Path, pattern: str) -> Iterator[Path]:
    if not any(letter in pattern for letter in "*?["):
        if os.path.lexists(folder / pattern):
            yield folder / pattern
        return
    for entry in _entries(folder):
        hidden = entry.name.startswith(".") and not pattern.startswith(".")
        if not hidden and fnmatch.fnmatchcase(entry.name, pattern):
            yield folder / entry.name


def _below(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    for entry in _entries(folder) if depth < _DEEPEST else ():
        if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield from _below(folder / entry.name, depth + 1)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _check(facts: os.stat_result, owner: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
        raise Unsafe(f"{kind.get(stat.S_IFMT(facts.st_mode), 'a device or folder')}, not a file")
    if facts.st_uid != owner:
        raise Unsafe("a file of another account (a hard link?)")
