"""Look at a package directory: every problem at once, before anything is touched; then its entries."""

from __future__ import annotations

import os
import posixpath
import stat
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.software.cvmfs.model import CHUNKED, DIRECTORY, FILE, PIECE, SYMLINK, Entry

_SHOWN = 20  # problems told in full


@dataclass(frozen=True)
class Tree:
    """A package directory seen once. ``sources`` maps an entry's path to the file that holds its content.

    Entries are in the order of ``Catalog.walk``; regular files have no hash yet.
    """

    target: str
    entries: tuple[Entry, ...]
    sources: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of all regular files."""
        return sum(entry.size for entry in self.entries if entry.is_regular)


@dataclass
class _Walk:
    fqrn: str
    target: str
    problems: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    linked: dict[tuple[str, int, int], list[int]] = field(default_factory=lambda: defaultdict(list))


def scan(source: Path, target: str, fqrn: str) -> Tree:
    """The tree below ``source`` as it would stand at ``target`` (from ``target_path``) in repository ``fqrn``.

    Owners become 0:0 and directories 4096 bytes, so the same release published from two machines is
    the same. Hard links stay links inside one directory; across directories they become equal files.
    UserError with every problem found: absent, no directory, empty, sockets or devices, unreadable
    files, names beyond 255 bytes, symbolic links that leave the release.
    """
    try:
        top = os.stat(source)
    except OSError as error:
        raise UserError(f"package directory {source}: {error.strerror}; name one that exists") from error
    if not stat.S_ISDIR(top.st_mode):
        raise UserError(f"package directory {source} is not a directory; unpack the release and name its top")
    walk = _Walk(fqrn, target)
    walk.entries.append(Entry(target, DIRECTORY, top.st_mode, 4096, int(top.st_mtime), links=2))
    _directory(walk, os.fspath(source), target)
    if len(walk.entries) == 1 and not walk.problems:
        walk.problems.append(". is empty; there is nothing to publish")
    if walk.problems:
        more = len(walk.problems) - _SHOWN
        lines = [f"  {problem}" for problem in walk.problems[:_SHOWN]]
        lines += [f"  and {more} more"] if more > 0 else []
        raise UserError(
            f"package directory {source} cannot be published; nothing was changed:\n" + "\n".join(lines),
            directory=str(source),
            problems=walk.problems,
        )
    return Tree(target, tuple(_with_links(walk)), walk.sources)


def _directory(walk: _Walk, place: str, path: str) -> None:
    try:
        with os.scandir(place) as found:
            children = sorted(found, key=lambda child: child.name)
    except OSError as error:
        walk.problems.append(f"{_inside(walk, path)} cannot be listed: {error.strerror}")
        return
    for child in children:
        _child(walk, child, f"{path}/{child.name}")


def _child(walk: _Walk, child: os.DirEntry[str], path: str) -> None:
    shown = _inside(walk, path)
    if len(os.fsencode(child.name)) > 255:
        walk.problems.append(f"{shown}: its name has more than 255 bytes")
    if child.name == ".cvmfscatalog":
        walk.problems.append(f"{shown} asks for a nested catalog, which is not written yet; remove it")
    try:
        info = child.stat(follow_symlinks=False)
    except OSError as error:
        walk.problems.append(f"{shown} cannot be examined: {error.strerror}")
        return
    seconds = int(info.st_mtime)
    if stat.S_ISDIR(info.st_mode):
        walk.entries.append(Entry(path, DIRECTORY, info.st_mode, 4096, seconds, links=2))
        _directory(walk, child.path, path)
    elif stat.S_ISLNK(info.st_mode):
        link = os.readlink(child.path)
        walk.problems.extend(f"{shown}: {problem}" for problem in _leaves(walk, path, link))
        size = len(os.fsencode(link))
        walk.entries.append(Entry(path, FILE | SYMLINK, info.st_mode, size, seconds, symlink=link))
    elif stat.S_ISREG(info.st_mode):
        if not os.access(child.path, os.R_OK):
            walk.problems.append(f"{shown} is not readable; chmod +r it or run as its owner")
        if info.st_nlink > 1:
            walk.linked[path.rpartition("/")[0], info.st_dev, info.st_ino].append(len(walk.entries))
        chunked = CHUNKED if info.st_size > PIECE else 0
        walk.entries.append(Entry(path, FILE | chunked, info.st_mode, info.st_size, seconds))
        walk.sources[path] = child.path
    else:
        walk.problems.append(
            f"{shown} is a {_kind(info.st_mode)}; only files, directories and links are published"
        )


def _with_links(walk: _Walk) -> Iterator[Entry]:
    """Entries with hard link groups numbered from 1; a catalog adds its own highest number."""
    groups = {}
    together = [members for members in walk.linked.values() if len(members) > 1]
    for number, members in enumerate(together, start=1):
        groups.update(dict.fromkeys(members, (number, len(members))))
    for index, entry in enumerate(walk.entries):
        if index in groups:
            number, links = groups[index]
            yield replace(entry, group=number, links=links)
        else:
            yield entry


def _leaves(walk: _Walk, path: str, link: str) -> Iterator[str]:
    """Why the symbolic link ``path`` → ``link`` would not work on a worker node."""
    mounted = f"/cvmfs/{walk.fqrn}"
    if link.startswith("/"):
        home = f"{mounted}{walk.target}"
        if link != home and not posixpath.normpath(link).startswith(f"{home}/"):
            yield f"is an absolute link to {link}, outside the release; make it relative or remove it"
    elif not posixpath.normpath(f"{mounted}{posixpath.dirname(path)}/{link}").startswith(f"{mounted}/"):
        yield f"is a link to {link}, outside the repository; remove it"


def _inside(walk: _Walk, path: str) -> str:
    return os.fsencode(path[len(walk.target) + 1 :]).decode("utf-8", "backslashreplace") or "."


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "named pipe"),
        (stat.S_ISBLK, "block device"),
    ):
        if test(mode):
            return name
    return "device"
