"""Central with all its routes, its broker and a ClusterMonitor in this process, with the VO's real tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from starlette.applications import Starlette

from orchestrator.auth import api as auth_api
from orchestrator.auth import model
from orchestrator.auth.authority import Authority
from orchestrator.auth.issuer import Issuer
from orchestrator.auth.model import USER_ROLES, Person
from orchestrator.auth.store import People
from orchestrator.auth.verify import verifier
from orchestrator.catalogue import store as catalogue_store
from orchestrator.catalogue.api import Catalogue
from orchestrator.jobs import compose
from orchestrator.jobs.jdl import Defaults
from orchestrator.operations.api import routes as operations_routes
from orchestrator.runtime import web
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.files import read_json
from orchestrator.runtime.http import tls_context
from orchestrator.runtime.signing import TokenSigner
from orchestrator.runtime.sql import Database, migrate
from orchestrator.software.api import routes as package_routes
from orchestrator.wiring.central import COMPONENTS
from orchestrator.wiring.files import CatalogueFiles

VO = "testvo"


@dataclass
class Vo:
    """The applications, and tokens of anybody."""

    central: Starlette
    broker: Starlette
    database: Database
    authority: Authority
    issuer: Issuer
    signer: TokenSigner

    def sign(self, claims: dict[str, Any], lifetime: float = 600.0) -> str:
        return self.signer.sign(claims, SystemClock().now(), lifetime)

    def user(self, name: str, *roles: str) -> str:
        return self.sign(model.user_claims(Person(name, roles or ("user",))))

    def vobox(self, site: str) -> str:
        return self.sign(model.host_claims(f"{site}-vobox-1", "vobox", site))

    def job(self, task: int, attempt: int = 1, user: str = "ada", site: str = "cern") -> str:
        return self.sign(model.job_claims(task, attempt, user, site))

    async def call(
        self, method: str, path: str, token: str | None = None, *, app: Starlette | None = None, **more: Any
    ) -> httpx.Response:
        """One call; a fault of the application is an answer 500."""
        transport = httpx.ASGITransport(app or self.central, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with httpx.AsyncClient(transport=transport, base_url="https://vo") as client:
            return await client.request(method, path, headers=headers, **more)


@pytest.fixture
async def vo(server: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Vo]:
    name = f"security{abs(hash(request.node.nodeid))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    authority, clock = Authority(tmp_path / "keys", VO), SystemClock()
    authority.ensure(clock.now())
    signer = TokenSigner(VO, read_json(authority.directory / "token-signing.json"))
    check = verifier(authority.directory / "token-keys.json", VO)
    async with Database(server.replace("/grid?", f"/{name}?")) as database:
        await migrate(database, COMPONENTS)
        issuer = Issuer(signer, People(database), authority.ca.read_bytes(), clock)
        await issuer.people.ensure(Person("root", USER_ROLES))
        await issuer.people.ensure(Person("ada", ("user",)))
        async with database.transaction() as connection:
            await catalogue_store.begin(connection, VO, "root")
        files = CatalogueFiles(database, issuer.envelope, tls_context(authority.ca), VO, "root")
        central = web.application(
            [
                *auth_api.routes(issuer, read_json(authority.directory / "token-keys.json")),
                *Catalogue(database, issuer.envelope, VO).routes(),
                *compose.central_routes(database, files, Defaults(VO)).routes,
                *package_routes(database),
                *operations_routes(database),
            ],
            check,
        )
        broker = web.application(compose.broker_routes(database, issuer.job).routes, check)
        yield Vo(central, broker, database, authority, issuer, signer)
