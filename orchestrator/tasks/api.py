"""The HTTP routes of the task manager (central) and of the broker."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import UserError
from orchestrator.runtime import web
from orchestrator.runtime.sql import ReadOnly
from orchestrator.tasks import store
from orchestrator.tasks.broker import Broker
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.manager import Manager
from orchestrator.tasks.model import Beat, Claimed, Report, list_of, value_of
from orchestrator.tasks.store import SQL

LONGEST_WAIT = 60.0  # seconds of a long poll
MOST_TASKS = 256  # of one claim


def site_of(request: Request) -> str:
    """The site that the caller's token speaks for (its machine's name where the token names none)."""
    caller = web.caller(request).require("vobox")
    return str(caller.claims.get("site") or caller.name)


def manager_routes(manager: Manager, hub: Hub) -> list[BaseRoute]:
    """Reports, heartbeats and commands: what a ClusterMonitor calls at central."""

    async def reports(request: Request) -> Any:
        site = site_of(request)
        given = list_of(await web.body(request), "reports", Report)
        return {"results": [each.to_json() for each in await manager.report(site, given)]}

    async def heartbeats(request: Request) -> Any:
        site = site_of(request)
        return {"stale": await manager.beat(site, list_of(await web.body(request), "beats", Beat))}

    async def commands(request: Request) -> Any:
        site = site_of(request)
        found = await manager.commands(hub, site, web.number(request, "wait", 0, LONGEST_WAIT))
        return {"commands": [each.to_json() for each in found]}

    async def resources(request: Request) -> Any:
        web.caller(request).require("user", "admin")
        host = request.query_params.get("host", "")
        site = request.query_params.get("site", "")
        if bool(host) == bool(site):
            raise UserError("resources: say of which host, or of which site")
        return {"resources": await manager.agents(host, site)}

    async def drain(request: Request) -> Any:
        web.caller(request).require("admin")
        host = value_of(await web.body(request), "host", str, "drain")
        draining = request.url.path.endswith("/drain")
        await manager.database.rows(SQL["drain"], host=host, draining=draining)
        return {}

    async def answer(request: Request) -> Any:
        site = site_of(request)
        value = (await web.body(request)).get("answer") or {}
        if not isinstance(value, dict):
            raise UserError("answer must be a JSON object")
        async with manager.database.transaction() as connection:
            await store.answer_command(connection, site, int(request.path_params["id"]), value)
        return {}

    return [
        web.route("GET", "/v1/resources", resources),
        web.route("POST", "/v1/resources/drain", drain),
        web.route("POST", "/v1/resources/undrain", drain),
        web.route("POST", "/v1/tasks/reports", reports),
        web.route("POST", "/v1/tasks/heartbeats", heartbeats),
        web.route("GET", "/v1/tasks/commands", commands),
        web.route("POST", "/v1/tasks/commands/{id:int}", answer),
    ]


def broker_routes(broker: Broker) -> list[BaseRoute]:
    """Claims and demand: what a ClusterMonitor calls at the broker."""

    async def claim(request: Request) -> Any:
        site = site_of(request)
        body = await web.body(request)
        count = value_of(body, "count", int, "claim", 1)
        if not 1 <= count <= MOST_TASKS:
            raise UserError(f"count of a claim is {count}; ask for 1 to {MOST_TASKS} tasks")
        wait = min(max(value_of(body, "wait", float, "claim", 0.0), 0.0), LONGEST_WAIT)
        number = value_of(body, "claim", str, "claim", "")[:200]
        ad = value_of(body, "ad", dict, "claim")
        try:
            claimed = await broker.claim(site, ad, count, wait, number, request.is_disconnected)
        except ReadOnly as error:  # nothing is given away in a maintenance, and nothing is wrong
            claimed = Claimed((), error.retry_in)
        return claimed.to_json()

    async def demand(request: Request) -> Any:
        site = site_of(request)
        ad = value_of(await web.body(request), "ad", dict, "demand")
        return {"waiting": await broker.demand(site, ad)}

    return [
        web.route("POST", "/v1/broker/claim", claim),
        web.route("POST", "/v1/broker/demand", demand),
    ]
