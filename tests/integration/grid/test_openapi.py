"""/v1/openapi.json tells of every route that central and broker serve, as they serve it."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from orchestrator.runtime import web
from orchestrator.runtime.http import Api
from orchestrator.runtime.sql import Database
from orchestrator.tasks.model import storable

from .conftest import Grid


def of(routes: list[Any]) -> set[tuple[str, str]]:
    plain = [each for each in routes if isinstance(each, Route)]
    assert plain
    return {
        (re.sub(r":\w+}", "}", each.path), method.lower())
        for each in plain
        for method in each.methods or ()
        if method != "HEAD"
    }


def check(document: dict[str, Any], routes: list[Any]) -> None:
    told = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert told == of(routes) | {("/healthz", "get"), ("/v1/openapi.json", "get")}
    names = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            within = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert within == set(re.findall(r"\{(\w+)\}", path))
            assert all(each["required"] for each in operation["parameters"] if each["in"] == "path")
            assert set(operation["responses"]) == {"200", "default"}
    assert len(names) == len(set(names))
    assert storable(document) == document
    assert document["openapi"].startswith("3.1")


async def test_what_is_served_is_told(grid: Grid) -> None:
    document = await grid.central.get("/v1/openapi.json")
    operation = document["paths"]["/v1/jobs"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["jdl"] == {"type": "string"}
    assert schema["required"] == ["jdl"]
    listed = {each["name"] for each in document["paths"]["/v1/jobs"]["get"]["parameters"]}
    assert listed == {"state", "owner", "tag", "site", "master", "since", "limit", "archived"}
    (number,) = document["paths"]["/v1/jobs/{id}/hold"]["post"]["parameters"]
    assert number == {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    claim = (await grid.broker.get("/v1/openapi.json"))["paths"]["/v1/broker/claim"]["post"]
    fields = claim["requestBody"]["content"]["application/json"]["schema"]
    assert fields["properties"]["count"] == {"type": "integer"}
    assert fields["required"] == ["ad"]


@pytest.mark.parametrize("program", ["central", "broker"])
async def test_every_route_of_the_programs(
    program: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs as wiring starts them; what they are about to serve is caught and served here."""
    from orchestrator.auth.authority import Authority
    from orchestrator.runtime.files import read_json, write_json
    from orchestrator.wiring import central

    keys = Authority(tmp_path / "keys", "grid")
    keys.ensure(1.8e9)
    files = keys.host("central", "127.0.0.1", "central", "CERN", 1.8e9)
    root = tmp_path / "root"
    assert files.token_signing is not None
    for name, source in {
        "tls/ca.pem": files.ca, "tls/host.pem": files.certificate, "tls/host.key": files.key,
        "token-keys.json": files.token_keys, "token-signing.json": files.token_signing,
    }.items():  # fmt: skip
        (root / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "etc" / name).write_bytes(source.read_bytes())
    config = {"vo": "grid", "database": url, "address": "127.0.0.1", "ports": {}, "token_lifetime": 3600.0}
    write_json(root / "etc/central.json", config)
    served: list[Any] = []

    async def serve(self: Any, routes: Any, _port: str) -> None:
        served.extend(routes)
        self.stop.set()

    monkeypatch.setattr(central.Central, "serve", serve)
    here = central.Central(root, read_json(root / "etc/central.json"), asyncio.Event())
    await central._PROGRAMS[program](here)
    server = web.server(web.application(served, None), None)
    sock = web.listen("127.0.0.1", 0)
    running = asyncio.create_task(server._serve([sock]))
    async with Api(f"http://127.0.0.1:{sock.getsockname()[1]}", ssl.create_default_context()) as api:
        document = await api.get("/v1/openapi.json")
    server.should_exit = True
    await running
    check(document, served)
    assert len(served) > (30 if program == "central" else 1)
    async with Database(url, size=1) as database:
        assert await database.rows("SELECT 1")
