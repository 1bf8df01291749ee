"""The HTTP routes of jobs, and how wiring builds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute

from orchestrator.errors import UserError
from orchestrator.jobs import archived, bulk, model, store, suggest
from orchestrator.jobs import suggestions as advice
from orchestrator.jobs.masters import lfns
from orchestrator.jobs.overview import Overview
from orchestrator.jobs.service import Jobs, Who, name_of
from orchestrator.runtime import web
from orchestrator.runtime.sql import Connection
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
        "tag": str(task.spec.get("jdl", {}).get("JobTag") or "").removeprefix("comment:"),
        "role": task.spec.get("role", ""),
        "parts": parts,
        "priority": task.priority,
        "submitted": task.submitted,
        "changed": task.changed,
        "reason": task.reason,
    }


def texts(arguments: list[Any]) -> list[str]:
    """One list of arguments; UserError when it is none."""
    if len(arguments) > MOST_ARGUMENTS or not all(isinstance(each, str) for each in arguments):
        raise UserError(f"arguments must be at most {MOST_ARGUMENTS} texts")
    return arguments


async def validation_of(connection: Connection, task: Task) -> Json | None:
    """The validation of a job's present attempt: {job, state, reason}, all empty while it is still to be made."""
    begun = task.spec.get("validation", {})
    if begun.get("attempt") == task.attempt:
        made = await tasks.get(connection, int(begun["job"]))
        return {"job": made.id, "state": made.state, "reason": made.reason}
    if model.unjudged(task.state, task.spec):
        return {"job": None, "state": "", "reason": "it is about to be made"}
    return None


def times(events: list[Json], now: float) -> dict[str, float]:
    """Seconds spent in each state, the present one until ``now`` (final ones not at all)."""
    spent: dict[str, float] = {}
    ends = [float(event["at"]) for event in events[1:]] + [now]
    for event, end in zip(events, ends, strict=True):
        if event["new"] not in model.FINAL:
            spent[event["new"]] = round(spent.get(event["new"], 0.0) + end - float(event["at"]), 6)
    return spent


def spent(events: list[Json], now: float) -> list[Json]:
    """The events with ``spent``: seconds in the state that each began, None for an end that lasts."""
    ends = [float(event["at"]) for event in events[1:]]
    last = [] if not events or events[-1]["new"] in model.FINAL else [now]
    times: list[float | None] = [
        round(end - float(event["at"]), 6) for event, end in zip(events, ends + last, strict=False)
    ]
    return [event | {"spent": time} for event, time in zip(events, [*times, None], strict=False)]


def choice_of(given: Mapping[str, Any]) -> store.Choice:
    """Which jobs: state (names with commas, or a list), owner, master, tag, site, since (seconds ago)."""
    what = "choice of jobs"
    if unknown := sorted(set(given) - {"state", "owner", "master", "tag", "site", "since"}):
        raise UserError(f"{unknown[0]} is nothing that jobs are chosen by")
    states = given.get("state") or []
    wanted = [
        str(each).strip().upper() for each in (states.split(",") if isinstance(states, str) else states)
    ]
    if unknown := sorted(set(wanted) - set(model.LIFE)):
        raise UserError(f"{unknown[0]} is no state of a job; there are {', '.join(model.LIFE)}")
    texts = {name: value_of(given, name, str, what, "") or None for name in ("owner", "tag", "site")}
    master = value_of(given, "master", int, what) if given.get("master") is not None else None
    since = value_of(given, "since", float, what) if given.get("since") is not None else None
    return store.Choice(wanted or None, master=master, since=since, **texts)


def job_routes(jobs: Jobs, now: Callable[[], float]) -> list[BaseRoute]:
    """/v1/jobs..."""

    overview = Overview(jobs.database)

    def number(request: Request) -> int:
        return int(request.path_params["id"])

    async def submit(request: Request) -> Any:
        """One job from a JDL; the same ``request`` again is harmless."""
        person = who(request)
        body = await web.body(request)
        arguments = texts(value_of(body, "arguments", list, "submission", []))
        request_id = value_of(body, "request", str, "submission", "")[:100]
        return await jobs.submit(person, value_of(body, "jdl", str, "submission"), arguments, request_id)

    async def listing(request: Request) -> Any:
        """Jobs, newest first. ``master=0``: only those that are no part; ``since``: submitted so many seconds ago or later.

        Those that ended long ago are listed when ``since`` reaches back to them, or with ``archived=1``."""
        who(request)
        asked = request.query_params
        given = {
            "state": request.query_params.get("state"),
            "owner": request.query_params.get("owner"),
            "tag": request.query_params.get("tag"),
            "site": request.query_params.get("site"),
            "master": int(web.number(request, "master", 0, 2**62)) if "master" in asked else None,
            "since": web.number(request, "since", 0, 1e10) if "since" in asked else None,
        }
        wanted = {name: value for name, value in given.items() if value is not None}
        limit = int(web.number(request, "limit", 100, 10_000))
        everything = web.number(request, "archived", 0, 1) > 0
        async with jobs.database.transaction() as connection:
            found = await archived.listing(connection, choice_of(wanted), limit, everything)
        return {"jobs": [row_of(each.task, each.parts) for each in found]}

    async def show(request: Request) -> Any:
        """One job with its JDL, history, outputs, parts and validation."""
        who(request)
        async with jobs.database.transaction() as connection:
            task = await tasks.get(connection, number(request))
            events = await tasks.events(connection, task.id)
            parts = await archived.part_counts(connection, task)
            source = await store.source(connection, task)
            validation = await validation_of(connection, task)
        return row_of(task, sum(parts.values())) | {
            "jdl": task.spec.get("jdl", {}),
            "source": source,
            "requirements": task.spec.get("conditions", []),
            "events": events,
            "times": times(events, now()),
            "result": {name: value for name, value in task.result.items() if name != "outputs"},
            "outputs": task.result.get("outputs", []) if lfns(task) else [],
            "parts": parts,
            "validation": validation,
        }

    async def trace(request: Request) -> Any:
        """Every event of a job with the seconds spent in the state that it began."""
        who(request)
        async with jobs.database.transaction() as connection:
            task = await tasks.get(connection, number(request))
            found = await tasks.events(connection, task.id)
        return {
            "id": task.id,
            "state": task.state,
            "events": spent(found, now()),
            "times": times(found, now()),
        }

    async def top(request: Request) -> Any:
        """How many jobs of each user are in each state, and how long states lasted lately."""
        who(request)
        return await overview.now(web.number(request, "within", 3600, 86_400))

    async def submit_many(request: Request) -> Any:
        """One JDL with many lists of arguments, a job each; the same ``request`` again gives the same jobs."""
        person = who(request)
        body = await web.body(request)
        lists = value_of(body, "arguments", list, "bulk submission")
        if not all(isinstance(each, list) for each in lists):
            raise UserError("arguments of a bulk submission must be a list of lists of texts")
        text = value_of(body, "jdl", str, "bulk submission")
        request_id = value_of(body, "request", str, "bulk submission", "")[:100]
        return await bulk.submit(jobs, person, text, [texts(each) for each in lists], request_id)

    async def verb(request: Request) -> Any:
        """Kill, resubmit, hold or release many jobs: of these ``ids``, or those that ``filter`` chooses."""
        person = who(request)
        body = await web.body(request)
        name = str(request.path_params["verb"])
        if ("ids" in body) == ("filter" in body):
            raise UserError(f"{name}: give either ids or a filter")
        if "ids" in body:
            ids = value_of(body, "ids", list, "request")
            if not all(type(each) is int and 0 < each < 2**63 for each in ids):
                raise UserError(f"{name}: ids must be numbers of jobs")
            return await bulk.by_ids(jobs, person, name, ids)
        chosen = choice_of(value_of(body, "filter", dict, "request"))
        return await bulk.by_choice(jobs, person, name, chosen, value_of(body, "after", int, "request", 0))

    async def events(request: Request) -> Any:
        """Events above ``after``; waits up to ``wait`` seconds for one."""
        who(request)
        after, wait = web.number(request, "after", 0, 2**31 - 1), web.number(request, "wait", 0, LONGEST_WAIT)
        return {"events": await jobs.events(number(request), int(after), wait)}

    async def kill(request: Request) -> Any:
        """Kill a job, of a master its parts too; a final one stays as it is."""
        return {"state": await jobs.kill(who(request), number(request))}

    async def resubmit(request: Request) -> Any:
        """Another attempt of a failed or killed job; of a master its failed parts."""
        return {"state": await jobs.resubmit(who(request), number(request))}

    async def hold(request: Request) -> Any:
        """A waiting job waits until it is released; of a master the parts that wait (``more``: ask again)."""
        return await jobs.hold(who(request), number(request))

    async def release(request: Request) -> Any:
        """A held job may run again; of a master the parts that are held (``more``: ask again)."""
        return await jobs.release(who(request), number(request))

    async def why(request: Request) -> Any:
        """Why a job is in its state; of one that waits, how many resources satisfy each requirement."""
        who(request)
        return await jobs.why(number(request))

    async def suggestions(request: Request) -> Any:
        """What would let waiting jobs run, those first that help most: copies of data, packages. ``kind``: copy, fetch,
        install or publish; ``target``: a storage element or site."""
        who(request)
        owner, kind, target = (request.query_params.get(name) for name in ("owner", "kind", "target"))
        if kind not in (None, *suggest.KINDS):
            raise UserError(f"{kind} is no kind of suggestion; there are {', '.join(suggest.KINDS)}")
        limit = int(web.number(request, "limit", 100, 10_000))
        async with jobs.database.transaction() as connection:
            found = await advice.listing(connection, owner=owner, kind=kind, target=target, limit=limit)
        return {"suggestions": found}

    async def accept(request: Request) -> Any:
        """The copies that a suggestion names are asked for as transfers of the caller."""
        return {"transfers": await jobs.accept(who(request), number(request))}

    async def wanted(request: Request) -> Any:
        """The packages that waiting jobs want at the site of the VO box that asks, and that no resource there has."""
        site = str(web.caller(request).require("vobox").claims.get("site") or "")
        async with jobs.database.transaction() as connection:
            found = await advice.listing(connection, kind=suggest.FETCH, target=site)
        return {"packages": [{"package": each["subject"], "jobs": each["jobs"]} for each in found]}

    async def peek(request: Request) -> Any:
        """What a running job has printed so far."""
        return await jobs.peek(who(request), number(request))

    return [
        web.route("POST", "/v1/jobs", submit),
        web.route("GET", "/v1/jobs", listing),
        web.route("GET", "/v1/jobs/{id:int}", show),
        web.route("GET", "/v1/jobs/{id:int}/events", events),
        web.route("POST", "/v1/jobs/{id:int}/kill", kill),
        web.route("POST", "/v1/jobs/{id:int}/resubmit", resubmit),
        web.route("POST", "/v1/jobs/{id:int}/hold", hold),
        web.route("POST", "/v1/jobs/{id:int}/release", release),
        web.route("GET", "/v1/jobs/{id:int}/trace", trace),
        web.route("POST", "/v1/jobs/bulk", submit_many),
        web.route("POST", "/v1/jobs/bulk/{verb}", verb),
        web.route("GET", "/v1/jobs/top", top),
        web.route("GET", "/v1/jobs/{id:int}/why", why),
        web.route("GET", "/v1/jobs/{id:int}/peek", peek),
        web.route("GET", "/v1/jobs/suggestions", suggestions),
        web.route("POST", "/v1/jobs/suggestions/{id:int}/accept", accept),
        web.route("GET", "/v1/jobs/packages", wanted),
    ]
