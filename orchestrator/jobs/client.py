"""The job routes of central as their clients see them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from orchestrator.runtime.http import Api

Json = dict[str, Any]
_PAGE = 500  # jobs of one request


async def submit(central: Api, jdl: str, arguments: Sequence[str] = (), request: str = "") -> Json:
    """Submit JDL text: {"task": id, "warnings": [...]}; UserError names every problem with its line.

    ``request`` is any text that no other submission has (one is made when it is empty): however
    often the call is repeated, one job is made.
    ``facts["problems"]`` of that error is a list of {line, column, message}.
    """
    body = {"jdl": jdl, "arguments": list(arguments), "request": request or secrets.token_hex(12)}
    answer: Json = await central.post("/v1/jobs", body)
    return answer


async def listing(
    central: Api,
    *,
    state: str | None = None,
    owner: str | None = None,
    master: int | None = None,
    tag: str | None = None,
    site: str | None = None,
    since: float | None = None,
    limit: int | None = None,
    archived: bool = False,
) -> list[Json]:
    """Jobs, newest first: {id, owner, state, attempt, name, tag, site, resource, parent, parts, submitted, changed,
    reason}. ``since``: submitted within so many seconds; ``master`` 0: only those that are no part; ``archived``: those
    that ended long ago too (else only if ``since`` reaches back to them)."""
    asked: Json = {"state": state, "owner": owner, "master": master, "tag": tag, "site": site, "since": since}
    answer = await central.get("/v1/jobs", **asked, limit=limit, archived=1 if archived else None)
    return list(answer["jobs"])


async def show(central: Api, job: int) -> Json:
    """One job with its jdl, events, seconds spent in each state, outputs and parts."""
    answer: Json = await central.get(f"/v1/jobs/{job}")
    return answer


async def kill(central: Api, job: int) -> str:
    """Kill a job (a master's parts too); its state afterwards. A job that is final stays as it is."""
    return str((await central.post(f"/v1/jobs/{job}/kill"))["state"])


async def resubmit(central: Api, job: int) -> str:
    """Give a failed or killed job another attempt; its state afterwards. PermanentError when it has not failed."""
    return str((await central.post(f"/v1/jobs/{job}/resubmit"))["state"])


async def hold(central: Api, job: int) -> str:
    """A waiting job waits until it is released (of a master: its waiting parts); its state afterwards."""
    return await _until_all(central, f"/v1/jobs/{job}/hold")


async def release(central: Api, job: int) -> str:
    """A held job may run again (of a master: its held parts); its state afterwards."""
    return await _until_all(central, f"/v1/jobs/{job}/release")


async def _until_all(central: Api, path: str) -> str:
    while (answer := await central.post(path)).get("more"):
        pass
    return str(answer["state"])


async def submit_many(central: Api, jdl: str, arguments: Sequence[Sequence[str]], request: str = "") -> Json:
    """One job for each list of arguments, at most 10,000: {"tasks": ids in their order, "warnings"}.

    All are made or none; UserError's ``facts["place"]`` (from 1) tells which list is wrong.
    """
    lists = [list(each) for each in arguments]
    body = {"jdl": jdl, "arguments": lists, "request": request or secrets.token_hex(12)}
    answer: Json = await central.post("/v1/jobs/bulk", body, timeout=60)
    return answer


async def each_of(central: Api, verb: str, ids: Sequence[int]) -> AsyncIterator[list[Json]]:
    """kill, resubmit, hold or release these jobs; what happened to each, as it happens: {job, ok, state, message}."""
    left = list(ids)
    while left:
        answer = await central.post(f"/v1/jobs/bulk/{verb}", {"ids": left[:_PAGE]}, timeout=60)
        yield answer["results"]
        left = left[len(answer["results"]) :]


async def each_chosen(central: Api, verb: str, **chosen: Any) -> AsyncIterator[list[Json]]:
    """The same for the jobs that a filter chooses: state, owner (``all``: an admin's), master, tag, site, since.

    UserError when the filter is empty: it never means all.
    """
    after: int | None = 0
    wanted = {name: value for name, value in chosen.items() if value is not None}
    while after is not None:
        body = {"filter": wanted, "after": after}
        answer = await central.post(f"/v1/jobs/bulk/{verb}", body, timeout=60)
        yield answer["results"]
        after = answer["next"]


async def top(central: Api, *, within: float = 3600.0) -> Json:
    """{"users": {owner: {state: open jobs}}, "ended": {owner: {state: jobs}}, "median": {state: {jobs, seconds}}}."""
    answer: Json = await central.get("/v1/jobs/top", within=within)
    return answer


async def trace(central: Api, job: int) -> Json:
    """{"id", "state", "events": [event + {"spent": seconds or None}], "times": {state: seconds}}."""
    answer: Json = await central.get(f"/v1/jobs/{job}/trace")
    return answer


async def why(central: Api, job: int) -> Json:
    """Why it waits: {"state", "reasons": [text], "requirements": [{"text", "satisfied", "known"}], "suggestions"}."""
    answer: Json = await central.get(f"/v1/jobs/{job}/why")
    return answer


async def suggestions(
    central: Api,
    *,
    owner: str | None = None,
    kind: str | None = None,
    target: str | None = None,
    limit: int | None = None,
) -> list[Json]:
    """What would let waiting jobs run, those first that help most: {id, kind, subject, target, site, jobs, bytes,
    files, reason, accepted, owners, age, text, advice}. ``kind``: copy, fetch, install or publish."""
    answer = await central.get("/v1/jobs/suggestions", owner=owner, kind=kind, target=target, limit=limit)
    return list(answer["suggestions"])


async def accept(central: Api, suggestion: int) -> list[Json]:
    """The copies of a suggestion are asked for: {lfn, task, state, new, size} for each file."""
    return list((await central.post(f"/v1/jobs/suggestions/{suggestion}/accept"))["transfers"])


async def peek(central: Api, job: int) -> Json:
    """What a running job has printed so far: {"stdout", "stderr"}."""
    answer: Json = await central.get(f"/v1/jobs/{job}/peek", timeout=30)
    return answer


async def events(central: Api, job: int, *, after: int = 0, wait: float = 0.0) -> list[Json]:
    """Events with a sequence number above ``after``: {seq, at, attempt, old, new, actor, reason}."""
    answer = await central.get(f"/v1/jobs/{job}/events", after=after, wait=wait, timeout=wait + 10)
    return list(answer["events"])


async def watch(central: Api, job: int) -> AsyncIterator[Json]:
    """Every event of a job as it happens, until the caller stops."""
    seen = 0
    while True:
        for event in await events(central, job, after=seen, wait=20):
            seen = int(event["seq"])
            yield event
