"""A VO box as its programs see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.vobox.model import VoBoxConfig

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from orchestrator.runtime.http import Api
    from orchestrator.runtime.web import Authenticator


@dataclass(frozen=True)
class Box:
    """The machine: its root, its configuration, and the end of the program (``stop``)."""

    root: Path
    config: VoBoxConfig
    stop: asyncio.Event

    @property
    def www(self) -> Path:
        return self.root / "data/www"

    def url(self, port: int, scheme: str = "https") -> str:
        address = self.config.address
        return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"

    def api(self, base: str, patience: float = 10.0) -> Api:
        """A client without a token."""
        from orchestrator.runtime.http import Api, tls_context

        return Api(base, tls_context(self.root / "etc/tls/ca.pem"), patience=patience)

    @contextlib.asynccontextmanager
    async def authorised(self, issuer: str, *bases: str, patience: float) -> AsyncIterator[list[Api]]:
        """Clients of ``issuer`` (without token) and of ``bases`` (with this host's token from ``issuer``)."""
        from orchestrator.auth.client import host_tokens

        async with contextlib.AsyncExitStack() as stack:
            plain = await stack.enter_async_context(self.api(issuer))
            token = host_tokens(plain, self.root, self.config.vo)
            found = [plain]
            for base in bases:
                api = await stack.enter_async_context(self.api(base, patience))
                api.token = token
                found.append(api)
            yield found

    async def serve(self, app: Starlette, port: int, *, clear: bool = False) -> None:
        """Serve until SIGTERM; ``stop`` is set then."""
        from orchestrator.runtime import web

        running = web.server(app, None if clear else web.TlsFiles.of(self.root))
        try:
            await running.serve([web.listen(self.config.address, port)])
        finally:
            self.stop.set()

    def verifier(self) -> Authenticator:
        from orchestrator.auth.verify import verifier

        return verifier(self.root / "etc/token-keys.json", self.config.vo)
