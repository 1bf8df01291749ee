"""HTTP/1.1 calls over kept connections (RFC 9112, by h11), one call at a time on each.

For small bodies between our own programs: a client for all purposes takes longer to load than the rest of a job
agent. Whole files go by httpx.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

_CONNECT = 5.0  # seconds for TCP and TLS together
_KEPT = 60.0  # seconds; our servers close after 75
_BLOCK = 1 << 16
Content = bytes | AsyncIterable[bytes]


class NoAnswer(Exception):
    """The server may or may not have got the call; the message says what happened."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. Names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """Connections to any number of servers, opened when needed. Safe for concurrent calls of one event loop."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._idle: dict[tuple[str, str], list[_Connection]] = {}

    async def call(
        self, method: str, url: str, headers: Mapping[str, str], content: Content, patience: float
    ) -> Answer:
        """The answer to one call; NoAnswer when a step of it fails, or takes more than ``patience`` seconds.

        ``headers`` have the length of ``content``, or that it comes in chunks. It is made anew, and must bear
        that, when a kept connection turns out to be closed.
        """
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = h11.Request(
            method=method, target=target, headers=[("Host", parts.netloc), *headers.items()]
        )
        server = (parts.scheme, parts.netloc)
        while True:
            try:
                connection = self._kept(server) or await _open(server, self._tls)
            except OSError as error:
                raise NoAnswer(f"{type(error).__name__} {error}".rstrip()) from error
            try:
                answer = await connection.exchange(request, content, patience)
            except TimeoutError as error:
                raise NoAnswer(f"nothing came for {patience:g} s") from error
            except (OSError, h11.ProtocolError) as error:
                if connection.calls and not connection.answered:
                    continue
                raise NoAnswer(f"{type(error).__name__} {error}".rstrip()) from error
            if connection.reusable():
                self._idle.setdefault(server, []).append(connection)
            return answer

    async def close(self) -> None:
        """No connection is left that is not in use."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()
        await asyncio.sleep(0)  # the event loop closes them in its next turn

    def _kept(self, server: tuple[str, str]) -> _Connection | None:
        now, idle = asyncio.get_running_loop().time(), self._idle.get(server, [])
        while idle:
            connection = idle.pop()
            if now - connection.since < _KEPT and not connection.reader.at_eof():
                return connection
            connection.abort()
        return None


async def _open(server: tuple[str, str], tls: ssl.SSLContext | None) -> _Connection:
    """OSError (ssl.SSLError is one) when there is no connection in time."""
    where = urlsplit(f"//{server[1]}")
    chosen = tls if server[0] == "https" else None
    async with asyncio.timeout(_CONNECT):
        opened = await asyncio.open_connection(
            where.hostname, where.port or (443 if chosen else 80), ssl=chosen
        )
    return _Connection(*opened)


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)
        self.calls = 0  # answered on this connection
        self.answered = False  # some of the present answer has come
        self.since = 0.0  # when the last answer was complete, by the event loop's clock

    async def exchange(self, request: h11.Request, content: Content, patience: float) -> Answer:
        """The whole answer. After any error (OSError, h11.ProtocolError, cancellation) the connection is gone."""
        loop, self.answered = asyncio.get_running_loop(), False
        try:
            async with asyncio.timeout(patience) as limit:

                def moved() -> None:
                    limit.reschedule(loop.time() + patience)

                # Who refuses a long body may answer and close before it has come: that answer is read.
                with contextlib.suppress(ConnectionError):
                    await self._send(request, content, moved)
                answer = await self._receive(moved)
        except BaseException:
            self.abort()
            raise
        self.calls, self.since = self.calls + 1, loop.time()
        return answer

    async def _send(self, request: h11.Request, content: Content, moved: Callable[[], None]) -> None:
        head = self._http.send(request) or b""
        if isinstance(content, bytes):
            body = (self._http.send(h11.Data(data=content)) or b"") if content else b""
            self._writer.write(head + body + (self._http.send(h11.EndOfMessage()) or b""))
            return await self._writer.drain()
        self._writer.write(head)
        async for block in content:
            self._writer.write(self._http.send(h11.Data(data=block)) or b"")
            await self._writer.drain()
            moved()
        self._writer.write(self._http.send(h11.EndOfMessage()) or b"")
        return await self._writer.drain()

    async def _receive(self, moved: Callable[[], None]) -> Answer:
        status, headers, blocks = 0, {}, []
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self.reader.read(_BLOCK)
                self.answered = self.answered or bool(data)
                self._http.receive_data(data)
                moved()
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                blocks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, b"".join(blocks))
            elif isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("the connection was closed without an answer")

    def reusable(self) -> bool:
        """Whether another call may follow; else the connection is gone."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """The connection is gone; the other side sees it end."""
        self._writer.transport.abort()
