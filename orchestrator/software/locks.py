"""File locks between the processes of one node. The kernel lets go of them when a process dies."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

_POLL = 0.1


class FileLock:
    """One open file and the lock on it; two objects exclude each other even in one process.

    The lock's file stays when the lock is gone: removing it would let two holders coexist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def try_exclusive(self) -> bool:
        """Whether this object now holds the lock alone. Does not wait."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Whether this object now holds the lock, perhaps with other sharers. Does not wait."""
        return self._try(fcntl.LOCK_SH)

    async def exclusive(self) -> None:
        """Holds the lock alone. Waits, and may be cancelled meanwhile."""
        # A blocking flock in a thread could not be cancelled and would keep the process from ending.
        while not self.try_exclusive():  # noqa: ASYNC110 (other processes set no event here)
            await asyncio.sleep(_POLL)

    def release(self) -> None:
        """Holds nothing; calling it again does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _try(self, kind: int) -> bool:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True
