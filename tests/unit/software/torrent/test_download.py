"""Plain HTTP download against a real ASGI file server that can be told to misbehave."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.software.torrent.download import download

DATA = os.urandom(2_500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server:
    def __init__(self, root: Path) -> None:
        self.file = root / "served"
        self.file.write_bytes(DATA)
        self.ranges: list[str | None] = []
        paths = {
            "/good": self.good,
            "/no-range": self.no_range,
            "/wrong": self.wrong,
            "/longer": self.longer,
            "/shorter": self.shorter,
            "/missing": self.missing,
        }
        app = Starlette(routes=[Route(path, handler) for path, handler in paths.items()])
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s")

    async def good(self, request: Request) -> Response:
        self.ranges.append(request.headers.get("range"))
        return FileResponse(self.file)

    async def no_range(self, request: Request) -> Response:
        return Response(DATA)

    async def wrong(self, request: Request) -> Response:
        return Response(bytes(len(DATA)))

    async def longer(self, request: Request) -> Response:
        return Response(DATA + b"more")

    async def shorter(self, request: Request) -> Response:
        return Response(DATA[:1_000_000])

    async def missing(self, request: Request) -> Response:
        return Response(status_code=404)

    async def get(self, into: Path, *paths: str) -> int:
        urls = [f"http://s/{path}" for path in paths]
        return await download(urls, into, size=len(DATA), sha256=SHA256, client=self.client)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


async def test_whole(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    received = await download(
        ["http://s/good"],
        tmp_path / "f",
        size=len(DATA),
        sha256=SHA256,
        client=server.client,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert received == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert not (tmp_path / "f.part").exists()


async def test_resumed_where_it_broke_off(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="ended after 1000000"):
        await server.get(tmp_path / "f", "shorter")
    assert await server.get(tmp_path / "f", "good") == len(DATA) - 1_000_000
    assert server.ranges == ["bytes=1000000-"]
    assert (tmp_path / "f").read_bytes() == DATA


async def test_the_next_url_goes_on_and_a_server_without_range_starts_again(
    server: Server, tmp_path: Path
) -> None:
    assert await server.get(tmp_path / "f", "missing", "shorter", "no-range") == len(DATA)
    assert (tmp_path / "f").read_bytes() == DATA


async def test_a_complete_part_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(DATA)
    assert await server.get(tmp_path / "f", "good") == 0
    assert server.ranges == []


@pytest.mark.parametrize("size", [1000, len(DATA), len(DATA) + 5])
async def test_a_spoilt_part_does_not_spoil_the_file(server: Server, tmp_path: Path, size: int) -> None:
    (tmp_path / "f.part").write_bytes(b"\1" * size)
    await server.get(tmp_path / "f", "good", "good")
    assert (tmp_path / "f").read_bytes() == DATA


async def test_wrong_content_everywhere_is_permanent(server: Server, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="damaged or changed at every source"):
        await server.get(tmp_path / "f", "wrong")
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "f.part").exists()


async def test_nobody_gives_it(server: Server, tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match=r"404.*more than the expected") as caught:
        await server.get(tmp_path / "f", "missing", "longer")
    assert set(caught.value.facts["reasons"]) == {"http://s/missing", "http://s/longer"}
    with pytest.raises(TemporaryError, match="no URL is known"):
        await server.get(tmp_path / "f")
