"""Read a repository from any source: whitelist → certificate → manifest → catalog → files, each verified."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import NotFound, PermanentError, TemporaryError, UserError
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs import whitelist as whitelists
from orchestrator.software.cvmfs.catalog import Catalog
from orchestrator.software.cvmfs.manifest import Manifest
from orchestrator.software.cvmfs.model import (
    CATALOG,
    CERTIFICATE,
    EXTERNAL,
    MANIFEST,
    NESTED_MOUNTPOINT,
    SPECIAL,
    WHITELIST,
    Chunk,
    Entry,
    Revision,
    check_fqrn,
    object_path,
    target_path,
)
from orchestrator.software.cvmfs.objects import unpack
from orchestrator.software.cvmfs.store import Fetch


@dataclass(frozen=True)
class Opened:
    """A verified revision."""

    manifest: Manifest
    catalog: Catalog
    certificate: bytes


@dataclass(frozen=True)
class _Item:
    place: Path
    offset: int
    size: int
    name: str
    raw: bool


async def open_revision(
    fetch: Fetch, fqrn: str, master_public: bytes, now: float | None, at_least: int = 0
) -> Opened:
    """The present revision of ``fqrn``, trusted because of the master key ``master_public`` (PEM) alone.

    ``now`` None accepts an expired whitelist. ``at_least`` refuses an older revision than one seen before.
    NotFound when there is no such repository, PermanentError when anything does not verify.
    """
    check_fqrn(fqrn)
    listed = whitelists.verify(await _need(fetch, WHITELIST, fqrn), master_public, fqrn, now)
    published = await _need(fetch, MANIFEST, fqrn)
    claimed = manifests.parse(published)
    certificate = await fetch_object(fetch, claimed.certificate + CERTIFICATE)
    if not listed.lists(certificate):
        raise PermanentError(f"the certificate that signed {fqrn} is not on its whitelist", fqrn=fqrn)
    found = manifests.verify(published, certificate, fqrn)
    if found.revision < at_least:
        raise PermanentError(
            f"{fqrn} offers revision {found.revision}, older than {at_least} which was seen before", fqrn=fqrn
        )
    content = await fetch_object(fetch, found.catalog + CATALOG, found.catalog_size or None)
    return Opened(found, Catalog.load(content, f"the root catalog of {fqrn}"), certificate)


async def fetch_object(fetch: Fetch, name: str, size: int | None = None, *, raw: bool = False) -> bytes:
    """The verified content of object ``name``; TemporaryError when the source lacks it (it may be behind)."""
    stored = await fetch(object_path(name))
    if stored is None:
        raise TemporaryError(f"object {name} is not at this source; try another, or again later", name=name)
    return unpack(name, stored, size, raw=raw)


async def entries_below(fetch: Fetch, root: Catalog, path: str) -> list[Entry]:
    """``path`` and all below it, parents first, through nested catalogs; NotFound when it is absent."""
    catalog = await _holding(fetch, root, path)
    found: list[Entry] = []
    for entry in await asyncio.to_thread(list, catalog.walk(path)):
        if entry.flags & NESTED_MOUNTPOINT:
            below = await _nested(fetch, catalog, entry.path)
            found.extend(await entries_below(fetch, below, entry.path))
        else:
            found.append(entry)
    if not found:
        raise NotFound(f"{path} is not in the repository; list its packages for what is", path=path)
    return found


async def materialise(
    fetch: Fetch,
    fqrn: str,
    master_public: bytes,
    subtree: str,
    destination: Path,
    now: float,
    *,
    at_least: int = 0,
    parallel: int = 8,
) -> Revision:
    """Make ``destination`` hold the directory ``subtree`` of the present revision, every object verified.

    It appears by one rename when complete; on failure nothing is left. UserError when it exists already.
    Set-user-id bits are dropped, directories stay writable for the owner so that a cache can be emptied.
    """
    top = target_path(subtree)
    if destination.exists():
        raise UserError(f"{destination} exists already; remove it or choose another place")
    opened = await open_revision(fetch, fqrn, master_public, now, at_least)
    entries = await entries_below(fetch, opened.catalog, top)
    if not entries[0].is_directory:
        raise UserError(f"{top} in {fqrn} is not a directory; name a release")
    for entry in entries:
        if entry.flags & (SPECIAL | EXTERNAL):
            raise PermanentError(f"{entry.path} in {fqrn} is special or external; this reader takes neither")
    part = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}")
    try:
        items = await asyncio.to_thread(_skeleton, part, top, entries)
        await _fill(fetch, items, parallel)
        await asyncio.to_thread(_finish, part, top, entries)
        part.rename(destination)
    except OSError as error:
        raise TemporaryError(f"cannot write {destination}: {error.strerror}", retry_in=10.0) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
    files = [entry for entry in entries if entry.is_regular]
    present = opened.manifest
    return Revision(
        fqrn,
        present.revision,
        present.catalog,
        present.published,
        changed=True,
        files=len(files),
        size=sum(entry.size for entry in files),
    )


async def _need(fetch: Fetch, path: str, fqrn: str) -> bytes:
    content = await fetch(path)
    if content is None:
        raise NotFound(f"there is no repository {fqrn} at this source ({path} is missing)", fqrn=fqrn)
    return content


async def _holding(fetch: Fetch, catalog: Catalog, path: str) -> Catalog:
    """The catalog that holds ``path``, found through the nested catalogs above it."""
    for mount, _, _ in catalog.nested():
        if path != catalog.prefix and (path == mount or path.startswith(f"{mount}/")):
            return await _holding(fetch, await _nested(fetch, catalog, mount), path)
    return catalog


async def _nested(fetch: Fetch, catalog: Catalog, path: str) -> Catalog:
    for mount, name, size in catalog.nested():
        if mount == path:
            return Catalog.load(
                await fetch_object(fetch, name + CATALOG, size or None), f"the nested catalog at {path}"
            )
    raise PermanentError(f"the nested catalog at {path} is not registered", path=path)


async def _fill(fetch: Fetch, items: Iterable[_Item], parallel: int) -> None:
    waiting = iter(items)

    async def work() -> None:
        for item in waiting:
            data = await fetch_object(fetch, item.name, item.size, raw=item.raw)
            await asyncio.to_thread(_write, item, data)

    tasks = [asyncio.create_task(work()) for _ in range(parallel)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _place(part: Path, top: str, entry: Entry) -> Path:
    return part / entry.path[len(top) + 1 :]


def _skeleton(part: Path, top: str, entries: list[Entry]) -> list[_Item]:
    """Directories and symbolic links; what remains is to fetch. A hard link group is fetched once."""
    items: list[_Item] = []
    groups: set[tuple[str, int]] = set()
    for entry in entries:
        place = _place(part, top, entry)
        if entry.is_directory:
            place.mkdir(mode=0o700)
        elif entry.is_symlink:
            place.symlink_to(entry.symlink)
        elif entry.group == 0 or (entry.parent, entry.group) not in groups:
            groups.add((entry.parent, entry.group))
            chunks = entry.chunks or (Chunk(0, entry.size, entry.digest),)
            names = list(entry.objects())
            if sum(chunk.size for chunk in chunks) != entry.size:
                raise PermanentError(f"{entry.path}: its pieces do not add up to its size", path=entry.path)
            items += [
                _Item(place, chunk.offset, chunk.size, name, entry.raw)
                for chunk, name in zip(chunks, names, strict=True)
            ]
    return items


def _write(item: _Item, data: bytes) -> None:
    descriptor = os.open(item.place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, memoryview(data)[done:], item.offset + done)
    finally:
        os.close(descriptor)


def _finish(part: Path, top: str, entries: list[Entry]) -> None:
    """Hard links, then modes and times, children before their directory."""
    groups: dict[tuple[str, int], Path] = {}
    for entry in entries:
        if entry.group and entry.is_regular:
            place = _place(part, top, entry)
            first = groups.setdefault((entry.parent, entry.group), place)
            if first != place:
                place.hardlink_to(first)
    for entry in reversed(entries):
        place = _place(part, top, entry)
        if entry.is_symlink:
            os.utime(place, (entry.mtime, entry.mtime), follow_symlinks=False)
            continue
        place.chmod(entry.mode & 0o777 | (0o700 if entry.is_directory else 0o400))
        os.utime(place, (entry.mtime, entry.mtime))
