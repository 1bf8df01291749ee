"""The client half of every control hop: JSON over TLS verified against the VO's CA, with a token.

Imports nothing heavy: the job agent carries it. The server half is ``web``.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode

from orchestrator.errors import GridError, NotAllowed, NotFound, PermanentError, TemporaryError, UserError
from orchestrator.runtime.connections import Answer, Connections, Content, NoAnswer

if TYPE_CHECKING:
    import httpx

_PATIENCE = 15.0  # seconds for an answer, unless the call says otherwise
_SAFE = "/%:@!$&'()*+,;=~?"  # a path's letters that stand for themselves, or are escaped already (RFC 3986)
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
        self._tls = tls
        self._connections = Connections(tls)
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        """For whole files, with the same trust; loaded and opened when first wanted."""
        if self._http is None:
            import httpx

            self._http = httpx.AsyncClient(
                verify=self._tls, timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False
            )
        return self._http

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()
        if self._http is not None:
            await self._http.aclose()

    async def get(
        self, path: str, /, *, timeout: float | None = None, token: str | None = None, **params: Any
    ) -> Any:
        """GET ``path``; parameters that are None are left out. Returns the decoded JSON."""
        return await self.call("GET", path, params=params, timeout=timeout, token=token)

    async def post(
        self, path: str, body: Any = None, *, timeout: float | None = None, token: str | None = None
    ) -> Any:
        """POST ``body`` as JSON; returns the decoded JSON. A repeated POST must be harmless at the server."""
        told = json.dumps({} if body is None else body, ensure_ascii=False, separators=(",", ":")).encode()
        return await self.call("POST", path, content=told, timeout=timeout, token=token)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: Content = b"",
        timeout: float | None = None,
        token: str | None = None,
    ) -> Any:
        """One call with retries; ``timeout`` seconds for the answer (long polls), ``token`` instead of the source's.

        ``content`` that is not bytes is iterated anew for each try.
        """
        asked = {key: value for key, value in (params or {}).items() if value is not None}
        url = self.base + quote(path, safe=_SAFE) + (f"?{urlencode(asked, doseq=True)}" if asked else "")
        running = asyncio.get_running_loop()
        give_up = running.time() + self.patience
        pause = 0.1
        while True:
            try:
                return await self._once(method, url, content, timeout, token)
            except TemporaryError as error:
                wait = max(pause, min(error.retry_in, 2.0))
                if running.time() + wait > give_up:
                    raise
            await asyncio.sleep(wait)
            pause = min(2.0, pause * 2)

    async def _once(
        self, method: str, url: str, content: Content, timeout: float | None, token: str | None
    ) -> Any:
        headers = {"Accept": "application/json"}
        if not isinstance(content, bytes):
            headers["Transfer-Encoding"] = "chunked"
        elif content:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if token is None and self.token is not None:
            token = await self.token()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        limit = _PATIENCE if timeout is None else timeout + 5.0
        try:
            answer = await self._connections.call(method, url, headers, content, limit)
        except NoAnswer as error:
            raise TemporaryError(f"{self.base} does not answer: {error}", url=url) from error
        if 200 <= answer.status < 300:
            return json.loads(answer.content) if answer.content else None
        raise error_from(answer.status, _told(answer), url, answer.headers.get("retry-after"))


def _told(answer: Answer) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        return None
