"""Release archives: one tar.gz per release, the same bytes for the same content.

Names are sorted; times, owners and groups are fixed; modes are reduced to executable or not. gzip
by ISA-L cuts its blocks by size, not by thread, so the number of cores does not change a byte
either. (Another release of ISA-L may choose other matches: the package entry's checksum decides.)
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestrator.errors import PermanentError, TemporaryError, UserError

# 2000-01-01: some tools refuse files from 1970.
FIXED_MTIME = 946684800
# Level 3 costs a third of level 1's speed, and every worker node has to fetch what it saves.
_LEVEL = 3
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """Size in bytes and SHA-256 (hex) of an archive file."""

    size: int
    sha256: str


class HashingReader(io.RawIOBase):
    """A file read once, front to back, with the SHA-256 of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        """True: it is a reader."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As a raw file's readinto."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        return len(data)

    def finish(self) -> str:
        """Reads what is left (padding after the end of the tar) and gives the digest in hex."""
        while self.read(_BLOCK):
            pass
        return self._digest.hexdigest()


def checksum(path: Path) -> Archive:
    """Size and SHA-256 of a file that exists."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Archive(path.stat().st_size, digest)


def pack(directory: Path, out: Path, *, threads: int = 2) -> Archive:
    """``out`` holds the archive of the directory's content, whole or not at all.

    UserError if the directory is missing or empty, or holds what other nodes can't have: sockets,
    devices, links that leave the release.
    """
    from isal import igzip_threaded

    members = list(_members(directory))
    if not members:
        raise UserError(f"{directory} is empty; a release needs at least one file", path=str(directory))
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    try:
        with os.fdopen(handle, "wb") as raw:
            opener: Callable[..., IO[bytes]] = igzip_threaded.open
            with opener(
                raw, "wb", compresslevel=_LEVEL, threads=max(1, threads), block_size=_BLOCK
            ) as packed:
                _write(directory, members, packed)
            raw.flush()
            os.fchmod(raw.fileno(), 0o644)
            os.fsync(raw.fileno())
        made = checksum(Path(name))
        os.rename(name, out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return made


def _write(directory: Path, members: list[tarfile.TarInfo], packed: IO[bytes]) -> None:
    with tarfile.open(fileobj=packed, mode="w|", bufsize=_BLOCK, format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if member.isreg():
                with (directory / member.name).open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)


def _members(directory: Path) -> Iterator[tarfile.TarInfo]:
    """The entries in order; a second name of a file becomes a hard link to its first."""
    if not directory.is_dir():
        raise UserError(
            f"{directory} is not a directory; give the release's top directory", path=str(directory)
        )
    first: dict[tuple[int, int], str] = {}
    for path in sorted(directory.rglob("*"), key=lambda found: found.relative_to(directory).parts):
        facts = path.lstat()
        member = tarfile.TarInfo(path.relative_to(directory).as_posix())
        member.mtime = FIXED_MTIME
        member.mode = 0o755 if stat.S_ISDIR(facts.st_mode) or facts.st_mode & stat.S_IXUSR else 0o644
        if stat.S_ISDIR(facts.st_mode):
            member.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(facts.st_mode):
            member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, os.readlink(path)
            _check_link(member, UserError)
        elif stat.S_ISREG(facts.st_mode):
            inode = (facts.st_dev, facts.st_ino)
            if facts.st_nlink > 1 and inode in first:
                member.type, member.linkname = tarfile.LNKTYPE, first[inode]
            else:
                first[inode] = member.name
                member.size = facts.st_size
        else:
            raise UserError(
                f"{path} is neither file, directory nor link; remove it from the release", path=str(path)
            )
        yield member


def _check_link(member: tarfile.TarInfo, error: type[UserError] | type[PermanentError]) -> None:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
    if member.linkname.startswith("/") or target == ".." or target.startswith("../"):
        raise error(
            f"link {member.name} points to {member.linkname}, outside the release; make it relative and inside",
            path=member.name,
            target=member.linkname,
        )


def unpack(archive: Path, into: Path, *, sha256: str | None = None) -> None:
    """``into`` holds the archive's content, whole or not at all; it must not exist before.

    Nothing is ever written outside ``into``'s parent. PermanentError if the archive is broken, is
    not the one ``sha256`` names, or tries to leave the directory; TemporaryError if the disk is full.
    """
    if into.exists():
        raise UserError(f"{into} exists; remove it before unpacking {archive.name}", path=str(into))
    into.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.parent))
    try:
        with archive.open("rb") as raw:
            reader = HashingReader(raw)
            _extract(reader, scratch)
            found = reader.finish()
        if sha256 is not None and found != sha256:
            raise PermanentError(
                f"{archive} has checksum {found}, not {sha256}; fetch it again", path=str(archive)
            )
        scratch.chmod(0o755)
        os.rename(scratch, into)
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as broken:
        raise PermanentError(
            f"{archive} is not a whole release archive: {broken}", path=str(archive)
        ) from broken
    except OSError as failed:
        raise TemporaryError(f"can't unpack {archive}: {failed}", retry_in=60, path=str(archive)) from failed
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _extract(reader: HashingReader, into: Path) -> None:
    # Python before 3.11.4 (Debian 12) has no filters: all is checked here, and theirs is a second guard.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    links: set[str] = set()
    files: set[str] = set()
    with _decompressed(reader) as plain:
        with tarfile.open(fileobj=plain, mode="r|", bufsize=_BLOCK) as tar:
            for member in tar:
                _check(member, links, files)
                tar.extract(member, into, **options)
        while plain.read(_BLOCK):  # to the gzip checksum, which stands behind the tar's end
            pass


def _check(member: tarfile.TarInfo, links: set[str], files: set[str]) -> None:
    """Refuse what could leave the directory; make what is left ours, with plain modes."""
    name = posixpath.normpath(member.name)
    if name.startswith("/") or name == ".." or name.startswith("../"):
        raise PermanentError(f"archive member {member.name} lies outside the release", path=member.name)
    # Stricter than tarfile's own filter: nothing at or beneath a link, whatever it points to, so a
    # chain of links can't lead a later member out (CVE-2025-4517 and its family).
    parts = name.split("/")
    if any("/".join(parts[: depth + 1]) in links for depth in range(len(parts))):
        raise PermanentError(f"archive member {member.name} lies at or beneath a link", path=member.name)
    if member.issym():
        _check_link(member, PermanentError)
        links.add(name)
    elif member.islnk():
        if posixpath.normpath(member.linkname) not in files:
            raise PermanentError(
                f"archive member {member.name} is a link to {member.linkname}, no file before it",
                path=member.name,
            )
        files.add(name)
    elif member.isreg():
        files.add(name)
    elif not member.isdir():
        raise PermanentError(
            f"archive member {member.name} is neither file, directory nor link", path=member.name
        )
    member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    member.mode = 0o755 if member.isdir() or member.mode & stat.S_IXUSR else 0o644


def _decompressed(stream: HashingReader) -> IO[bytes]:
    """ISA-L where it is installed (three times faster); the agent's file may lack it."""
    opener: Any = gzip.GzipFile
    with contextlib.suppress(ImportError):
        from isal import igzip

        opener = igzip.IGzipFile
    plain: IO[bytes] = opener(fileobj=stream, mode="rb")
    return plain
