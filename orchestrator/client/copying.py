"""Whole files and directories between this computer and the grid."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.catalogue import client, model
from orchestrator.catalogue.model import Entry
from orchestrator.errors import NotFound, UserError
from orchestrator.runtime.http import Api

_AT_ONCE = 6

T = TypeVar("T")
R = TypeVar("R")
Step = Callable[[int], None]


def absolute(path: str, home: str) -> str:
    """The LFN that a user means: relative ones and ~ start at ``home``; . and .. are resolved."""
    if path == "~" or path.startswith("~/"):
        path = f"{home}/{path[2:]}"
    elif not path.startswith("/"):
        path = f"{home}/{path}"
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part and part != ".":
            parts.append(part)
    return model.clean("/" + "/".join(parts)) or "/"


async def known(api: Api, lfn: str) -> Entry | None:
    """The entry of that name, or None."""
    try:
        return await client.stat(api, lfn)
    except NotFound:
        return None


async def landing(api: Api, name: str, to: str, home: str) -> str:
    """Where something called ``name`` goes when the user says ``to``: into it when that is a directory."""
    target = absolute(to, home)
    found = await known(api, target)
    into = to.endswith("/") or (found is not None and found.is_directory)
    return f"{target.rstrip('/')}/{name}" if into else target


def local(source: Path) -> dict[str, Path]:
    """The files of a local file or directory by their path below it ("" for the file itself)."""
    if source.is_file():
        return {"": source}
    if not source.is_dir():
        raise UserError(f"{source} is no file or directory of this computer")
    found: dict[str, Path] = {}

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error

    for folder, _, names in os.walk(source, onerror=refuse):
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file():
                found[path.relative_to(source).as_posix()] = path
    return found


async def upload(
    api: Api, files: dict[str, Path], lfn: str, se: str, copies: int, step: Step
) -> list[dict[str, Any]]:
    """Every file is registered below ``lfn``; one that is there already with the same content is passed over."""

    async def one(item: tuple[str, Path]) -> dict[str, Any]:
        name, path = item
        target = f"{lfn}/{name}" if name else lfn
        before = await known(api, target)
        if before is not None and not before.is_directory:
            told = await asyncio.to_thread(client.sums, path)
            if (told.size, told.md5) == (before.size, before.md5):
                step(told.size)
                return {"lfn": target, "guid": before.guid, "size": told.size, "se": [], "new": False}
        made = await client.put(api, path, target, se, copies, step)
        where = [each.se for each in made]
        return {"lfn": target, "guid": made[0].guid, "size": made[0].size, "se": where, "new": True}

    return await some_at_once(files.items(), one)


async def tree(api: Api, entry: Entry) -> list[Entry]:
    """The files of an entry: itself, or all that a directory holds."""
    return await client.find(api, entry.path or "/", "*") if entry.is_directory else [entry]


async def download(
    api: Api, entry: Entry, files: list[Entry], target: Path, step: Step
) -> list[dict[str, Any]]:
    """Every file of ``entry`` is at ``target``, or below it when ``entry`` is a directory."""

    async def one(file: Entry) -> dict[str, Any]:
        path = target / file.path.removeprefix(entry.path).lstrip("/") if entry.is_directory else target
        path.parent.mkdir(parents=True, exist_ok=True)
        await client.get(api, file.path, path, progress=step)
        return {"lfn": file.path, "path": str(path), "size": file.size}

    if entry.is_directory:
        target.mkdir(parents=True, exist_ok=True)
    return await some_at_once(files, one)


async def some_at_once(items: Iterable[T], act: Callable[[T], Awaitable[R]]) -> list[R]:
    """``act`` on each, a few at once; the first error ends it."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(item: T) -> R:
        async with gate:
            return await act(item)

    running = [asyncio.ensure_future(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*running))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
