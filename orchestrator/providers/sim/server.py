"""The process that is the simulated cloud: one UNIX socket in its directory, one JSON line a request.

The answer is a JSON line too; that of `list` tells the `size` of the lines after it, one for each machine:
the client reads only those that changed.

    python -m orchestrator.providers.sim.server DIRECTORY

Only its owner can reach it (the directory is 0700). It ends when no machine is left and nobody is
connected, or when its directory is gone.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from orchestrator.providers.sim.cloud import FREE, answer, noticed, row, state
from orchestrator.providers.sim.model import Vm
from orchestrator.providers.sim.store import Store

SOCKET = "socket"
PID = "pid"
_LOOK = 5.0  # seconds between looks at whether the directory still is there
_Row = tuple[Vm, str, float | None, bytes]  # machine, state, notice → how the three are written


class Server:
    """One simulated cloud. Requests are answered one after the other, so no two see half a change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._store = Store(directory)
        self._calls: Counter[tuple[str, str]] = Counter()
        self._rows: dict[str, _Row] = {}
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytearray] = {}
        self._ending = False

    def serve(self, listener: socket.socket) -> None:
        """Answers until nobody needs the cloud any more."""
        self._selector.register(listener, selectors.EVENT_READ)
        begun = False
        while not self._ending and not (begun and not self._buffers and not self._store.cloud.machines):
            events = self._selector.select(_LOOK)
            if not events and not _mine(self._directory):
                return
            for key, _ in events:
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    self._selector.register(connection, selectors.EVENT_READ)
                    self._buffers[connection] = bytearray()
                    begun = True
                else:
                    self._read(key.fileobj)  # type: ignore[arg-type]
        self._store.close()

    def _read(self, connection: socket.socket) -> None:
        buffer = self._buffers[connection]
        try:
            data = connection.recv(1 << 16)
            buffer += data
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                connection.sendall(self._line(json.loads(line)))
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(connection)
            del self._buffers[connection]
            connection.close()

    def _line(self, request: dict[str, Any]) -> bytes:
        store, verb, name = self._store, str(request["verb"]), str(request.get("name", ""))
        now = max(store.cloud.clock, float(request["now"]))
        if "settings" in request:
            store.adopt(request["settings"])
        seed = store.cloud.settings.seed
        self._calls[verb, name] += verb not in FREE
        dice = random.Random(f"{seed}/{store.start}/{verb}/{name}/{self._calls[verb, name]}")  # noqa: S311
        reply = answer(store.cloud, request, now, dice, lambda vm, n: random.Random(f"{seed}/{vm}/{n}"))  # noqa: S311
        store.apply(reply, now)
        self._ending = verb == "end" and not store.cloud.machines
        head = {"now": now, "took": reply.took}
        if "vms" in reply.body:
            rows = b"".join([self._row(vm, now) for vm in reply.body["vms"]])
            return json.dumps({**head, "size": len(rows)}).encode() + b"\n" + rows
        return (json.dumps({**head, **reply.body}) + "\n").encode()

    def _row(self, vm: Vm, now: float) -> bytes:
        """A line of JSON; written again only when something of it changed."""
        known = self._store.cloud.settings.spot[2]
        notice = noticed(vm, now, known)
        word, old = state(vm, now), self._rows.get(vm.name)
        if old is not None and old[0] is vm and old[1] == word and old[2] == notice:
            return old[3]
        text = json.dumps(row(vm, now, known)).encode() + b"\n"
        self._rows[vm.name] = (vm, word, notice, text)
        return text


def _mine(directory: Path) -> bool:
    try:
        return (directory / PID).read_text() == str(os.getpid())
    except OSError:
        return False


def main(directory: str, ready: int) -> None:
    """Serve; the descriptor ``ready`` is closed once callers can connect."""
    os.umask(0o077)
    os.chdir(directory)  # the path of a UNIX socket is 107 bytes at most; a name in here always fits
    here = Path()
    (here / SOCKET).unlink(missing_ok=True)
    server = Server(here)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen(256)
        (here / PID).write_text(str(os.getpid()))
        os.close(ready)
        try:
            server.serve(listener)
        finally:
            if _mine(here):
                (here / SOCKET).unlink(missing_ok=True)
                (here / PID).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
