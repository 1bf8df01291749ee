"""The next revision, worked out in memory: new catalog, tag database, reflog, manifest. No input, no output."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import PermanentError, UserError
from orchestrator.software.cvmfs import history, reflog
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs import whitelist as whitelists
from orchestrator.software.cvmfs.catalog import Catalog
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.manifest import TTL, Manifest
from orchestrator.software.cvmfs.model import (
    CATALOG,
    CERTIFICATE,
    DIRECTORY,
    HISTORY,
    METAINFO,
    NESTED_MOUNTPOINT,
    Entry,
)
from orchestrator.software.cvmfs.objects import digest, pack
from orchestrator.software.cvmfs.scan import Tree
from orchestrator.software.cvmfs.store import Commit


@dataclass(frozen=True)
class Base:
    """What is there now; ``manifest`` is None for a repository without a revision."""

    manifest: Manifest | None
    catalog: Catalog
    history: bytes | None
    reflog: bytes | None
    whitelist: bytes | None


@dataclass(frozen=True)
class Draft:
    """A revision before it is committed: the objects above its files, and the commit itself."""

    objects: tuple[tuple[str, bytes], ...]
    commit: Commit
    manifest: Manifest


def draft(
    base: Base,
    keys: RepositoryKeys,
    whitelist: bytes,
    trees: Sequence[Tree],
    removed: Sequence[str],
    now: int,
) -> Draft:
    old, fqrn = base.manifest, keys.fqrn
    revision = old.revision + 1 if old else 1
    published = max(now, old.published) if old else now
    for target in removed:
        _clear(base.catalog, target)
    for tree in trees:
        _place(base.catalog, tree, now)
    content = base.catalog.seal(revision, published, old.ttl if old else TTL, old.catalog if old else "")
    catalog = pack(content, CATALOG)
    certificate = pack(keys.certificate, CERTIFICATE)
    root = catalog[0][:40]
    trunk = history.Tag(history.TRUNK, root, revision, published, len(content))
    tags = pack(
        history.follow(history.open_history(base.history, fqrn), trunk, old.history if old else ""), HISTORY
    )
    objects = [catalog, certificate, tags]
    metainfo = old.metainfo if old else ""
    if not metainfo:
        about = pack(json.dumps({"name": fqrn}, sort_keys=True).encode(), METAINFO)
        objects.append(about)
        metainfo = about[0][:40]
    named = {CATALOG: root, CERTIFICATE: certificate[0][:40], HISTORY: tags[0][:40], METAINFO: metainfo}
    log = reflog.extended(base.reflog, fqrn, named, published)
    manifest = Manifest(
        fqrn=fqrn,
        catalog=root,
        catalog_size=len(content),
        revision=revision,
        certificate=named[CERTIFICATE],
        published=published,
        history=named[HISTORY],
        metainfo=metainfo,
        reflog=digest(log),
        ttl=old.ttl if old else TTL,
        collectable=old.collectable if old else True,
        extra=old.extra if old else (),
    )
    signed = manifests.sign(manifest, keys.signing)
    commit = Commit(old.catalog if old else "", signed, whitelist, log, keys.master_public)
    return Draft(tuple(objects), commit, manifest)


def _clear(catalog: Catalog, target: str) -> None:
    """Remove ``target``; a tree that holds or lies in nested catalogs is refused, not half removed."""
    above = target
    while above:
        entry = catalog.lookup(above)
        if entry is not None and entry.flags & NESTED_MOUNTPOINT:
            raise PermanentError(
                f"{target} lies in the nested catalog at {above}, which this program reads but does not write yet",
                path=target,
            )
        above = above.rpartition("/")[0]
    held = [mount for mount, _, _ in catalog.nested() if mount.startswith(f"{target}/")]
    if held:
        raise PermanentError(
            f"{target} holds the nested catalog {held[0]}, which this program reads but does not write yet",
            path=target,
        )
    catalog.remove(target)


def _place(catalog: Catalog, tree: Tree, now: int) -> None:
    """Put ``tree`` in place of what is at its target, with the directories above it."""
    _clear(catalog, tree.target)
    parts = tree.target.split("/")[1:-1]
    for depth in range(1, len(parts) + 1):
        above = "/" + "/".join(parts[:depth])
        entry = catalog.lookup(above)
        if entry is None:
            catalog.insert([Entry(above, DIRECTORY, 0o040755, 4096, now, links=2)])
        elif not entry.is_directory:
            raise UserError(f"{tree.target}: {above} is a file in this repository; choose another place")
    offset = catalog.highest_group()
    catalog.insert(
        replace(entry, group=entry.group + offset) if entry.group else entry for entry in tree.entries
    )


def due_whitelist(present: bytes | None, keys: RepositoryKeys, now: int) -> bytes:
    """The whitelist to publish with: the present one, or a new one where it is due and the master key is here."""
    left = 0.0
    if present is not None:
        found = whitelists.verify(present, keys.master_public, keys.fqrn, None)
        left = found.expires - now if found.lists(keys.certificate) else 0.0
        if left > whitelists.LIFETIME / 2 or (left > 0 and keys.master is None):
            return present
    if keys.master is None:
        raise UserError(
            f"the whitelist of {keys.fqrn} is missing, expired or does not list this publisher's certificate;"
            " renew it where the master key is",
            fqrn=keys.fqrn,
        )
    return whitelists.make(keys.master, keys.fqrn, [keys.certificate], now)
