"""The server half of every control hop: Starlette on uvicorn, TLS, bearer tokens, errors as JSON."""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from orchestrator.errors import GridError, NotAllowed, TemporaryError, UserError
from orchestrator.runtime import daemon, openapi

if TYPE_CHECKING:
    import uvicorn

LARGEST_BODY = 16 << 20  # bytes of a call; files travel as streams
Handler = Callable[[Request], Awaitable[Any]]


class TooLarge(UserError):
    """413: the body is larger than the call takes."""

    http_status: ClassVar[int] = 413


@dataclass(frozen=True)
class Caller:
    """Who calls, by a verified token."""

    subject: str
    roles: frozenset[str]
    claims: dict[str, Any] = field(default_factory=dict)

    def require(self, *roles: str) -> Caller:
        """Raise NotAllowed unless the caller has one of ``roles``; return self."""
        if not self.roles & set(roles):
            raise NotAllowed(
                f"{self.subject} has no role {' or '.join(roles)}; ask the VO's admin for it",
                needed=sorted(roles),
            )
        return self

    @property
    def name(self) -> str:
        """The part of the subject behind its kind: ``user:ada`` → ``ada``."""
        return self.subject.partition(":")[2]

    @property
    def user(self) -> str:
        """The person on whose behalf the call is made (a job token acts for its owner)."""
        return str(self.claims.get("user") or self.name)


Authenticator = Callable[[str], Caller]  # token → Caller; raises NotAllowed


def bearer(request: Request) -> str:
    """The bearer token of ``request``; NotAllowed when there is none."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise NotAllowed("no token in the request; run `orchestrate login`")
    return token


def caller(request: Request) -> Caller:
    """The verified caller of ``request``; NotAllowed otherwise."""
    check: Authenticator = request.app.state.authenticate
    return check(bearer(request))


async def body(request: Request, most: int = LARGEST_BODY) -> dict[str, Any]:
    """The request's JSON object; UserError when it is none, or has more than ``most`` bytes."""
    held = bytearray()
    async for piece in request.stream():
        held += piece
        if len(held) > most:
            raise TooLarge(f"the body of {request.url.path} is too large; at most {most} bytes are taken")
    try:
        value = orjson.loads(held)
    except ValueError as error:
        raise UserError(f"the body of {request.url.path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"the body of {request.url.path} must be a JSON object")
    return value


def number(request: Request, name: str, default: float, most: float) -> float:
    """A query parameter as a number between 0 and ``most``."""
    text = request.query_params.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError as error:
        raise UserError(f"{name}={text!r} is not a number") from error
    if math.isnan(value):
        raise UserError(f"{name}={text!r} is not a number")
    return min(max(value, 0.0), most)


class Answer(Response):
    """A JSON value."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS)


def route(method: str, path: str, handler: Handler) -> Route:
    """A route whose handler returns a JSON value, or a Response."""

    @functools.wraps(handler)
    async def endpoint(request: Request) -> Response:
        value = await handler(request)
        return value if isinstance(value, Response) else Answer(value)

    return Route(path, endpoint, methods=[method], name=f"{method} {path}")


def answer_error(_: Request, error: Exception) -> Response:
    """A GridError as its JSON answer; ``http.error_from`` reads it back."""
    known = cast(GridError, error)
    headers = {"Retry-After": f"{known.retry_in:g}"} if isinstance(known, TemporaryError) else {}
    told = {"kind": type(known).__name__, "message": known.message, "facts": known.facts}
    return Answer({"error": told}, status_code=known.http_status, headers=headers)


def application(routes: Sequence[BaseRoute], authenticate: Authenticator | None, **more: Any) -> Starlette:
    """An ASGI application; ``more`` goes to Starlette (lifespan, middleware).

    GET /healthz answers {"ok": true}, GET /v1/openapi.json what it serves.
    """

    async def healthy(_: Request) -> dict[str, bool]:
        """Whether it serves."""
        return {"ok": True}

    async def described(request: Request) -> dict[str, Any]:
        """This document."""
        if not hasattr(request.app.state, "document"):  # made once: everybody may ask for it
            request.app.state.document = openapi.document("orchestrate", request.app.routes)
        return cast(dict[str, Any], request.app.state.document)

    own = [route("GET", "/healthz", healthy), route("GET", "/v1/openapi.json", described)]
    app = Starlette(
        routes=[*own, *routes],
        exception_handlers={GridError: answer_error},
        **more,
    )
    app.state.authenticate = authenticate
    return app


@dataclass(frozen=True)
class TlsFiles:
    """A server's certificate chain and key, PEM."""

    certificate: Path
    key: Path

    @classmethod
    def of(cls, root: Path) -> TlsFiles:
        """The host certificate of the machine rooted at ``root``."""
        return cls(root / "etc/tls/host.pem", root / "etc/tls/host.key")


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A bound TCP socket; with ``reuse_port`` several processes share one address (port 0: any free one)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise TemporaryError(f"cannot listen on {host}:{port}: {error.strerror}", retry_in=1.0) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def server(app: Starlette, tls: TlsFiles | None) -> uvicorn.Server:
    """A uvicorn server for ``app``; ``await server.serve([socket])`` runs it until SIGTERM.

    ``tls`` is None only where signed public content is served.
    """
    import uvicorn  # with click: not for those who check tokens and serve nobody

    from orchestrator.runtime.bounded import Bounded

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            daemon.ready()

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Bounded,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=512,
        ws="none",
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )
    return Server(config)


def mount(path: str, app: Any) -> Mount:
    """``app`` below ``path`` (static files)."""
    return Mount(path, app=app)
