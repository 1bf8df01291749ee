"""A load generator: keep-alive HTTPS calls that cost their sender next to nothing, so that the servers are measured.

Requests are made ready beforehand and of an answer only the length is parsed, by one thread that waits for all
connections together, as programs for this purpose do (wrk, hey); the clients of real claims are on other machines.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence


class Line:
    """One connection, one call at a time."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        plain = socket.create_connection((host, port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = tls.wrap_socket(plain, server_hostname=host)
        self._socket.setblocking(False)
        self._held = bytearray()
        self._end = 0  # of the answer, when its head is there

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: bytes) -> None:
        """Begin a call; small requests go at once."""
        assert self._socket.send(request) == len(request)
        self._held.clear()
        self._end = 0

    def receive(self) -> bytes | None:
        """The body of the answer, None while it is not whole; RuntimeError when it is not 200."""
        while not self._end or len(self._held) < self._end:
            try:
                told = self._socket.recv(1 << 16)
            except ssl.SSLWantReadError:
                return None
            if not told:
                raise ConnectionResetError("closed")
            self._held += told
            if not self._end and (head := self._held.find(b"\r\n\r\n")) >= 0:
                length = self._held[:head].lower().partition(b"content-length:")[2].partition(b"\r")[0]
                self._end = head + 4 + int(length)
        head, _, body = bytes(self._held).partition(b"\r\n\r\n")
        if not head.lower().startswith(b"http/1.1 200"):
            raise RuntimeError(f"{head!r} {body!r}")
        return body

    def close(self) -> None:
        self._socket.close()


def drive(
    lines: Sequence[Line],
    request: Callable[[int], bytes],
    got: Callable[[bytes], int],
    seconds: float,
    most: float,
) -> tuple[float, list[float]]:
    """Each line calls ``request(its number)`` as soon as it was answered, until all have got ``most``; what they get a
    second, and the seconds of each call, ascending. ``got``: what one answer is worth, more than 0."""
    took: list[float] = []
    done, waiting = 0, len(lines)
    numbers = {line.fileno(): number for number, line in enumerate(lines)}
    with select.epoll() as ready:
        for line in lines:
            ready.register(line, select.EPOLLIN)
        begin = time.perf_counter()
        began = [begin] * len(lines)
        for number, line in enumerate(lines):
            line.send(request(number))
        while waiting:
            for handle, _ in ready.poll():
                line = lines[number := numbers[handle]]
                if (body := line.receive()) is None:
                    continue
                now = time.perf_counter()
                worth = got(body)
                assert worth, "nothing was left to claim"
                took.append(now - began[number])
                done += worth
                if now - begin < seconds and done < most:
                    began[number] = now
                    line.send(request(number))
                else:
                    waiting -= 1
    return done / (time.perf_counter() - begin), sorted(took)


def post(path: str, host: str, token: str, body: bytes) -> bytes:
    """The request, ready to be sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
