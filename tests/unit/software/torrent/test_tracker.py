"""The tracker's HTTP face, over ASGI: what clients send, byte for byte, and what they get."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpx
import libtorrent as lt
import pytest
from starlette.applications import Starlette

from orchestrator.errors import NotAllowed
from orchestrator.software.torrent.swarm import Policy, Swarms
from orchestrator.software.torrent.tracker import Admit, public, routes

HASH = bytes(range(200, 220))  # bytes that are no UTF-8
QUOTED = "".join(f"%{byte:02x}" for byte in HASH)


class Site:
    """A tracker and clients at any address."""

    def __init__(self, admit: Admit = public) -> None:
        sites = ((ipaddress.ip_network("10.1.0.0/16"), "A"), (ipaddress.ip_network("10.2.0.0/16"), "B"))
        swarms = Swarms(Policy(sites=sites, default_site="A"))
        self.app = Starlette(routes=routes(swarms, admit=admit, clock=lambda: 1.0))

    async def get(self, path: str, address: str = "10.1.0.1") -> dict[bytes, Any]:
        transport = httpx.ASGITransport(self.app, client=(address, 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            answer = await client.get(path)
        assert answer.status_code == 200
        document: dict[bytes, Any] = lt.bdecode(answer.content)
        return document

    async def announce(self, address: str, more: str = "", path: str = "/announce") -> dict[bytes, Any]:
        query = f"info_hash={QUOTED}&peer_id=-XX0001-123456789012&port=6881&uploaded=0&downloaded=0&left=5"
        return await self.get(f"{path}?{query}{more}", address)


async def test_compact_peers_of_both_families() -> None:
    site = Site()
    await site.announce("10.1.0.1")
    await site.announce("::ffff:10.1.0.2")
    await site.announce("fd00::7")
    answer = await site.announce("10.1.0.9", "&compact=1")
    peers = answer[b"peers"]
    assert {peers[at : at + 6] for at in range(0, len(peers), 6)} == {
        bytes([10, 1, 0, 1, 0x1A, 0xE1]),
        bytes([10, 1, 0, 2, 0x1A, 0xE1]),
    }
    assert answer[b"peers6"] == ipaddress.ip_address("fd00::7").packed + b"\x1a\xe1"
    assert answer[b"interval"] == 120
    assert answer[b"incomplete"] == 4


async def test_a_dictionary_for_clients_that_ask_for_it() -> None:
    site = Site()
    await site.announce("10.1.0.1")
    answer = await site.announce("10.1.0.2", "&compact=0")
    assert answer[b"peers"] == [{b"ip": b"10.1.0.1", b"port": 6881, b"peer id": b"-XX0001-123456789012"}]


async def test_sites_are_kept_apart_and_the_ip_parameter_is_ignored() -> None:
    site = Site()
    await site.announce("10.1.0.1", "&ip=10.2.0.77")
    assert (await site.announce("10.2.0.1"))[b"peers"] == b""


@pytest.mark.parametrize(
    "query",
    [
        "",
        "info_hash=abc&port=1&left=0",
        f"info_hash={QUOTED}&left=0",
        f"info_hash={QUOTED}&port=0",
        f"info_hash={QUOTED}&port=70000",
        f"info_hash={QUOTED}&port=6881&left=many",
        f"info_hash={QUOTED}&port=6881&left={'9' * 40}",
    ],
)
async def test_bad_requests_get_a_reason(query: str) -> None:
    assert (await Site().get(f"/announce?{query}"))[b"failure reason"]


async def test_scrape() -> None:
    site = Site()
    await site.announce("10.1.0.1")
    answer = await site.get(f"/scrape?info_hash={QUOTED}&info_hash={'%00' * 20}")
    assert answer[b"files"] == {
        HASH: {b"complete": 0, b"downloaded": 0, b"incomplete": 1},
        b"\0" * 20: {b"complete": 0, b"downloaded": 0, b"incomplete": 0},
    }
    assert b"info_hash" in (await site.get("/scrape"))[b"failure reason"]


async def test_the_token_decides_who_comes_in_and_for_which_site() -> None:
    def admit(token: str | None, info_hash: bytes) -> str | None:
        assert info_hash == HASH
        if token not in {"for-a", "for-b"}:
            raise NotAllowed("announce token is missing or wrong")
        return token[-1].upper()

    site = Site(admit)
    assert b"token" in (await site.announce("10.1.0.1"))[b"failure reason"]
    assert b"token" in (await site.announce("10.1.0.1", path="/announce/forged"))[b"failure reason"]
    await site.announce("10.1.0.1", path="/announce/for-b")
    assert (await site.announce("10.1.0.2", path="/announce/for-a"))[b"peers"] == b""
    assert (await site.announce("10.1.0.3", path="/announce/for-b"))[b"peers"] == bytes(
        [10, 1, 0, 1, 0x1A, 0xE1]
    )
    assert b"token" in (await site.get(f"/scrape/forged?info_hash={QUOTED}"))[b"failure reason"]


async def test_a_public_tracker_refuses_a_token() -> None:
    assert b"tokens" in (await Site().announce("10.1.0.1", path="/announce/x"))[b"failure reason"]
