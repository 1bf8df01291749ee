"""uvicorn's protocol on llhttp (httptools), bounded: nobody may send endless headers, nor take for ever with them.

llhttp parses several times faster than h11, but holds whatever comes before the empty line; h11 stops at 64 KiB.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST_HEAD = 64 << 10  # bytes of a request line and its headers
PATIENCE = 20.0  # seconds from the first byte (or the connection) to the end of the headers


class Bounded(HttpToolsProtocol):
    """One connection."""

    patience = PATIENCE
    _head = 0  # bytes of the request that is being read
    _in_head = True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._late is None:  # the first of a further request
                self._begin()
            self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > LARGEST_HEAD:
            self.send_400_response("The headers of this request are too long.")

    def on_headers_complete(self) -> None:
        self._end()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head, self._head = True, 0

    def _begin(self) -> None:
        self._late = cast(Any, self.loop).call_later(self.patience, self.transport.close)

    def _end(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
