"""The HTTP routes of central's operations."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import UserError
from orchestrator.operations import maintenance
from orchestrator.runtime.sql import Database
from orchestrator.runtime.web import body, caller, route

LONGEST = 500  # letters of a reason


def routes(database: Database) -> list[BaseRoute]:
    """Read-only mode: to look at, and for admins to change."""

    async def look(request: Request) -> Any:
        """Whether central is read-only, and why."""
        caller(request).require("user", "admin")
        return (await maintenance.look(database)).to_json()

    async def change(request: Request) -> Any:
        """Make central read-only, or let it take writes again."""
        who = caller(request).require("admin")
        asked = await body(request)
        on, reason = asked.get("on"), asked.get("reason", "")
        if not isinstance(on, bool) or not isinstance(reason, str) or (on and not reason.strip()):
            raise UserError('maintenance needs "on": true with a "reason", or "on": false')
        if on:
            return (
                await maintenance.begin(database, reason.strip()[:LONGEST], who.name, patience=30.0)
            ).to_json()
        return (await maintenance.end(database)).to_json()

    return [route("GET", "/v1/maintenance", look), route("POST", "/v1/maintenance", change)]
