"""The task manager and broker as their clients see them (used by ClusterMonitor)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.runtime.http import Api
from orchestrator.tasks.model import Beat, Claimed, Command, Json, Report, ReportResult


async def claim(broker: Api, ad: Json, *, count: int = 1, wait: float = 0.0, claim_id: str = "") -> Claimed:
    """Up to ``count`` tasks that this resource and the tasks accept; waits up to ``wait`` seconds for one.

    ``ad`` holds plain values; ``Requirements`` is text of a ClassAd expression. Repeat a claim whose
    answer was lost with the same ``claim_id`` (any text that no other claim has): it gives the same
    tasks again.
    """
    body = {"ad": ad, "count": count, "wait": wait, "claim": claim_id}
    return Claimed.from_json(await broker.post("/v1/broker/claim", body, timeout=wait + 10))


async def demand(broker: Api, ad: Json) -> int:
    """How many waiting tasks this resource could do."""
    answer = await broker.post("/v1/broker/demand", {"ad": ad})
    return int(answer["waiting"])


async def report(central: Api, reports: Sequence[Report]) -> list[ReportResult]:
    """One verdict for each report, in their order."""
    answer = await central.post("/v1/tasks/reports", {"reports": [each.to_json() for each in reports]})
    return [ReportResult.from_json(each) for each in answer["results"]]


async def beat(central: Api, beats: Sequence[Beat]) -> list[tuple[int, int]]:
    """Prolong the life of these attempts; returns the (task, attempt) pairs that must be stopped."""
    answer = await central.post("/v1/tasks/heartbeats", {"beats": [each.to_json() for each in beats]})
    return [(int(task), int(attempt)) for task, attempt in answer["stale"]]


async def commands(central: Api, *, wait: float = 0.0) -> list[Command]:
    """Unanswered commands for the caller's site; waits up to ``wait`` seconds for one.

    The same command comes again until it is answered: commands are at-least-once.
    """
    answer = await central.get("/v1/tasks/commands", wait=wait, timeout=wait + 10)
    return [Command.from_json(each) for each in answer["commands"]]


async def answer(central: Api, command: int, value: Any) -> None:
    """Answer a command: {} for kill and preempt, {"stdout", "stderr"} for peek. Repeating is harmless."""
    await central.post(f"/v1/tasks/commands/{command}", {"answer": value})
