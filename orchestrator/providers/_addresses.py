"""A loopback address of its own for every local machine: 127.x.y.z, so ports are the same everywhere."""

from __future__ import annotations

import errno
import hashlib
import socket
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

from orchestrator.errors import PermanentError

PORTS = (8443, 8444, 8445, 8446, 8447, 8080, 6881)
_TRIES = 8


def candidates(state_dir: Path) -> Iterator[str]:
    """The addresses of a state directory, in order: x and y from its path, z counts, then the next y."""
    digest = hashlib.sha256(str(state_dir).encode()).digest()
    first, second = 1 + digest[0] % 253, digest[1]  # 127.0.* is everybody's, 127.255.* is left out
    for step in range(256):
        for last in range(1, 255):
            yield f"127.{first}.{(second + step) % 256}.{last}"


def busy_port(address: str, ports: Collection[int] = PORTS) -> int | None:
    """The first of ``ports`` on which somebody listens at ``address`` (or at every address); None if free."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return port
                raise PermanentError(
                    f"the address {address} cannot be used on this host: {error}", address=address
                ) from error
    return None


def choose(addresses: Iterable[str], taken: Collection[str]) -> str:
    """The first of ``addresses`` that is not ``taken`` and where nobody listens on our ports.

    PermanentError when all are taken, or a port is in use at every address that was tried (a server
    listens on 0.0.0.0).
    """
    port: int | None = None
    free = (address for address in addresses if address not in taken)
    for address in islice(free, _TRIES):
        port = busy_port(address)
        if port is None:
            return address
    if port is None:
        raise PermanentError(f"all {len(taken)} addresses are taken by machines; give the provider more")
    raise PermanentError(
        f"port {port} is in use at every address of this host that was tried; stop the server that listens on it "
        f"(`ss -ltnp 'sport = :{port}'` shows it)",
        port=port,
    )
