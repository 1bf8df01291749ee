"""Publish: directories in, one new revision out; the rename of the manifest is the commit point.

Order: look at the input → objects → catalog, certificate, metainfo, tag database → reflog and
whitelist → manifest. Whatever dies before the last step leaves the old revision whole, and the same
call again finishes the work, skipping the objects that are there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import PermanentError, TemporaryError, UserError
from orchestrator.software.cvmfs.catalog import Catalog
from orchestrator.software.cvmfs.compare import same_content
from orchestrator.software.cvmfs.draft import Base, draft, due_whitelist
from orchestrator.software.cvmfs.ingest import Progress, ingest
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import (
    HISTORY,
    MANIFEST,
    REFLOG,
    WHITELIST,
    Change,
    Revision,
    check_fqrn,
    target_path,
)
from orchestrator.software.cvmfs.objects import LEVEL
from orchestrator.software.cvmfs.read import fetch_object, open_revision
from orchestrator.software.cvmfs.scan import Tree, scan
from orchestrator.software.cvmfs.store import ObjectStore

_TRIES = 5  # times that another publisher may come first


async def publish(
    store: ObjectStore,
    keys: RepositoryKeys,
    fqrn: str,
    changes: Sequence[Change],
    now: float,
    *,
    level: int = LEVEL,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Revision:
    """Apply ``changes`` to the present revision of ``fqrn`` and make the result visible, all or nothing.

    Unchanged content makes no revision (``Revision.changed`` is False); times and owners alone are no
    change. The whitelist is renewed when half its life is gone and the master key is at hand.
    UserError names every problem of the input before anything is touched; TemporaryError when another
    publisher is at work; PermanentError when what is there does not verify with ``keys``.
    """
    if check_fqrn(fqrn) != keys.fqrn:
        raise UserError(f"these are the keys of {keys.fqrn}; give those of {fqrn}", fqrn=fqrn)
    trees, removed = await asyncio.to_thread(_look, fqrn, changes)
    threads = workers or os.cpu_count() or 1
    new = 0
    async with store.lock():
        # What cannot be built upon is refused before the long part.
        present = await _base(store, keys, now)
        due_whitelist(present.whitelist, keys, int(now))
        for index, tree in enumerate(trees):
            entries, count = await ingest(store, tree, level, threads, progress)
            trees[index] = replace(tree, entries=entries)
            new += count
        for _ in range(_TRIES):
            base = await _base(store, keys, now)
            try:
                return await _commit(store, keys, base, trees, removed, int(now), new)
            except PermanentError as error:
                if not error.facts.get("moved"):
                    raise
    raise TemporaryError(f"other publishers of {fqrn} came first {_TRIES} times; publish again", retry_in=5.0)


def _look(fqrn: str, changes: Sequence[Change]) -> tuple[list[Tree], list[str]]:
    """Scan all sources; every problem of every change in one UserError."""
    problems: list[str] = []
    trees: list[Tree] = []
    removed: list[str] = []
    targets: list[str] = []
    for change in changes:
        try:
            target = target_path(change.target)
            targets.append(target)
            if change.source is None:
                removed.append(target)
            else:
                trees.append(scan(change.source, target, fqrn))
        except UserError as error:
            problems.append(error.message)
    for target in targets:
        inside = [other for other in targets if other.startswith(f"{target}/")]
        problems += [f"{other} lies inside {target}; publish them one after the other" for other in inside]
    problems += [f"{target} is named twice" for target in sorted(set(targets)) if targets.count(target) > 1]
    if not changes:
        problems.append(f"nothing to publish to {fqrn}: name a directory and its place in the repository")
    if problems:
        raise UserError("\n".join(problems), problems=problems)
    return trees, removed


async def _base(store: ObjectStore, keys: RepositoryKeys, now: float) -> Base:
    if await store.get(MANIFEST) is None:
        return Base(None, Catalog.new(int(now)), None, None, None)
    opened = await open_revision(store.get, keys.fqrn, keys.master_public, None)
    tags = opened.manifest.history
    return Base(
        opened.manifest,
        opened.catalog,
        await fetch_object(store.get, tags + HISTORY) if tags else None,
        await store.get(REFLOG),
        await store.get(WHITELIST),
    )


async def _commit(
    store: ObjectStore,
    keys: RepositoryKeys,
    base: Base,
    trees: Sequence[Tree],
    removed: Sequence[str],
    now: int,
    new: int,
) -> Revision:
    whitelist = due_whitelist(base.whitelist, keys, now)
    old = base.manifest
    files = [entry for tree in trees for entry in tree.entries if entry.is_regular]
    size = sum(entry.size for entry in files)
    if old is not None and await _unchanged(store, base.catalog, trees, removed):
        if whitelist != base.whitelist:
            await store.renew(whitelist)
        return Revision(
            keys.fqrn, old.revision, old.catalog, old.published, changed=False, files=len(files), size=size
        )
    made = await asyncio.to_thread(draft, base, keys, whitelist, trees, removed, now)
    new += await store.put(made.objects)
    await store.commit(made.commit)
    there = made.manifest
    return Revision(
        keys.fqrn,
        there.revision,
        there.catalog,
        there.published,
        True,
        files=len(files),
        size=size,
        new_objects=new,
    )


async def _unchanged(
    store: ObjectStore, catalog: Catalog, trees: Sequence[Tree], removed: Sequence[str]
) -> bool:
    if any(catalog.lookup(target) is not None for target in removed):
        return False
    for tree in trees:
        there = await asyncio.to_thread(list, catalog.walk(tree.target))
        if not await same_content(store.get, there, tree):
            return False
    return True
