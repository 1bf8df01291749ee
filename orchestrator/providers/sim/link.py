"""Talking to the simulated cloud's process, and starting it when it does not run."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.providers.sim.server import SOCKET
from orchestrator.providers.sim.store import FILE

_HARMLESS = frozenset({"hello", "list", "console", "health", "agents", "figures", "end"})
_TRIES = 3


class Link:
    """Connections to one cloud, one for each call that is under way. Safe for several threads."""

    def __init__(self, directory: Path, start: bool = True) -> None:
        """Without ``start`` a process that does not run is not started: calls are then TemporaryErrors."""
        self._directory, self._may_start = directory, start
        self._lock = threading.Lock()
        self._idle: list[socket.socket] = []

    @property
    def exists(self) -> bool:
        """The cloud was used before; its process may have been killed since."""
        return (self._directory / FILE).exists()

    def call(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer. TemporaryError when the process died over it and what it did is not known;
        what changes nothing is asked again."""
        for _ in range(_TRIES if request["verb"] in _HARMLESS else 1):
            if lines := self._exchange(json.dumps(request).encode() + b"\n"):
                answer: dict[str, Any] = json.loads(lines[0])
                return answer | {"rows": lines[1:]}
        raise TemporaryError("the simulated cloud died before it answered", retry_in=0.2)

    def _exchange(self, line: bytes) -> list[bytes]:
        connection = self._take()
        try:
            connection.sendall(line)
            answer = _lines(connection)
        except OSError:
            answer = []
        if not answer:
            connection.close()
            self.close()
            return []
        with self._lock:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Nothing is connected."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> socket.socket:
        with self._lock:
            while self._idle:
                if _open(self._idle[-1]):
                    return self._idle.pop()
                self._idle.pop().close()  # the process ended meanwhile
        found = self._connected()
        if found is None and not self._may_start:
            raise TemporaryError("the simulated cloud does not run", retry_in=0.5)
        return found or self._started()

    def _connected(self) -> socket.socket | None:
        """A new connection, None when nobody listens."""
        try:
            folder = os.open(self._directory, os.O_PATH)
        except FileNotFoundError:
            return None
        connection = socket.socket(socket.AF_UNIX)
        try:  # by way of /proc: the path of a UNIX socket is 107 bytes at most
            connection.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        finally:
            os.close(folder)

    def _started(self) -> socket.socket:
        """A connection to a process that was started for it; only one is started by all who try."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory.chmod(0o700)
        with (self._directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = self._connected()
            if found is None:
                _start(self._directory)
                found = self._connected()
        if found is None:
            raise PermanentError(
                f"the simulated cloud in {self._directory} does not start; its log there says why"
            )
        return found


def _start(directory: Path) -> None:
    reader, writer = os.pipe()
    path = os.pathsep.join([str(Path(orchestrator.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    with (directory / "log").open("a") as log, os.fdopen(reader, "rb") as ready:
        try:
            subprocess.Popen(
                [sys.executable, "-m", "orchestrator.providers.sim.server", str(directory), str(writer)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[writer],
                env=os.environ | {"PYTHONPATH": path},
            )  # fmt: skip
        finally:
            os.close(writer)
        ready.read()  # ends when it listens, or when it is dead


def _open(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _lines(connection: socket.socket) -> list[bytes]:
    """The answer's first line and those it announces; none when the process died before the end."""
    data, wanted = bytearray(), 0
    while more := connection.recv(1 << 18):
        data += more
        end = data.find(b"\n") + 1
        if end and not wanted:
            wanted = end + int(json.loads(data[:end]).get("size", 0))
        if wanted and len(data) >= wanted:
            return bytes(data).splitlines()
    return []
