"""The site-aware tracker as HTTP routes, for any client (BEP 3, 7, 23, 48; tried with libtorrent and aria2).

Errors are answered the tracker's way: status 200 and a bencoded "failure reason".
"""

from __future__ import annotations

import dataclasses
import ipaddress
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import libtorrent as lt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator.errors import GridError, NotAllowed, UserError
from orchestrator.software.torrent.swarm import Announce, Answer, Choose, Peer, Swarms

# (token in the path or None, info-hash) → the site the token speaks for, or None to go by address;
# raises NotAllowed.
Admit = Callable[[str | None, bytes], str | None]


def public(token: str | None, info_hash: bytes) -> str | None:
    """Admits everybody without a token: for a tracker of public signed software only."""
    del info_hash
    if token is not None:
        raise NotAllowed("this tracker takes no tokens; announce to /announce")
    return None


def random_choice(peers: Sequence[Peer], count: int) -> Sequence[Peer]:
    """Any ``count`` of the peers, each as likely."""
    return random.sample(peers, count)


def routes(
    swarms: Swarms,
    *,
    admit: Admit = public,
    clock: Callable[[], float] = time.monotonic,
    choose: Choose = random_choice,
) -> list[Route]:
    """/announce and /scrape, each also with an announce token as last part of the path."""

    def announce(request: Request) -> dict[bytes, Any]:
        query = _parse(request.scope["query_string"])
        asked = _announce(query, _address(request))
        site = admit(request.path_params.get("token"), asked.info_hash)
        answer = swarms.announce(dataclasses.replace(asked, site=site), clock(), choose)
        return _encode(answer, compact=query.get(b"compact", [b"1"])[0] != b"0")

    def scrape(request: Request) -> dict[bytes, Any]:
        hashes = _parse(request.scope["query_string"]).get(b"info_hash", [])
        if not hashes:
            raise UserError("a scrape must name its info_hash")
        now, files = clock(), {}
        for info_hash in hashes[:100]:
            admit(request.path_params.get("token"), _info_hash(info_hash))
            count = swarms.scrape(info_hash, now)
            files[info_hash] = {
                b"complete": count.complete,
                b"downloaded": count.downloaded,
                b"incomplete": count.incomplete,
            }
        return {b"files": files}

    return [
        Route(path, _answering(handler), methods=["GET"])
        for name, handler in (("announce", announce), ("scrape", scrape))
        for path in (f"/{name}", f"/{name}/{{token}}")
    ]


def _answering(handler: Callable[[Request], dict[bytes, Any]]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            document = handler(request)
        except GridError as refused:
            document = {b"failure reason": refused.message.encode()}
        return Response(lt.bencode(document), media_type="text/plain", headers={"Cache-Control": "no-store"})

    return answer


def _parse(query: bytes) -> dict[bytes, list[bytes]]:
    """Percent-decoded to bytes, not to text: an info-hash is no UTF-8."""
    fields: dict[bytes, list[bytes]] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        fields.setdefault(name, []).append(unquote_to_bytes(value.replace(b"+", b" ")))
    return fields


def _announce(query: dict[bytes, list[bytes]], address: str) -> Announce:
    port = _number(query, b"port")
    if not 0 < port < 65536:
        raise UserError("port must be from 1 to 65535")
    return Announce(
        info_hash=_info_hash(query.get(b"info_hash", [b""])[0]),
        peer_id=query.get(b"peer_id", [b""])[0][:20],
        address=address,
        port=port,
        left=_number(query, b"left", 1),
        event=query.get(b"event", [b""])[0].decode("ascii", "replace"),
        wanted=_number(query, b"numwant", 50),
    )


def _info_hash(value: bytes) -> bytes:
    if len(value) != 20:
        raise UserError("info_hash must be 20 bytes")
    return value


def _number(query: dict[bytes, list[bytes]], name: bytes, default: int | None = None) -> int:
    value = query.get(name, [b""])[0]
    if not value and default is not None:
        return default
    if not value.isdigit() or len(value) > 18:
        raise UserError(f"{name.decode()} must be a number")
    return int(value)


def _address(request: Request) -> str:
    """Where the connection comes from; an ``ip`` in the query could name a victim and is ignored."""
    if request.client is None:
        raise UserError("the tracker needs the client's address")
    ip = ipaddress.ip_address(request.client.host)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _encode(answer: Answer, *, compact: bool) -> dict[bytes, Any]:
    document: dict[bytes, Any] = {
        b"interval": answer.interval,
        b"min interval": answer.min_interval,
        b"complete": answer.complete,
        b"incomplete": answer.incomplete,
    }
    if not compact:
        document[b"peers"] = [
            {b"ip": peer.address.encode(), b"port": peer.port, b"peer id": peer.peer_id}
            for peer in answer.peers
        ]
        return document
    document[b"peers"] = _packed(peer for peer in answer.peers if ":" not in peer.address)
    if six := _packed(peer for peer in answer.peers if ":" in peer.address):
        document[b"peers6"] = six
    return document


def _packed(peers: Iterable[Peer]) -> bytes:
    return b"".join(
        ipaddress.ip_address(peer.address).packed + peer.port.to_bytes(2, "big") for peer in peers
    )
