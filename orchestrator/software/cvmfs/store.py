"""Where a repository lives: the port ``ObjectStore``, a directory, and a VO box behind HTTPS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import fcntl
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from orchestrator.errors import NotFound, PermanentError, TemporaryError
from orchestrator.runtime.files import write_atomic
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs.model import MANIFEST, REFLOG, WHITELIST, check_fqrn, object_path
from orchestrator.software.cvmfs.wire import MAX_NAMES, frame

Fetch = Callable[[str], Awaitable[bytes | None]]  # path below the repository → content; None: it is not there


@dataclass(frozen=True)
class Commit:
    """What makes a revision: it replaces the one whose root catalog is ``base`` ("" for none)."""

    base: str
    manifest: bytes
    whitelist: bytes
    reflog: bytes
    master_public: bytes


class ObjectStore(Protocol):
    """One repository's files. Vendor errors are translated: GridError only. Every call may be repeated."""

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Held by a publisher; TemporaryError when another on the same store holds it."""

    async def get(self, path: str) -> bytes | None:
        """The file at ``path`` (".cvmfspublished", "data/ab/cdef…"); None when it is not there."""

    async def missing(self, names: Collection[str]) -> set[str]:
        """Those of ``names`` that are not stored."""

    async def put(self, objects: Sequence[tuple[str, bytes]]) -> int:
        """Store objects (name, stored bytes), each whole or not at all; how many were not there before."""

    async def commit(self, commit: Commit) -> None:
        """Make the revision visible by one rename, after all else is durable.

        PermanentError with ``facts["moved"]`` when ``commit.base`` is no longer the present revision.
        """

    async def renew(self, whitelist: bytes) -> None:
        """Replace the whitelist."""


class LocalStore:
    """A repository in the directory ``root``, which a web server may serve as it is."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def lock(self) -> AbstractAsyncContextManager[None]:
        return self._locked()

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        with self.held():
            yield

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The publisher's lock: the kernel drops it with its process, so a crash leaves none behind."""
        self._prepare()
        descriptor = os.open(
            self.root / "data/txn/publisher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise TemporaryError(
                f"another publisher is writing to {self.root.name}; try again when it is done",
                retry_in=2.0,
                repository=self.root.name,
            ) from error
        finally:
            os.close(descriptor)

    async def get(self, path: str) -> bytes | None:
        return await asyncio.to_thread(self.read, path)

    def read(self, path: str) -> bytes | None:
        """The file at ``path``, None when absent."""
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

    async def missing(self, names: Collection[str]) -> set[str]:
        return await asyncio.to_thread(self.absent, names)

    def absent(self, names: Collection[str]) -> set[str]:
        """Those of ``names`` that are not stored."""
        return {name for name in names if not os.path.exists(self.root / object_path(name))}

    async def put(self, objects: Sequence[tuple[str, bytes]]) -> int:
        return await asyncio.to_thread(self.write, objects)

    def write(self, objects: Sequence[tuple[str, bytes]]) -> int:
        """Store ``objects``; how many were new. The caller has verified that names fit."""
        self._prepare()
        token, new = secrets.token_hex(8), 0
        for name, stored in objects:
            # Parts stand beside their object: a rename between directories takes a lock of the whole file
            # system, which made 20,000 small files seven times slower on ext4.
            folder = f"{self.root}/data/{name[:2]}"
            part, place = f"{folder}/.part-{token}", f"{folder}/{name[2:]}"
            with contextlib.suppress(FileNotFoundError):
                # After a power cut a renamed file may be there and empty: such a one is written again.
                if os.stat(place).st_size == len(stored):
                    continue
            try:
                _write_file(part, stored)
                os.rename(part, place)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.unlink(part)
                raise TemporaryError(
                    f"cannot write to {self.root}: {error.strerror}", retry_in=10.0
                ) from error
            new += 1
        return new

    async def commit(self, commit: Commit) -> None:
        await asyncio.to_thread(self.accept, commit)

    def accept(self, commit: Commit) -> None:
        """``commit``, for a caller that holds the lock."""
        present = self.read(MANIFEST)
        if present == commit.manifest:
            return  # the answer to the first try was lost
        base = manifests.parse(present).catalog if present else ""
        if base != commit.base:
            raise PermanentError(
                f"{self.root.name} has moved on to another revision; publish again",
                moved=True,
                present=base,
            )
        self._prepare()
        _sync_file_system(self.root)
        write_atomic(self.root / REFLOG, commit.reflog)
        write_atomic(self.root / WHITELIST, commit.whitelist)
        write_atomic(self.root / MANIFEST, commit.manifest)

    async def renew(self, whitelist: bytes) -> None:
        await asyncio.to_thread(write_atomic, self.root / WHITELIST, whitelist)

    def _prepare(self) -> None:
        if (self.root / ".cvmfs_master_replica").exists():
            return
        (self.root / "data/txn").mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self.root / f"data/{number:02x}").mkdir(exist_ok=True)
        (self.root / ".cvmfs_master_replica").touch()


class Uplink(Protocol):
    """What HttpsStore needs of ``runtime.http.Api``: JSON answers, retries, GridErrors."""

    async def get(self, path: str, /, *, timeout: float | None = None) -> Any: ...
    async def post(self, path: str, body: Any = None, *, timeout: float | None = None) -> Any: ...
    async def call(
        self, method: str, path: str, *, content: bytes = b"", timeout: float | None = None
    ) -> Any: ...


class HttpsStore:
    """The repository ``fqrn`` behind a VO box's PackMan; see ``upload`` for the protocol.

    Two publishers do not lock each other out: the server lets only one replace a given revision.
    """

    def __init__(self, api: Uplink, fqrn: str) -> None:
        self._api = api
        self._base = f"/v1/repositories/{check_fqrn(fqrn)}"

    def lock(self) -> AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()

    async def get(self, path: str) -> bytes | None:
        try:
            answer = await self._api.get(f"{self._base}/files/{path}", timeout=120)
        except NotFound:
            return None
        return base64.b64decode(answer["content"])

    async def missing(self, names: Collection[str]) -> set[str]:
        wanted, absent = list(names), set()
        for start in range(0, len(wanted), MAX_NAMES):
            body = {"hashes": wanted[start : start + MAX_NAMES]}
            answer = await self._api.post(f"{self._base}/missing", body, timeout=120)
            absent.update(answer["missing"])
        return absent

    async def put(self, objects: Sequence[tuple[str, bytes]]) -> int:
        absent = await self.missing([name for name, _ in objects])
        wanted = {name: stored for name, stored in objects if name in absent}
        if not wanted:
            return 0
        body = frame(wanted.items())
        answer = await self._api.call("POST", f"{self._base}/objects", content=body, timeout=300)
        return int(answer["stored"])

    async def commit(self, commit: Commit) -> None:
        body = {"base": commit.base} | {
            name: base64.b64encode(getattr(commit, name)).decode()
            for name in ("manifest", "whitelist", "reflog", "master_public")
        }
        await self._api.post(f"{self._base}/commit", body, timeout=300)

    async def renew(self, whitelist: bytes) -> None:
        body = {"whitelist": base64.b64encode(whitelist).decode()}
        await self._api.post(f"{self._base}/whitelist", body, timeout=60)


def http_fetch(client: httpx.AsyncClient, base: str) -> Fetch:
    """Fetch from the repository at the URL ``base`` ("http://vobox:8080/cvmfs/alice.example.org")."""

    async def fetch(path: str) -> bytes | None:
        url = f"{base.rstrip('/')}/{path}"
        try:
            answer = await client.get(url)
        except httpx.TransportError as error:
            raise TemporaryError(f"{url} does not answer: {type(error).__name__}", url=url) from error
        if answer.status_code in (404, 410):
            return None
        if not answer.is_success:
            raise TemporaryError(f"{url} answered {answer.status_code}", url=url)
        return answer.content

    return fetch


def _write_file(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, memoryview(data)[written:])
    finally:
        os.close(descriptor)


def _sync_file_system(place: Path) -> None:
    """Everything written below ``place`` is on disk: one call instead of an fsync per object."""
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise TemporaryError(f"cannot sync {place}: {os.strerror(ctypes.get_errno())}", retry_in=10.0)
    finally:
        os.close(descriptor)
