"""The HTTP routes of transfers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import UserError
from orchestrator.runtime import web
from orchestrator.runtime.sql import Row, rows
from orchestrator.tasks import store as tasks
from orchestrator.tasks.model import value_of
from orchestrator.transfers import archived, model, store
from orchestrator.transfers.kind import CHANNEL
from orchestrator.transfers.service import Transfers, Who

Json = dict[str, Any]
LONGEST_WAIT = 60.0  # seconds of a long poll


def who(request: Request) -> Who:
    """The person who calls; NotAllowed unless they are a user or admin."""
    caller = web.caller(request).require("user", "admin")
    return Who(caller.user, "admin" in caller.roles)


def row_of(found: Row) -> Json:
    """A TransferRow."""
    plain = {name: found[name] for name in ("id", "owner", "state", "attempt", "lfn", "destination", "site")}
    spec, usage = found["spec"], found["result"].get("usage") or {}
    return plain | {
        "kind": found["wish"],
        "source": found["source"] or (spec.get("source") or {}).get("se", ""),
        "size": spec["content"]["size"],
        "bytes": usage.get("bytes"),
        "resource": found["resource"],
        "submitted": found["submitted"].timestamp(),
        "changed": found["changed"].timestamp(),
        "reason": found["reason"] or found["waits"],
    }


def transfer_routes(transfers: Transfers, now: Callable[[], float]) -> list[BaseRoute]:
    """/v1/transfers..."""

    def number(request: Request) -> int:
        return int(request.path_params["id"])

    async def submit(request: Request) -> Any:
        """Files on the storage element ``destination``: the transfer of each. One under way is not made twice."""
        person, body = who(request), await web.body(request)
        lfns = value_of(body, "lfns", list, "request")
        if not all(isinstance(lfn, str) for lfn in lfns):
            raise UserError("lfns must be a list of LFNs")
        kind = value_of(body, "kind", str, "request", model.MIRROR)
        to = value_of(body, "destination", str, "request")
        return {"transfers": await transfers.submit(person, lfns, to, kind)}

    async def listing(request: Request) -> Any:
        """Transfers, newest first."""
        who(request)
        state = request.query_params.get("state")
        owner = request.query_params.get("owner")
        lfn = request.query_params.get("lfn")
        to = request.query_params.get("destination")
        states = state.upper().split(",") if state else None
        if unknown := sorted(set(states or ()) - set(model.LIFE)):
            raise UserError(f"{unknown[0]} is no state of a transfer; there are {', '.join(model.LIFE)}")
        limit = int(web.number(request, "limit", 100, 10_000))
        async with transfers.database.transaction() as connection:
            found = await store.listing(connection, states, owner, lfn, to, limit)
        return {"transfers": [row_of(each) for each in found]}

    async def show(request: Request) -> Any:
        """One transfer with its steps, events and result."""
        who(request)
        async with transfers.database.transaction() as connection:
            wanted = await archived.get(connection, number(request))
            found, steps = await archived.listed(connection, number(request))
            events = await tasks.events(connection, found["id"])
        told = [
            {
                "task": step.id,
                "attempt": step.spec["of"],
                "role": step.spec["role"],
                "source": step.spec["source"]["se"],
                "target": step.spec["target"]["se"],
                "state": step.state,
                "site": step.site,
                "reason": step.reason,
            }
            for step in steps
        ]
        return row_of(found) | {
            "guid": wanted["guid"],
            "tried": wanted["tried"],
            "due": wanted["due"],
            "age": now() - found["submitted"].timestamp(),
            "steps": told,
            "events": events,
            "result": found["result"],
        }

    async def events(request: Request) -> Any:
        """Events above ``after``: a long poll."""
        who(request)
        after, wait = web.number(request, "after", 0, 2**31 - 1), web.number(request, "wait", 0, LONGEST_WAIT)
        return {"events": await transfers.events(number(request), int(after), wait)}

    async def kill(request: Request) -> Any:
        """It and its steps are killed; one that has ended stays as it is."""
        return {"state": await transfers.kill(who(request), number(request))}

    async def why(request: Request) -> Any:
        """What it waits for, in sentences."""
        who(request)
        return await transfers.why(number(request))

    async def limits(request: Request) -> Any:
        """What storage elements and links may carry, where that is not the default."""
        who(request)
        async with transfers.database.transaction() as connection:
            return {
                "storage": await rows(connection, store.SQL["storage_limits"]),
                "links": await rows(connection, store.SQL["links"]),
            }

    async def limit(request: Request) -> Any:
        """Of a storage element ({se, buffer?, most_out?, most_in?}) or of a link ({source, target, most})."""
        web.caller(request).require("admin")
        body = await web.body(request)
        async with transfers.database.transaction() as connection:
            known = {each.name for each in await transfers.replicas.storage(connection)}
            names = [body[key] for key in ("se", "source", "target", "buffer") if body.get(key)]
            if unknown := [name for name in names if name not in known]:
                raise UserError(f"there is no storage element {unknown[0]}")
            if "se" in body:
                se, buffer = value_of(body, "se", str, "limit"), value_of(body, "buffer", str, "limit", "")
                most: Json = {key: _most(body, key) for key in ("most_out", "most_in")}
                await rows(connection, store.SQL["set_storage"], se=se, buffer=buffer, **most)
            else:
                source = value_of(body, "source", str, "limit")
                target = value_of(body, "target", str, "limit")
                at_once = _most(body, "most") or 0
                await rows(connection, store.SQL["set_link"], source=source, target=target, most=at_once)
            await tasks.notify(connection, CHANNEL, "")
        return {}

    return [
        web.route("POST", "/v1/transfers", submit),
        web.route("GET", "/v1/transfers", listing),
        web.route("GET", "/v1/transfers/limits", limits),
        web.route("POST", "/v1/transfers/limits", limit),
        web.route("GET", "/v1/transfers/{id:int}", show),
        web.route("GET", "/v1/transfers/{id:int}/events", events),
        web.route("GET", "/v1/transfers/{id:int}/why", why),
        web.route("POST", "/v1/transfers/{id:int}/kill", kill),
    ]


def _most(body: Json, key: str) -> int | None:
    """A limit; None is the default one."""
    if body.get(key) is None:
        return None
    found = value_of(body, key, int, "limit")
    if not 0 <= found < 2**31:
        raise UserError(f"{key} is {found}; it must not be negative")
    return found
