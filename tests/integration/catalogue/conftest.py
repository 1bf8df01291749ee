"""A real PostgreSQL, and on it the issuer and the catalogue, served over TLS to real clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import orchestrator
from orchestrator.auth import api as auth_api
from orchestrator.auth.authority import Authority
from orchestrator.auth.client import certificate_tokens, host_tokens
from orchestrator.auth.issuer import Issuer
from orchestrator.auth.verify import verifier
from orchestrator.catalogue import store
from orchestrator.catalogue.api import Catalogue
from orchestrator.runtime import web
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.http import Api, TokenSource, tls_context
from orchestrator.runtime.sql import Database, migrate
from orchestrator.wiring.proc import JobsView
from tests.support.vo import founded

PACKAGE = Path(orchestrator.__file__).parent
VO = "testvo"
_names = itertools.count()


@pytest.fixture
async def database(server: str) -> AsyncIterator[Database]:
    """A fresh database with the tables and the top of the tree."""
    name = f"catalogue{next(_names)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    async with Database(server.replace("/grid?", f"/{name}?")) as opened:
        await migrate(opened, [PACKAGE / part for part in ("auth", "catalogue", "tasks", "jobs")])
        async with opened.transaction() as connection:
            await store.begin(connection, VO, "root")
        yield opened


@dataclass
class Central:
    """The services, and how to become somebody."""

    database: Database
    authority: Authority
    issuer: Issuer
    url: str

    def plain(self) -> Api:
        return Api(self.url, tls_context(self.authority.ca), patience=2)

    @contextlib.asynccontextmanager
    async def user(self, name: str) -> AsyncIterator[Api]:
        """The API as this user."""
        pair = self.authority.user(name, SystemClock().now())
        async with self.plain() as plain, self.plain() as api:
            api.token = certificate_tokens(plain, pair, VO)
            yield api

    def machine(self, root: Path, address: str, role: str = "vobox", site: str = "here") -> Path:
        """The root of a machine with its certificate and keys."""
        files = self.authority.host(root.name, address, role, site, SystemClock().now())
        for source, name in (
            (files.ca, "tls/ca.pem"),
            (files.certificate, "tls/host.pem"),
            (files.key, "tls/host.key"),
            (files.token_keys, "token-keys.json"),
        ):
            target = root / "etc" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        return root

    @contextlib.asynccontextmanager
    async def host(self, root: Path) -> AsyncIterator[Api]:
        """The API as the machine at ``root``."""
        async with self.plain() as plain, self.plain() as api:
            api.token = host_tokens(plain, root, VO)
            yield api

    def job_token(self, task: int, user: str) -> TokenSource:
        """The token of a running job."""
        token = self.issuer.job(task, 1, user, "here", 600.0)

        async def source() -> str:
            return token

        return source

    async def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        return await self.database.rows(statement, **values)  # type: ignore[arg-type]


@pytest.fixture
async def central(database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    """Everything runs; members are root (admin), ada and bob."""
    authority, people, issuer = await founded(database, tmp_path / "keys", VO)
    socket = web.listen("127.0.0.1", 0)
    here = Central(database, authority, issuer, f"https://127.0.0.1:{socket.getsockname()[1]}")
    root = here.machine(tmp_path / "central", "127.0.0.1", "central")
    routes = [
        *auth_api.routes(issuer, read_json(root / "etc/token-keys.json")),
        *Catalogue(database, issuer.envelope, VO, JobsView(database, people)).routes(),
    ]
    app = web.application(routes, verifier(root / "etc/token-keys.json", VO))
    running = web.server(app, web.TlsFiles.of(root))
    task = asyncio.create_task(running._serve([socket]))
    try:
        yield here
    finally:
        running.should_exit = True
        await task
