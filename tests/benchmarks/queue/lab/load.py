"""A load generator: keep-alive HTTPS calls that cost their sender next to nothing, so that the servers are measured.

Requests are made ready beforehand and of an answer only the length is parsed, as programs for this purpose do (wrk,
hey); the clients of real claims are on other machines.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast


class Line(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, host: str, port: int, tls: ssl.SSLContext) -> Line:
        _, line = await asyncio.get_running_loop().create_connection(cls, host, port, ssl=tls)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed"))

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        head = bytes(self._held[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r")[0])
        if len(self._held) < end + 4 + length:
            return
        body = bytes(self._held[end + 4 :])
        self._held.clear()
        if not head.startswith(b"http/1.1 200"):
            self._answer.set_exception(RuntimeError(f"{head!r} {body!r}"))
        else:
            self._answer.set_result(body)

    async def call(self, request: bytes) -> bytes:
        """The body of the answer; RuntimeError when it is not 200."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def post(path: str, host: str, token: str, body: bytes) -> bytes:
    """The request, ready to be sent."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
