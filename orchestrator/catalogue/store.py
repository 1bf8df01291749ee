"""The catalogue in PostgreSQL. Each function works on a connection of the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.catalogue import model
from orchestrator.catalogue.model import Entry, Output, clean
from orchestrator.errors import NotAllowed, NotFound, UserError
from orchestrator.runtime.sql import Connection, Queries, Row, row, rows

QUERIES = Queries(Path(__file__).with_name("queries.sql"))
DIRECTORY_MODE, FILE_MODE = 0o755, 0o644


async def begin(connection: Connection, vo: str, owner: str) -> None:
    """Make the root and /<vo> when they are missing; /<vo>/user is open for homes by ``ensure_home`` only."""
    for path in ("", f"/{vo}", f"/{vo}/user"):
        await rows(
            connection,
            QUERIES["add_directory"],
            path=path,
            parent=model.parent(path) if path else "-",
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


async def find(connection: Connection, path: str, pattern: str, limit: int) -> list[Entry]:
    """Files below ``path`` whose name matches the shell pattern (``*`` and ``?``)."""
    escaped = pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    like = escaped.replace("*", "%").replace("?", "_")
    found = await rows(connection, QUERIES["find"], path=clean(path), pattern=like, limit=limit)
    return [Entry.from_json(one) for one in found]


async def mkdir(connection: Connection, path: str, user: str, admin: bool = False) -> None:
    """``path`` and the directories above it exist; they belong to ``user`` where they are new."""
    line = model.lineage(clean(path))
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
        await rows(
            connection,
            QUERIES["add_directory"],
            path=one,
            parent=model.parent(one),
            owner=user,
            mode=DIRECTORY_MODE,
        )


async def check_new(connection: Connection, lfn: str, user: str, admin: bool = False) -> str:
    """The clean spelling of ``lfn`` if ``user`` may create a file there; changes nothing."""
    path = clean(lfn)
    known = [
        Entry.from_json(one)
        for one in await rows(connection, QUERIES["ancestors"], paths=model.lineage(path))
    ]
    if known and known[0].path == path:
        raise UserError(f"{path} exists; remove it first or choose another name", path=path)
    if known and not known[0].is_directory:
        raise UserError(f"{known[0].path} is a file, not a directory", path=known[0].path)
    if not known or not model.may_write(known[0], user, admin):
        where = known[0].path if known else "/"
        raise NotAllowed(f"{user} may not write in {where or '/'}")
    return path


async def register(connection: Connection, outputs: Sequence[Output], user: str, admin: bool = False) -> None:
    """Every output is an entry of its directory with its copy; again with the same guid is harmless.

    UserError when a name is taken by other content: then nothing of the transaction holds.
    """
    for output in outputs:
        path = clean(output.lfn)
        await mkdir(connection, model.parent(path), user, admin)
        folder = await stat(connection, model.parent(path) or "/")
        if not model.may_write(folder, user, admin):
            raise NotAllowed(f"{user} may not write in {folder.path}, which belongs to {folder.owner}")
        made = await row(
            connection,
            QUERIES["add_file"],
            path=path,
            parent=model.parent(path),
            owner=user,
            mode=FILE_MODE,
            guid=output.guid,
            size=output.size,
            md5=output.md5,
            adler32=output.adler32,
        )
        if made is None:
            raise UserError(
                f"{path} exists with other content; remove it or choose another OutputDir", path=path
            )
        await rows(connection, QUERIES["add_replica"], guid=output.guid, se=output.se, pfn=output.pfn)


async def remove(
    connection: Connection, path: str, user: str, admin: bool = False, recursive: bool = False
) -> int:
    """``path`` is gone (a directory: when empty or ``recursive``); returns how many entries went."""
    entry = await stat(connection, path)
    above = await stat(connection, model.parent(entry.path) or "/")
    if entry.path.count("/") < 2 or not (
        model.may_write(above, user, admin) and model.may_write(entry, user, admin)
    ):
        raise NotAllowed(f"{user} may not remove {entry.path or '/'}, which belongs to {entry.owner}")
    gone = 0
    if entry.is_directory and recursive:
        for child in await ls(connection, entry.path):
            gone += await remove(connection, child.path, user, admin, recursive)
    if entry.is_directory:
        if await row(connection, QUERIES["remove_directory"], path=entry.path) is None:
            raise UserError(f"{entry.path} is not empty; add --recursive", path=entry.path)
    else:
        await rows(connection, QUERIES["remove_file"], path=entry.path)
        await rows(connection, QUERIES["drop_replicas"], guid=entry.guid)
    return gone + 1


async def move(connection: Connection, old: str, new: str, user: str, admin: bool = False) -> None:
    """The entry ``old`` and all below it are named ``new``."""
    entry = await stat(connection, old)
    above = await stat(connection, model.parent(entry.path) or "/")
    if entry.path.count("/") < 2 or not (
        model.may_write(above, user, admin) and model.may_write(entry, user, admin)
    ):
        raise NotAllowed(f"{user} may not rename {entry.path}, which belongs to {entry.owner}")
    target = await check_new(connection, new, user, admin)
    if target.startswith(f"{entry.path}/"):
        raise UserError(f"{target} lies inside {entry.path}", path=target)
    await mkdir(connection, model.parent(target), user, admin)
    await rows(connection, QUERIES["move"], old=entry.path, new=target, parent=model.parent(target))


async def replicas(connection: Connection, guid: str, site: str) -> list[Row]:
    """se, pfn, site, url of every copy; those of ``site`` first."""
    return await rows(connection, QUERIES["replicas"], guid=guid, site=site)


async def choose_storage(connection: Connection, site: str, size: int, name: str = "") -> Row:
    """The storage element for a new file of ``size`` bytes; UserError when none fits."""
    found = await row(connection, QUERIES["storage"], name=name, site=site, size=size)
    if found is None:
        raise UserError(
            f"no storage element {name or 'of this VO'} has room for {size} bytes", se=name, size=size
        )
    return found
