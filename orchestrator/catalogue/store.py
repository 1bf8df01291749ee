"""The catalogue in PostgreSQL. Each function works on a connection of the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg

from orchestrator.catalogue import facts, model, where
from orchestrator.catalogue.model import Entry, Output, clean, clean_new
from orchestrator.errors import NotAllowed, NotFound, TemporaryError, UserError
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows

QUERIES = Queries(Path(__file__).with_name("queries.sql"))
DIRECTORY_MODE, FILE_MODE = 0o755, 0o644
LONGEST_SEARCH = 10.0  # seconds


async def begin(connection: Connection, vo: str, owner: str) -> None:
    """Make the root and /<vo> when they are missing; /<vo>/user is open for homes by ``ensure_home`` only."""
    for path in ("", f"/{vo}", f"/{vo}/user"):
        await rows(
            connection,
            QUERIES["add_directory"],
            path=path,
            parent=model.parent(path) if path else None,
            owner=owner,
            mode=DIRECTORY_MODE,
        )


async def ensure_home(connection: Connection, vo: str, user: str, owner: str) -> str:
    """The home of ``user``, made when it is missing."""
    home = model.home(vo, user)
    for path, holder in ((model.parent(home), owner), (home, user)):
        await rows(
            connection,
            QUERIES["add_directory"],
            path=path,
            parent=model.parent(path),
            owner=holder,
            mode=DIRECTORY_MODE,
        )
    return home


async def open_home(connection: Connection, vo: str, user: str, path: str) -> None:
    """The home of ``user`` exists if the clean ``path`` is in it."""
    home = model.home(vo, user)
    if path != home and not path.startswith(f"{home}/"):
        return
    if not await rows(connection, QUERIES["entry"], path=home):
        await ensure_home(connection, vo, user, (await stat(connection, f"/{vo}/user")).owner)


async def stat(connection: Connection, path: str) -> Entry:
    """The entry at ``path``; NotFound when there is none."""
    found = await row(connection, QUERIES["entry"], path=clean(path))
    if found is None:
        raise NotFound(f"{path} is not in the catalogue", path=path)
    return Entry.from_json(found)


async def exists(connection: Connection, path: str) -> bool:
    """Whether ``path`` is a file of the catalogue."""
    found = await row(connection, QUERIES["entry"], path=clean(path))
    return found is not None and found["guid"] is not None


async def ls(connection: Connection, path: str) -> list[Entry]:
    """What the directory ``path`` holds, or the file itself."""
    entry = await stat(connection, path)
    if not entry.is_directory:
        return [entry]
    return [Entry.from_json(found) for found in await rows(connection, QUERIES["children"], path=entry.path)]


async def find(
    connection: Connection, path: str, pattern: str, limit: int, condition: str = "", after: str = ""
) -> list[Entry]:
    """Files below the directory ``path`` whose name matches the shell pattern (``*`` and ``?``), by path.

    With a ``condition`` (see ``where``): entries that have such tags, directories too. ``after`` is the
    last path of the page before. UserError when it takes longer than LONGEST_SEARCH seconds.
    """
    folder = await stat(connection, path)
    escaped = pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    like = escaped.replace("*", "%").replace("?", "_")
    values = {"path": folder.path, "pattern": like, "limit": limit, "after": after}
    if condition:
        values["where"] = where.compiled(condition)
    await rows(connection, QUERIES["hurry"], most=str(int(LONGEST_SEARCH * 1000)))
    try:
        found = await rows(connection, QUERIES["find_tagged" if condition else "find"], **values)
    except psycopg.errors.QueryCanceled as error:
        raise UserError(
            f"the search below {folder.path or '/'} took longer than {LONGEST_SEARCH:g} s; name a directory "
            "with less below it, or fewer entries at once",
            path=folder.path,
        ) from error
    return [Entry.from_json(one) for one in found]


async def mkdir(connection: Connection, path: str, user: str, admin: bool = False) -> None:
    """``path`` and the directories above it exist; they belong to ``user`` where they are new."""
    line = model.lineage(clean_new(path))
    known = [Entry.from_json(one) for one in await rows(connection, QUERIES["ancestors"], paths=line)]
    if not known:
        raise NotFound("the catalogue has no root yet; run `orchestrate up`")
    nearest = known[0]
    if not nearest.is_directory:
        raise UserError(f"{nearest.path} is a file, not a directory", path=nearest.path)
    missing = line[: line.index(nearest.path)]
    if missing and not model.may_write(nearest, user, admin):
        raise NotAllowed(f"{user} may not write in {nearest.path or '/'}, which belongs to {nearest.owner}")
    for one in reversed(missing):
        above = model.parent(one)
        await _change(connection, "add_directory", path=one, parent=above, owner=user, mode=DIRECTORY_MODE)


async def check_new(connection: Connection, lfn: str, user: str, admin: bool = False, same: str = "") -> str:
    """The clean spelling of ``lfn`` if ``user`` may create a file there; changes nothing.

    The user's file of that name is no obstacle when its GUID is ``same``: then it gets another copy.
    """
    path = clean_new(lfn)
    known = [
        Entry.from_json(one)
        for one in await rows(connection, QUERIES["ancestors"], paths=model.lineage(path))
    ]
    if known and known[0].path == path:
        if same and known[0].guid == same and (admin or known[0].owner == user):
            return path
        raise UserError(f"{path or '/'} exists; remove it first or choose another name", path=path)
    if known and not known[0].is_directory:
        raise UserError(f"{known[0].path} is a file, not a directory", path=known[0].path)
    if not known or not model.may_write(known[0], user, admin):
        where = known[0].path if known else "/"
        raise NotAllowed(f"{user} may not write in {where or '/'}")
    return path


async def check_content(connection: Connection, guid: str, size: int, md5: str) -> None:
    """UserError when a file of the catalogue has this GUID and other content."""
    for known in await rows(connection, QUERIES["same_guid"], guid=guid):
        if (known["size"], known["md5"]) != (size, md5):
            raise UserError(f"GUID {guid} belongs to other content", guid=guid)


async def register(connection: Connection, outputs: Sequence[Output], user: str, admin: bool = False) -> None:
    """Every output is an entry of its directory with its copy; again with the same guid is harmless.

    A copy's path follows from its GUID: what ``pfn`` says does not matter, so nobody can name (and then
    remove) the copy of another file. UserError when a name is taken by other content: then nothing of
    the transaction holds. So it is when the quota of ``user`` is used up.
    """
    held, files, size = await facts.hold_quota(connection, user), 0, 0
    for output in outputs:
        path, pfn = clean(output.lfn), model.pfn_of(output.guid)
        await mkdir(connection, model.parent(path) or "/", user, admin)
        folder = await stat(connection, model.parent(path) or "/")
        if not model.may_write(folder, user, admin):
            raise NotAllowed(f"{user} may not write in {folder.path or '/'}, which belongs to {folder.owner}")
        await check_content(connection, output.guid, output.size, output.md5)
        values = {"owner": user, "mode": FILE_MODE, "guid": output.guid, "size": output.size}
        values |= {"md5": output.md5, "adler32": output.adler32}
        added = await _change(connection, "add_file", path=path, parent=folder.path, **values)
        if not added:
            raise UserError(
                f"{path} exists with other content; remove it or choose another OutputDir", path=path
            )
        if added[0]["new"]:
            files, size = files + 1, size + output.size
        await rows(connection, QUERIES["keep"], se=output.se, pfn=pfn)
        if await row(connection, QUERIES["doomed"], se=output.se, pfn=pfn):
            raise UserError(f"the copy of {path} on {output.se} is being deleted; write it again", path=path)
        await rows(connection, QUERIES["add_replica"], guid=output.guid, se=output.se, pfn=pfn)
    if files:
        held.check(files, size)


async def remove(
    connection: Connection, path: str, user: str, admin: bool = False, recursive: bool = False
) -> int:
    """``path`` is gone (a directory: when empty or ``recursive``); returns how many entries went."""
    entry = await _removable(connection, path, user, admin, "remove")
    await facts.hold_quota(connection, entry.owner)
    if entry.is_directory and not recursive and await row(connection, QUERIES["inside"], path=entry.path):
        raise UserError(f"{entry.path} is not empty; add --recursive", path=entry.path)
    if entry.is_directory and not admin:
        kept = await row(connection, QUERIES["locked_below"], path=entry.path, user=user)
        if kept is not None:
            raise NotAllowed(f"{user} may not remove {kept['path']}, which belongs to {kept['owner']}")
    name = "remove" if entry.is_directory and recursive else "remove_one"
    gone = await _change(connection, name, path=entry.path)
    guids = [one["guid"] for one in gone if one["guid"]]
    await rows(connection, QUERIES["drop_replicas"], guids=guids)
    return len(gone)


async def move(connection: Connection, old: str, new: str, user: str, admin: bool = False) -> None:
    """The entry ``old`` and all below it are named ``new``."""
    entry = await _removable(connection, old, user, admin, "rename")
    if clean(new).startswith(f"{entry.path}/"):
        raise UserError(f"{new} lies inside {entry.path}", path=new)
    target = await check_new(connection, new, user, admin)
    await mkdir(connection, model.parent(target) or "/", user, admin)
    await _change(connection, "move", old=entry.path, new=target, parent=model.parent(target))


async def _removable(connection: Connection, path: str, user: str, admin: bool, verb: str) -> Entry:
    """The entry if ``user`` may take it away from where it is; NotAllowed otherwise."""
    entry = await stat(connection, path)
    if entry.path.count("/") < 2:
        raise NotAllowed(f"{entry.path or '/'} belongs to the VO; nobody may {verb} it")
    above = await stat(connection, model.parent(entry.path))
    for needed in (entry, above):
        if not model.may_write(needed, user, admin):
            raise NotAllowed(f"{user} may not {verb} {entry.path}: {needed.path} belongs to {needed.owner}")
    return entry


async def _change(connection: Connection, name: str, **values: object) -> list[Row]:
    """One change of the tree; TemporaryError when somebody removed or filled a directory of it just now."""
    try:
        return await rows(connection, QUERIES[name], **values)
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.UniqueViolation) as error:
        raise TemporaryError("somebody else changes the same directory; try again", retry_in=0.2) from error


async def replicas(connection: Connection, guid: str, site: str) -> list[Row]:
    """se, pfn, site, url of every copy; living storage elements first, then the closest to ``site``."""
    return await rows(connection, QUERIES["replicas"], guid=guid, site=site)


async def choose_storage(
    connection: Connection, site: str, size: int, names: Sequence[str], copies: int, guid: str
) -> list[Row]:
    """Up to ``copies`` storage elements with room for ``size`` bytes that lack ``guid``, the ``names`` first.

    The others are those that live, then the closest to ``site``, then those with most room.

    TemporaryError when there is none; UserError when some were named and none can take it.
    """
    values = {"site": site, "size": size, "guid": guid}
    found = []
    if names:
        named = await rows(connection, QUERIES["storage"], names=list(names), most=len(names), **values)
        found = sorted(named, key=lambda one: names.index(one["name"]))
    if copies > len(names):
        others = await rows(connection, QUERIES["storage"], names=[], most=copies + len(names), **values)
        found += [one for one in others if one["name"] not in names][: copies - len(found)]
    if not found and names:
        which = " or ".join(names)
        raise UserError(f"no storage element {which} is known and has room for {size} bytes", size=size)
    if not found:
        raise TemporaryError(
            f"no storage element of this VO has room for {size} bytes now", retry_in=5.0, size=size
        )
    return found
