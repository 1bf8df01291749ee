"""A release directory before it is published: its problems, its fingerprint, its archive on this disk.

What was learned about a directory is kept in ``work`` (``<state>/software``), so that a re-run neither
packs nor hashes what has not changed: FILE.tar.gz until it is published, and NAME::VERSION.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.errors import TemporaryError, UserError
from orchestrator.runtime.files import read_json, write_json
from orchestrator.software import archive
from orchestrator.software.cvmfs.model import check_fqrn, target_path
from orchestrator.software.cvmfs.scan import scan
from orchestrator.software.model import PackageName


@dataclass(frozen=True, slots=True)
class Seen:
    """A directory that can be published. ``fingerprint`` changes whenever any file in it is written or replaced."""

    files: int
    size: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a directory with that fingerprint: its archive, and the root catalog ("" unknown) of the
    repository ``fqrn`` that has it."""

    fingerprint: str
    size: int
    sha256: str
    fqrn: str = ""
    root: str = ""


def look(directory: Path, fqrn: str, name: str, version: str) -> Seen:
    """The directory as it is; UserError with every problem of names and directory at once. Nothing is touched."""
    problems: list[str] = []
    target = "/NAME/VERSION"
    try:
        package = PackageName(name, version)
        target = target_path(f"{package.name}/{package.version}")
    except UserError as error:
        problems.append(error.message)
    try:
        check_fqrn(fqrn)
    except UserError as error:
        problems.append(error.message)
    tree, found = None, list[str]()
    try:
        tree = scan(directory, target, fqrn)
    except UserError as error:
        problems.append(error.message)
        found = error.facts.get("problems", [])
    links = [
        f"  {link}: its target {to} is outside the release; make it relative and inside, or remove it"
        for link, to in _leaving(directory)
        if not any(problem.startswith(f"{link}: ") for problem in found)
    ]
    if links:
        problems.append(f"package directory {directory} cannot be packed:\n" + "\n".join(links))
    if problems or tree is None:
        raise UserError("\n".join(problems), problems=problems)
    files = sum(1 for entry in tree.entries if entry.is_regular)
    return Seen(files, tree.size, fingerprint(directory))


def fingerprint(directory: Path) -> str:
    """A digest of every entry's name, kind, size, times and inode: cheap, and changed by any write (ctime)."""
    digest = hashlib.sha256()
    for folder, names, files in os.walk(directory):
        names.sort()
        for name in sorted(names + files):
            place = os.path.join(folder, name)
            facts: tuple[int, ...] = ()  # it vanished: another fingerprint
            with contextlib.suppress(FileNotFoundError):
                info = os.lstat(place)
                facts = (info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
            digest.update(os.fsencode(os.path.relpath(place, directory)) + repr(facts).encode())
    return digest.hexdigest()


class Shelf:
    """``work``: archives on their way out, and the record of each package."""

    def __init__(self, work: Path, package: PackageName) -> None:
        self._work = work
        self._package = package
        self._note = work / f"{package}.json"

    @property
    def lock(self) -> Path:
        """The file that a publisher of this package locks."""
        return self._work / f"{self._package}.lock"

    def file_name(self, sha256: str) -> str:
        """The archive's name everywhere. It has part of the checksum: other contents never replace it."""
        return f"{self._package.name}-{self._package.version}-{sha256[:12]}.tar.gz"

    def recall(self, seen: Seen) -> Record | None:
        """What is known of exactly this content."""
        try:
            found = Record(**read_json(self._note))
        except (
            OSError,
            ValueError,
            TypeError,
        ):  # none, or of another version of the program: it is made anew
            return None
        return found if found.fingerprint == seen.fingerprint else None

    def keep(self, record: Record) -> None:
        """``record`` is what the next run recalls."""
        write_json(self._note, asdict(record))

    def archive(self, record: Record) -> Path | None:
        """The archive of ``record`` when it still stands here."""
        place = self._work / self.file_name(record.sha256)
        return place if place.is_file() and place.stat().st_size == record.size else None

    def pack(self, directory: Path, seen: Seen, threads: int) -> tuple[Path, Record]:
        """The archive is made and recorded. Blocking; UserError as ``archive.pack``, TemporaryError when
        the disk is full."""
        fresh = self._work / f"{self._package.name}-{self._package.version}.tar.gz"
        try:
            made = archive.pack(directory, fresh, threads=threads)
            place = fresh.rename(self._work / self.file_name(made.sha256))
        except OSError as error:
            raise TemporaryError(
                f"cannot pack {directory} into {self._work}: {error.strerror}; make room and publish again",
                retry_in=60.0,
            ) from error
        record = self.recall(seen) or Record(seen.fingerprint, made.size, made.sha256)
        record = replace(record, size=made.size, sha256=made.sha256)
        self.keep(record)
        return place, record

    def clear(self, record: Record) -> None:
        """The archive is no longer needed here."""
        (self._work / self.file_name(record.sha256)).unlink(missing_ok=True)


def _leaving(directory: Path) -> Iterator[tuple[str, str]]:
    """Links that a repository may have and an archive may not (its nodes have this release alone), and their targets."""
    for folder, names, files in os.walk(directory):
        for name in sorted(names + files):
            place = os.path.join(folder, name)
            if not os.path.islink(place):
                continue
            inside, link = os.path.relpath(place, directory), os.readlink(place)
            target = posixpath.normpath(posixpath.join(posixpath.dirname(inside), link))
            if link.startswith("/") or target == ".." or target.startswith("../"):
                yield _shown(inside), _shown(link)


def _shown(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")
