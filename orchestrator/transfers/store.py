"""The statements of queries.sql as functions on a connection that is in a transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.classads import Ad
from orchestrator.errors import NotFound
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows
from orchestrator.tasks.kinds import Task
from orchestrator.transfers import decide, model
from orchestrator.transfers.decide import Load, Network, Storage

SQL = Queries(Path(__file__).with_name("queries.sql"))
FINAL = sorted(model.FINAL)


async def guard(connection: Connection, lfns: Sequence[str], destination: str) -> None:
    """Until the transaction ends nobody else asks for these files at this destination."""
    await rows(connection, SQL["pair_guard"], lfns=list(lfns), destination=destination)


async def open_among(connection: Connection, lfns: Sequence[str], destination: str) -> dict[str, Row]:
    """LFN → task and state of the transfers to ``destination`` that have not ended."""
    found = await rows(connection, SQL["open_among"], lfns=list(lfns), destination=destination)
    return {each["lfn"]: each for each in found}


async def add(
    connection: Connection,
    made: Sequence[tuple[int, str, str]],
    destination: str,
    kind: str,
    lasts: float,
    *,
    is_open: bool = True,
) -> None:
    """Transfers for new tasks: (task, LFN, GUID) each; ``lasts``: seconds until they are given up."""
    await rows(
        connection,
        SQL["add"],
        tasks=[task for task, _, _ in made],
        lfns=[lfn for _, lfn, _ in made],
        guids=[guid for _, _, guid in made],
        destination=destination,
        kind=kind,
        open=is_open,
        lasts=lasts,
    )


async def upgrade(connection: Connection, transfers: Sequence[int], kind: str) -> None:
    """These become transfers of ``kind`` unless they are to do more already."""
    await rows(connection, SQL["upgrade"], tasks=list(transfers), kind=kind, kinds=list(model.KINDS))


async def get(connection: Connection, transfer: int) -> Row:
    """What only transfers have; NotFound when the task is none."""
    found = await row(connection, SQL["get"], task=transfer)
    if found is None:
        raise NotFound(f"there is no transfer {transfer}", task=transfer)
    return found


async def listing(
    connection: Connection,
    states: Sequence[str] | None = None,
    owner: str | None = None,
    lfn: str | None = None,
    destination: str | None = None,
    limit: int = 1,
    task: int | None = None,
) -> list[Row]:
    """Transfers, newest first, each with its task."""
    values = {"owner": owner, "lfn": lfn, "destination": destination, "limit": limit, "task": task}
    return await rows(connection, SQL["listing"], states=list(states) if states else None, **values)


async def steps(connection: Connection, transfer: int) -> list[Task]:
    """The steps of all its attempts, in order."""
    return [Task.of(each) for each in await rows(connection, SQL["steps"], task=transfer)]


async def network(connection: Connection, elements: Sequence[Storage]) -> Network:
    """The storage elements with what the admin says of them and of their links."""
    limits = {each["se"]: each for each in await rows(connection, SQL["storage_limits"])}
    known = {}
    for each in elements:
        said = limits.get(each.name)
        known[each.name] = (
            each
            if said is None
            else replace(each, buffer=said["buffer"], most_out=said["most_out"], most_in=said["most_in"])
        )
    links = {
        (each["source"], each["target"]): int(each["most"]) for each in await rows(connection, SQL["links"])
    }
    return Network(known, links)


async def load(connection: Connection) -> Load:
    """What is under way now."""
    found = await rows(connection, SQL["load"])
    return Load((each["source"], each["target"], each["weight"]) for each in found)


async def leg_of(connection: Connection, task: Task) -> None:
    """What ``task`` does counts as under way."""
    await rows(
        connection,
        SQL["leg_add"],
        task=task.id,
        transfer=task.parent or task.id,
        source=task.spec["source"]["se"],
        target=task.spec["target"]["se"],
        guid=task.spec["guid"],
        weight=decide.weight(task.spec["content"]["size"]),
    )


async def leg_over(connection: Connection, task: int) -> None:
    """It does no longer."""
    await rows(connection, SQL["leg_over"], task=task)


async def again(connection: Connection, transfer: int, seconds: float, reason: str, bad: str) -> None:
    """Plan it in ``seconds``; ``bad``: a storage element whose copy was not what it should be ("": none)."""
    await rows(connection, SQL["again"], task=transfer, seconds=seconds, reason=reason[:500], bad=bad)


async def put_off(connection: Connection, transfer: int, seconds: float, reason: str) -> None:
    """Look at it again in ``seconds``."""
    await rows(connection, SQL["put_off"], task=transfer, seconds=seconds, reason=reason[:500])


async def released(connection: Connection, transfer: int, *, route: bool) -> None:
    """It is under way, in several steps if it is a ``route``."""
    await rows(connection, SQL["released"], task=transfer, route=route)


async def close(connection: Connection, transfer: int) -> None:
    """It has ended: the same may be asked for anew."""
    await rows(connection, SQL["close"], task=transfer)


async def uses(connection: Connection, guid: str, se: str, tasks: Collection[int]) -> bool:
    """Whether a transfer other than ``tasks`` reads or writes that file at ``se`` now."""
    return await row(connection, SQL["uses"], guid=guid, se=se, tasks=list(tasks)) is not None


async def set_master(connection: Connection, guid: str, se: str) -> None:
    """The replica on ``se`` is the master, all others are mirrors."""
    await rows(connection, SQL["set_master"], guid=guid, se=se)


async def class_ad(connection: Connection, number: int) -> Ad:
    """What FTDs are matched against."""
    found = await row(connection, SQL["class_ad"], **{"class": number})
    return Ad.restore(found["ad"]) if found else Ad({})
