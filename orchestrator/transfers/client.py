"""The transfer routes of central as their clients see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from orchestrator.runtime.http import Api
from orchestrator.transfers.model import MIRROR

Json = dict[str, Any]
MOST = 1000  # files of one call


async def submit(central: Api, lfns: Sequence[str], destination: str, kind: str = MIRROR) -> list[Json]:
    """Ask for files on the storage element ``destination``: {lfn, task, state, new} for each, in order.

    However often it is called, there is one transfer for a file and destination until that has ended.
    ``kind``: cache, mirror or master_copy. UserError names the files that are none; those of earlier calls of up
    to 1000 files are asked for then.
    """
    told: list[Json] = []
    for start in range(0, len(lfns), MOST):
        body = {"lfns": list(lfns[start : start + MOST]), "destination": destination, "kind": kind}
        told += (await central.post("/v1/transfers", body))["transfers"]
    return told


async def listing(
    central: Api,
    *,
    state: str | None = None,
    owner: str | None = None,
    lfn: str | None = None,
    destination: str | None = None,
    limit: int | None = None,
) -> list[Json]:
    """Transfers, newest first: {id, owner, state, attempt, kind, lfn, source, destination, size, bytes, ...}."""
    answer = await central.get(
        "/v1/transfers", state=state, owner=owner, lfn=lfn, destination=destination, limit=limit
    )
    return list(answer["transfers"])


async def show(central: Api, transfer: int) -> Json:
    """One transfer with its steps, events and result."""
    answer: Json = await central.get(f"/v1/transfers/{transfer}")
    return answer


async def why(central: Api, transfer: int) -> Json:
    """Why it is in its state: {"state", "reasons": [text]}."""
    answer: Json = await central.get(f"/v1/transfers/{transfer}/why")
    return answer


async def kill(central: Api, transfer: int) -> str:
    """Kill it; its state afterwards. One that has ended stays as it is."""
    return str((await central.post(f"/v1/transfers/{transfer}/kill"))["state"])


async def limits(central: Api) -> Json:
    """What differs from the defaults: {"storage": [{se, buffer, most_out, most_in}], "links": [{source, target, most}]}."""
    answer: Json = await central.get("/v1/transfers/limits")
    return answer


async def limit(central: Api, **said: Any) -> None:
    """An admin's word on a storage element (se, buffer, most_out, most_in) or a link (source, target, most)."""
    await central.post("/v1/transfers/limits", said)


async def watch(central: Api, transfer: int) -> AsyncIterator[Json]:
    """Every event of a transfer as it happens, until the caller stops."""
    seen = 0
    while True:
        path = f"/v1/transfers/{transfer}/events"
        for event in (await central.get(path, after=seen, wait=20, timeout=30))["events"]:
            seen = int(event["seq"])
            yield event
