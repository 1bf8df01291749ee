"""HTTP over kept connections, against servers that answer, close, hang and refuse as real ones do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from orchestrator.runtime.connections import Connections, NoAnswer

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/there"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[Connections]:
    connections = Connections(None)
    try:
        yield connections
    finally:
        await connections.close()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_one_connection_serves_many_calls() -> None:
    opened = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            await head(reader)
            writer.write(OK)

    async with serving(handler) as url, client() as connections:
        for _ in range(3):
            assert (await connections.call("GET", url, {}, b"", 5)).content == b"{}"
        assert opened == 1
        await asyncio.gather(*(connections.call("GET", url, {}, b"", 5) for _ in range(4)))
        assert opened == 4  # one call at a time on each


async def test_a_call_on_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    asked = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await head(reader)
        asked += 1
        writer.write(OK)
        await head(reader)  # the next call comes, and nobody answers it

    async with serving(handler) as url, client() as connections:
        for _ in range(3):
            assert (await connections.call("GET", url, {}, b"", 5)).status == 200
        assert asked == 3


async def test_a_new_connection_that_ends_without_an_answer_is_no_answer() -> None:
    asked = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await head(reader)
        asked += 1

    async with serving(handler) as url, client() as connections:
        with pytest.raises(NoAnswer):
            await connections.call("POST", url, {}, b"", 5)
        assert asked == 1  # it may have been done: whoever called decides


async def test_half_an_answer_is_no_answer() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
        await writer.drain()

    async with serving(handler) as url, client() as connections:
        with pytest.raises(NoAnswer):
            await connections.call("GET", url, {}, b"", 5)


async def test_silence_is_told_with_its_length() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(handler) as url, client() as connections:
        with pytest.raises(NoAnswer, match=r"nothing came for 0\.2 s"):
            await connections.call("GET", url, {}, b"", 0.2)


async def test_nobody_there() -> None:
    async with client() as connections:
        with pytest.raises(NoAnswer, match="ConnectionRefusedError"):
            await connections.call("GET", "http://127.0.0.1:1/", {}, b"", 1)


async def test_a_body_in_pieces_arrives_whole() -> None:
    got = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Transfer-Encoding: chunked" in await head(reader)
        while size := int(await reader.readline(), 16):
            got.extend(await reader.readexactly(size))
            await reader.readline()
        writer.write(OK)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(50):
            yield bytes([number]) * 40_000

    async with serving(handler) as url, client() as connections:
        answer = await connections.call("PUT", url, {"Transfer-Encoding": "chunked"}, pieces(), 5)
    assert answer.status == 200
    assert bytes(got) == b"".join(bytes([number]) * 40_000 for number in range(50))


async def test_who_refuses_a_long_body_is_heard() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        await reader.read()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 65536

    async with serving(handler) as url, client() as connections:
        answer = await connections.call("PUT", url, {"Transfer-Encoding": "chunked"}, endless(), 5)
    assert answer.status == 413


async def test_a_call_that_is_given_up_closes_its_connection() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended.set()

    async with serving(handler) as url, client() as connections:
        waiting = asyncio.create_task(connections.call("GET", url, {}, b"", 30))
        await asyncio.wait_for(asked.wait(), 5)
        waiting.cancel()
        await asyncio.wait_for(ended.wait(), 5)
