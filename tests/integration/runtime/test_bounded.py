"""A server reads headers of a bounded length, for a bounded time; bodies and later requests are not counted to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from orchestrator.runtime import bounded, web


async def _length(request: Request) -> Any:
    return {"bytes": len(await request.body())}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    sock = web.listen("127.0.0.1", 0)
    server = web.server(web.application([web.route("POST", "/length", _length)], None), None)
    serving = asyncio.create_task(server.serve([sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield sock.getsockname()[1]
    server.should_exit = True
    await asyncio.wait_for(serving, 20)


@contextlib.asynccontextmanager
async def _line(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Status line and body of one answer."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
    )
    return head.split(b"\r\n")[0] + b" " + await asyncio.wait_for(reader.readexactly(length), 20)


def _post(size: int, more: str = "") -> bytes:
    return f"POST /length HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {size}\r\n\r\n".encode() + b"x" * size


async def test_bodies_and_further_requests_are_no_headers(port: int) -> None:
    async with _line(port) as (reader, writer):
        for size in (3_000_000, 0, *[10] * 1000):  # the heads of all of them together are too long
            writer.write(_post(size))
            assert await _answer(reader) == b'HTTP/1.1 200 OK {"bytes":%d}' % size


async def test_requests_sent_at_once_are_answered_in_order(port: int) -> None:
    async with _line(port) as (reader, writer):
        writer.write(b"".join(_post(size) for size in range(20)))
        for size in range(20):
            assert await _answer(reader) == b'HTTP/1.1 200 OK {"bytes":%d}' % size


@pytest.mark.parametrize(
    "more", ["X: " + "y" * bounded.LARGEST_HEAD, "".join(f"X{n}: y\r\n" for n in range(9000))]
)
async def test_endless_headers_are_refused(port: int, more: str) -> None:
    async with _line(port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(f"POST /length HTTP/1.1\r\nHost: x\r\n{more}".encode())
            await writer.drain()
        assert (await _answer(reader)).startswith(b"HTTP/1.1 400")
        assert await asyncio.wait_for(reader.read(), 20) == b""


@pytest.mark.parametrize("sent", [b"", b"POST /length HT", b"POST /length HTTP/1.1\r\nHost: x\r\n"])
async def test_who_never_ends_the_headers_is_let_go(
    port: int, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded.Bounded, "patience", 0.3)
    async with _line(port) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 20) == b""
    async with _line(port) as (reader, writer):  # a second request has the same time, and no more
        writer.write(_post(5))
        assert await _answer(reader) == b'HTTP/1.1 200 OK {"bytes":5}'
        writer.write(b"POST")
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_what_is_no_http_is_refused(port: int) -> None:
    for sent in (
        b"\x16\x03\x01\x00",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    ):
        async with _line(port) as (reader, writer):
            writer.write(sent)
            assert (await _answer(reader)).startswith(b"HTTP/1.1 400")
