"""The HTTP routes of jobs, and how wiring builds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import UserError
from orchestrator.jobs import model, store
from orchestrator.jobs.masters import lfns
from orchestrator.jobs.service import Jobs, Who, name_of
from orchestrator.runtime import web
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.model import value_of

Json = dict[str, Any]
LONGEST_WAIT = 60.0  # seconds of a long poll
MOST_ARGUMENTS = 1000


def who(request: Request) -> Who:
    """The person who calls; NotAllowed unless they are a user or admin."""
    caller = web.caller(request).require("user", "admin")
    return Who(caller.user, "admin" in caller.roles)


def row_of(task: Task, parts: int) -> Json:
    """A JobRow."""
    return {
        "id": task.id,
        "owner": task.owner,
        "state": task.state,
        "attempt": task.attempt,
        "name": name_of(task),
        "site": task.site,
        "resource": task.resource,
        "parent": task.parent,
        "role": task.spec.get("role", ""),
        "parts": parts,
        "priority": task.priority,
        "submitted": task.submitted,
        "changed": task.changed,
        "reason": task.reason,
    }


def times(events: list[Json], now: float) -> dict[str, float]:
    """Seconds spent in each state, the present one until ``now`` (final ones not at all)."""
    spent: dict[str, float] = {}
    ends = [float(event["at"]) for event in events[1:]] + [now]
    for event, end in zip(events, ends, strict=True):
        if event["new"] not in model.FINAL:
            spent[event["new"]] = round(spent.get(event["new"], 0.0) + end - float(event["at"]), 6)
    return spent


def job_routes(jobs: Jobs, now: Callable[[], float]) -> list[BaseRoute]:
    """/v1/jobs..."""

    def number(request: Request) -> int:
        return int(request.path_params["id"])

    async def submit(request: Request) -> Any:
        person = who(request)
        body = await web.body(request)
        arguments = value_of(body, "arguments", list, "submission", [])
        if len(arguments) > MOST_ARGUMENTS or not all(isinstance(each, str) for each in arguments):
            raise UserError(f"arguments must be at most {MOST_ARGUMENTS} texts")
        request_id = value_of(body, "request", str, "submission", "")[:100]
        return await jobs.submit(person, value_of(body, "jdl", str, "submission"), arguments, request_id)

    async def listing(request: Request) -> Any:
        who(request)
        wanted: Mapping[str, str] = request.query_params
        master = int(web.number(request, "master", 0, 2**62)) if "master" in wanted else None
        states = wanted["state"].upper().split(",") if wanted.get("state") else None
        if unknown := sorted(set(states or ()) - set(model.LIFE)):
            raise UserError(f"{unknown[0]} is no state of a job; there are {', '.join(model.LIFE)}")
        limit = int(web.number(request, "limit", 100, 10_000))
        async with jobs.database.transaction() as connection:
            found = await store.listing(connection, states, wanted.get("owner"), master, limit)
        return {"jobs": [row_of(each.task, each.parts) for each in found]}

    async def show(request: Request) -> Any:
        who(request)
        async with jobs.database.transaction() as connection:
            task = await tasks.get(connection, number(request))
            events = await tasks.events(connection, task.id)
            parts = await store.part_counts(connection, task.id)
        return row_of(task, sum(parts.values())) | {
            "jdl": task.spec.get("jdl", {}),
            "source": task.spec.get("source", ""),
            "requirements": task.spec.get("conditions", []),
            "events": events,
            "times": times(events, now()),
            "result": {name: value for name, value in task.result.items() if name != "outputs"},
            "outputs": task.result.get("outputs", []) if lfns(task) else [],
            "parts": parts,
        }

    async def events(request: Request) -> Any:
        who(request)
        after, wait = web.number(request, "after", 0, 2**31 - 1), web.number(request, "wait", 0, LONGEST_WAIT)
        return {"events": await jobs.events(number(request), int(after), wait)}

    async def kill(request: Request) -> Any:
        return {"state": await jobs.kill(who(request), number(request))}

    async def resubmit(request: Request) -> Any:
        return {"state": await jobs.resubmit(who(request), number(request))}

    async def why(request: Request) -> Any:
        who(request)
        return await jobs.why(number(request))

    async def peek(request: Request) -> Any:
        return await jobs.peek(who(request), number(request))

    return [
        web.route("POST", "/v1/jobs", submit),
        web.route("GET", "/v1/jobs", listing),
        web.route("GET", "/v1/jobs/{id:int}", show),
        web.route("GET", "/v1/jobs/{id:int}/events", events),
        web.route("POST", "/v1/jobs/{id:int}/kill", kill),
        web.route("POST", "/v1/jobs/{id:int}/resubmit", resubmit),
        web.route("GET", "/v1/jobs/{id:int}/why", why),
        web.route("GET", "/v1/jobs/{id:int}/peek", peek),
    ]
