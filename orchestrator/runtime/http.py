"""The client half of every control hop: JSON over TLS verified against the VO's CA, with a token.

Imports nothing heavy: the job agent carries it. The server half is ``web``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from orchestrator.errors import GridError, NotAllowed, NotFound, PermanentError, TemporaryError, UserError

TokenSource = Callable[[], Awaitable[str]]
_KINDS: Mapping[str, type[GridError]] = {
    kind.__name__: kind for kind in (UserError, NotAllowed, NotFound, PermanentError)
}


def tls_context(ca: Path) -> ssl.SSLContext:
    """A client context that trusts the VO's CA in ``ca`` and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=str(ca))
    return context


def error_from(status: int, body: Any, url: str, retry_after: str | None = None) -> GridError:
    """The GridError that an error answer stands for (the inverse of ``web.answer_error``)."""
    told = body.get("error", {}) if isinstance(body, dict) else {}
    kind, message = told.get("kind", ""), told.get("message") or f"{url} answered {status}"
    facts = told.get("facts") or {}
    if status in (429, 502, 503, 504):
        return TemporaryError(message, retry_in=float(retry_after or 1), **facts)
    default = {401: NotAllowed, 403: NotAllowed, 404: NotFound}.get(
        status, UserError if status < 500 else PermanentError
    )
    return _KINDS.get(kind, default)(message, **facts)


class Api:
    """One server's JSON API. Open with ``async with``; safe for concurrent calls.

    ``token`` is awaited before each call, so a renewing source keeps a long-lived Api authorised.
    Connection failures and 503 are tried again until ``patience`` seconds have passed, then raise
    TemporaryError: callers need no loop of their own for a service that restarts.
    """

    def __init__(
        self, base: str, tls: ssl.SSLContext, token: TokenSource | None = None, *, patience: float = 10.0
    ) -> None:
        self.base = base.rstrip("/")
        self.token = token
        self.patience = patience
        self.http = httpx.AsyncClient(verify=tls, timeout=httpx.Timeout(15.0, connect=5.0), trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def get(
        self, path: str, /, *, timeout: float | None = None, token: str | None = None, **params: Any
    ) -> Any:
        """GET ``path``; parameters that are None are left out. Returns the decoded JSON."""
        return await self.call(
            "GET",
            path,
            params={k: v for k, v in params.items() if v is not None},
            timeout=timeout,
            token=token,
        )

    async def post(
        self, path: str, body: Any = None, *, timeout: float | None = None, token: str | None = None
    ) -> Any:
        """POST ``body`` as JSON; returns the decoded JSON. A repeated POST must be harmless at the server."""
        return await self.call("POST", path, json={} if body is None else body, timeout=timeout, token=token)

    async def call(
        self, method: str, path: str, *, timeout: float | None = None, token: str | None = None, **more: Any
    ) -> Any:
        """One call with retries; ``timeout`` seconds for the answer (long polls), ``token`` instead of the source's."""
        running = asyncio.get_running_loop()
        give_up = running.time() + self.patience
        pause = 0.1
        while True:
            try:
                return await self._once(method, path, timeout, token, more)
            except TemporaryError as error:
                wait = max(pause, min(error.retry_in, 2.0))
                if running.time() + wait > give_up:
                    raise
            await asyncio.sleep(wait)
            pause = min(2.0, pause * 2)

    async def _once(
        self, method: str, path: str, timeout: float | None, token: str | None, more: dict[str, Any]
    ) -> Any:
        headers: dict[str, str] = {}
        if token is None and self.token is not None:
            token = await self.token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        limits = (
            httpx.Timeout(timeout + 5.0, connect=5.0) if timeout is not None else httpx.USE_CLIENT_DEFAULT
        )
        url = self.base + path
        try:
            answer = await self.http.request(method, url, headers=headers, timeout=limits, **more)
        except httpx.TransportError as error:
            raise TemporaryError(
                f"{self.base} does not answer: {type(error).__name__} {error}", url=url
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            body = answer.json()
        except ValueError:
            body = None
        raise error_from(answer.status_code, body, url, answer.headers.get("Retry-After"))
