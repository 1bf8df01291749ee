"""What is kept beside the tree, in PostgreSQL: tags of entries, quotas of users, distances of storage elements.

Each function works on a connection of the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.catalogue import model
from orchestrator.catalogue.model import Entry, Quota, Value
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows

QUERIES = Queries(Path(__file__).with_name("queries.sql"))
FARTHEST = 1000.0  # of a storage element from a site; 0 is at hand, 1 what nothing is said of


async def tag(
    connection: Connection, path: str, tags: Mapping[str, Any], user: str, admin: bool = False
) -> dict[str, Value]:
    """The entry has these tags too, or instead of its own of that name; returns all it has then."""
    entry = await _taggable(connection, path, user, admin)
    found = await rows(
        connection, QUERIES["tag"], path=entry.path, tags=json.dumps(model.check_tags(tags), allow_nan=False)
    )
    return _tags(entry.path, found)


async def untag(
    connection: Connection, path: str, names: Sequence[str], user: str, admin: bool = False
) -> dict[str, Value]:
    """The entry has no tag of these names; returns those it has still. UserError when no name is given."""
    if not names:
        raise UserError(f"which tags of {path}? name them")
    entry = await _taggable(connection, path, user, admin)
    asked = [model.check_tag_name(name) for name in names]
    return _tags(entry.path, await rows(connection, QUERIES["untag"], path=entry.path, names=asked))


async def _taggable(connection: Connection, path: str, user: str, admin: bool) -> Entry:
    found = await row(connection, QUERIES["entry"], path=model.clean_new(path))
    if found is None:
        raise NotFound(f"{path} is not in the catalogue", path=path)
    entry = Entry.from_json(found)
    if not model.may_write(entry, user, admin):
        raise NotAllowed(f"{user} may not tag {entry.path or '/'}, which belongs to {entry.owner}")
    return entry


def _tags(path: str, found: Sequence[Row]) -> dict[str, Value]:
    if not found:
        raise NotFound(f"{path} was just removed from the catalogue", path=path)
    tags = dict(found[0]["tags"] or {})
    if len(tags) > model.MOST_TAGS:
        raise UserError(f"{path} would have {len(tags)} tags; an entry may have {model.MOST_TAGS}", path=path)
    return tags


async def quota(connection: Connection, user: str) -> Quota:
    """What ``user`` has and may have."""
    found = await row(connection, QUERIES["quota"], owner=user)
    return _quota(found) if found else Quota(user, 0, 0, None, None)


async def hold_quota(connection: Connection, user: str) -> Quota:
    """The same, and nobody else changes it before the transaction ends.

    Who adds or removes files takes this lock before those of the tree: so they wait for each other in one
    order, and nobody passes a limit beside another.
    """
    found = await row(connection, QUERIES["hold_quota"], owner=user)
    return _quota(found) if found else Quota(user, 0, 0, None, None)


async def limit(connection: Connection, user: str, files: int | None, size: int | None) -> Quota:
    """``user`` may have so many files and bytes (None: no limit). Who has more keeps it and gets no more."""
    found = await rows(connection, QUERIES["limit_user"], owner=user, most_files=files, most_bytes=size)
    return _quota(found[0])


def _quota(found: Row) -> Quota:
    return Quota(found["owner"], found["files"], found["bytes"], found["most_files"], found["most_bytes"])


async def distances(connection: Connection, site: str) -> list[Row]:
    """se, site, alive, free and distance from ``site`` of every storage element, the closest first."""
    return await rows(connection, QUERIES["distances"], site=site)


async def set_distance(connection: Connection, site: str, se: str, distance: float | None) -> None:
    """``se`` is so far from ``site``; None: 0 when it is that site's, else 1. NotFound when nobody knows ``se``."""
    if not await rows(connection, QUERIES["site_of_storage"], se=se):
        raise NotFound(f"there is no storage element {se}", se=se)
    if distance is None:
        await rows(connection, QUERIES["drop_distance"], site=site, se=se)
    else:
        await rows(connection, QUERIES["set_distance"], site=site, se=se, distance=distance)


async def close_ses(connection: Connection, site: str, within: float = 0.0) -> list[str]:
    """The storage elements at most ``within`` from ``site``, the closest first: what an ad calls CloseSE."""
    return [one["se"] for one in await distances(connection, site) if one["distance"] <= within]
