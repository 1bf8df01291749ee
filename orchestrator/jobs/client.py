"""The job routes of central as their clients see them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from orchestrator.runtime.http import Api

Json = dict[str, Any]


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
    limit: int | None = None,
) -> list[Json]:
    """Jobs, newest first: {id, owner, state, attempt, name, site, resource, parent, parts, submitted, changed, reason}."""
    answer = await central.get("/v1/jobs", state=state, owner=owner, master=master, limit=limit)
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


async def why(central: Api, job: int) -> Json:
    """Why it waits: {"state", "reasons": [text], "requirements": [{"text", "satisfied", "known"}]}."""
    answer: Json = await central.get(f"/v1/jobs/{job}/why")
    return answer


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
