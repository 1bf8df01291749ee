"""Get and keep a token with a certificate: hosts and users do it the same way."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

from orchestrator.errors import NotAllowed
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.http import Api, TokenSource
from orchestrator.runtime.security import Pair, make_assertion


def certificate_tokens(api: Api, pair: Pair, vo: str, clock: Clock | None = None) -> TokenSource:
    """A source of tokens for the owner of ``pair`` from central at ``api`` (an Api without a token).

    A token is fetched when the last has less than a third of its life left; many callers that ask
    at once cause one request.
    """
    time = clock or SystemClock()
    held: dict[str, float | str] = {"token": "", "renew": 0.0}
    lock = asyncio.Lock()

    async def token() -> str:
        async with lock:
            now = time.now()
            if now >= float(held["renew"]):
                answer = await _ask(api, pair, vo, time)
                held.update(token=answer["token"], renew=now + answer["expires_in"] * 2 / 3)
            return str(held["token"])

    return token


async def _ask(api: Api, pair: Pair, vo: str, clock: Clock) -> Any:
    """One token. When an answer is lost, its assertion counts as used: then a second one is made."""
    for last in (False, True):
        assertion = make_assertion(pair, vo, secrets.token_urlsafe(12), clock.now())
        try:
            return await api.post("/v1/auth/token", {"assertion": assertion})
        except NotAllowed:
            if last:
                raise
    raise AssertionError("unreachable")


def host_pair(root: Path) -> Pair:
    """The certificate and key of the machine rooted at ``root``."""
    return Pair((root / "etc/tls/host.pem").read_bytes(), (root / "etc/tls/host.key").read_bytes())


def host_tokens(api: Api, root: Path, vo: str) -> TokenSource:
    """Tokens for the services of the machine rooted at ``root``."""
    return certificate_tokens(api, host_pair(root), vo)
