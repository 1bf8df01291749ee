"""The files of one storage element: ``DIRECTORY/ab/<guid>``, complete or absent, never in part.

A file comes in as ``DIRECTORY/.incoming/<random>`` and gets its name by a hard link once it is whole,
checked and on disk: a link never replaces a file that is there.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import GridError, NotFound, TemporaryError, UserError
from orchestrator.storage import model
from orchestrator.storage.model import NoRoom, OtherContent, Permit
from orchestrator.units import format_size

INCOMING = ".incoming"
_ROOM = 64 << 20  # bytes of the disk left to others


@dataclass
class Incoming:
    """A file that is being written."""

    path: Path
    permit: Permit
    out: BinaryIO
    size: int = 0
    md5: hashlib._Hash = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))


class Shelf:
    """One storage element in ``directory``, for one process. ``capacity`` in bytes; 0 is what the disk holds.

    Not for concurrent calls on one Incoming; everything else may be called from many threads.
    """

    def __init__(self, name: str, directory: Path, capacity: int) -> None:
        self.name, self.directory, self.capacity = name, directory, capacity
        (directory / INCOMING).mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        self.used = sum(
            file.stat().st_size for file in directory.glob("[0-9a-f][0-9a-f]/*") if file.is_file()
        )
        self._promised: dict[Path, int] = {}
        self._lock = threading.Lock()  # of the two above
        self._beginning = threading.Lock()

    def sweep(self, before: float) -> int:
        """Temporary files last written before ``before`` (seconds since the epoch) are gone; how many."""
        gone = 0
        for file in (self.directory / INCOMING).iterdir():
            if file.stat().st_mtime < before:
                file.unlink(missing_ok=True)
                gone += 1
        return gone

    def free(self) -> int:
        """Bytes that may still come, without those that running uploads were promised."""
        with self._lock:
            used = self.used + sum(self._promised.values())
        return model.free(self.capacity, used, shutil.disk_usage(self.directory).free, _ROOM)

    def path(self, pfn: str) -> Path:
        """Where the file of ``pfn`` lies; it is always below the directory."""
        folder, guid = model.split(pfn)
        return self.directory / folder / guid

    def find(self, pfn: str) -> Path:
        """The path of a file that is here; NotFound otherwise."""
        path = self.path(pfn)
        if not path.is_file():
            raise NotFound(f"{self.name} has no file {pfn}", se=self.name, pfn=pfn)
        return path

    def digest(self, pfn: str) -> str:
        """The MD5 of what is on disk now, in base64."""
        with self.find(pfn).open("rb") as here:
            md5 = hashlib.file_digest(here, lambda: hashlib.md5(usedforsecurity=False))
        return base64.b64encode(md5.digest()).decode()

    def holds(self, permit: Permit) -> bool:
        """Whether the very content of ``permit`` is here; OtherContent when other content has its name."""
        path = self.path(permit.pfn)
        try:
            with path.open("rb") as here:
                size = os.fstat(here.fileno()).st_size
                md5 = hashlib.file_digest(here, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except FileNotFoundError:
            return False
        if (size, md5) != (permit.size, permit.md5):
            raise OtherContent(f"{self.name} has other content under {permit.pfn}", pfn=permit.pfn)
        return True

    def begin(self, permit: Permit) -> Incoming:
        """Room for the file is kept and its temporary file is open; NoRoom when there is too little."""
        path = self.directory / INCOMING / secrets.token_hex(12)
        with self._beginning:  # two must not be promised the same bytes
            if permit.size > self.free():
                raise self._full(permit)
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except OSError as error:
                raise self._failed(permit, error) from error
            with self._lock:
                self._promised[path] = permit.size
        return Incoming(path, permit, os.fdopen(descriptor, "wb", buffering=0))

    def add(self, incoming: Incoming, data: bytes) -> None:
        """The next bytes are written; UserError when they are more than promised."""
        incoming.size += len(data)
        if incoming.size > incoming.permit.size:
            raise UserError(f"more than the {incoming.permit.size} bytes of the envelope came")
        incoming.md5.update(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[incoming.out.write(rest) :]
        except OSError as error:
            raise self._failed(incoming.permit, error) from error

    def finish(self, incoming: Incoming) -> bool:
        """The file is here, on disk; whether it is new. UserError when its size or MD5 is not the envelope's."""
        permit, md5 = incoming.permit, incoming.md5.hexdigest()
        if (incoming.size, md5) != (permit.size, permit.md5):
            raise UserError(
                f"{incoming.size} bytes with MD5 {md5} came, {permit.size} with {permit.md5} were announced; send it again"
            )
        final = self.path(permit.pfn)
        try:
            os.fsync(incoming.out.fileno())
            new_folder = not final.parent.is_dir()
            final.parent.mkdir(exist_ok=True, mode=0o700)
            os.link(incoming.path, final)
            _sync(final.parent)
            if new_folder:
                _sync(self.directory)
        except FileExistsError:
            return not self.holds(permit)
        except OSError as error:
            raise self._failed(permit, error) from error
        with self._lock:
            self.used += permit.size
        return True

    def end(self, incoming: Incoming) -> None:
        """The temporary file is gone; call it after ``finish`` and after any failure."""
        incoming.out.close()
        incoming.path.unlink(missing_ok=True)
        with self._lock:
            self._promised.pop(incoming.path, None)

    def remove(self, pfn: str) -> bool:
        """The file is not here; whether it was."""
        path = self.path(pfn)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return False
        with self._lock:
            self.used -= size
        return True

    def _full(self, permit: Permit) -> NoRoom:
        return NoRoom(
            f"{self.name} has {format_size(self.free())} free, too little for {format_size(permit.size)}",
            retry_in=60.0,
            se=self.name,
        )

    def _failed(self, permit: Permit, error: OSError) -> GridError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._full(permit)
        return TemporaryError(
            f"{self.name} cannot store {permit.pfn}: {error.strerror}", retry_in=10.0, se=self.name
        )


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
