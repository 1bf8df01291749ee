"""Repositories made elsewhere have nested catalogs: they are read, and never half overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import database, whitelist
from orchestrator.software.cvmfs.catalog import Catalog
from orchestrator.software.cvmfs.draft import Base, draft
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import DIRECTORY, FILE, NESTED_MOUNTPOINT, NESTED_ROOT, Change, Entry
from orchestrator.software.cvmfs.objects import pack
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.read import materialise
from orchestrator.software.cvmfs.store import LocalStore

FQRN = "alice.example.org"
NOW = 1_750_000_000.0
FOLDER = 0o040755


@pytest.fixture
async def store(tmp_path: Path, keys: RepositoryKeys) -> LocalStore:
    """/R is in the root catalog, /R/1 in a nested one, /R/1/sub in one nested in that."""
    made = LocalStore(tmp_path / FQRN)
    file = pack(b"deep")
    deepest = _catalog(
        "/R/1/sub",
        Entry("/R/1/sub", DIRECTORY | NESTED_ROOT, FOLDER, 4096, 1),
        Entry("/R/1/sub/.cvmfscatalog", FILE, 0o100644, 4, 1, digest=file[0]),
        Entry("/R/1/sub/f", FILE, 0o100644, 4, 1, digest=file[0]),
    ).seal(1, 1, 240, "")
    deep = pack(deepest, "C")
    child = _catalog(
        "/R/1",
        Entry("/R/1", DIRECTORY | NESTED_ROOT, FOLDER, 4096, 1),
        Entry("/R/1/.cvmfscatalog", FILE, 0o100644, 4, 1, digest=file[0]),
        Entry("/R/1/sub", DIRECTORY | NESTED_MOUNTPOINT, FOLDER, 4096, 1, links=2),
    )
    _mount(child, "/R/1/sub", deep[0], len(deepest))
    inner = child.seal(1, 1, 240, "")
    nested = pack(inner, "C")
    root = Catalog.new(1)
    root.insert(
        [
            Entry("/R", DIRECTORY, FOLDER, 4096, 1),
            Entry("/R/1", DIRECTORY | NESTED_MOUNTPOINT, FOLDER, 4096, 1, links=3),
        ]
    )
    _mount(root, "/R/1", nested[0], len(inner))
    assert keys.master is not None
    listed = whitelist.make(keys.master, FQRN, [keys.certificate], NOW)
    made_revision = draft(Base(None, root, None, None, None), keys, listed, [], [], int(NOW))
    await made.put([*made_revision.objects, file, deep, nested])
    await made.commit(made_revision.commit)
    return made


def _catalog(prefix: str, *entries: Entry) -> Catalog:
    made = Catalog.new(1)
    made.remove("")
    made.insert(entries)
    database.set_properties(made._base, root_prefix=prefix)
    return made


def _mount(catalog: Catalog, path: str, name: str, size: int) -> None:
    catalog._base.execute("INSERT INTO nested_catalogs VALUES (?, ?, ?)", (path, name[:40], size))


@pytest.mark.parametrize(
    ("subtree", "found"),
    [
        ("/R", {"1", "1/.cvmfscatalog", "1/sub", "1/sub/.cvmfscatalog", "1/sub/f"}),
        ("/R/1", {".cvmfscatalog", "sub", "sub/.cvmfscatalog", "sub/f"}),
        ("/R/1/sub", {".cvmfscatalog", "f"}),
    ],
)
async def test_nested_catalogs_are_followed(
    store: LocalStore, keys: RepositoryKeys, tmp_path: Path, subtree: str, found: set[str]
) -> None:
    out = tmp_path / "out"
    await materialise(store.get, FQRN, keys.master_public, subtree, out, NOW)
    assert {str(place.relative_to(out)) for place in out.rglob("*")} == found
    assert {place.read_bytes() for place in out.rglob("*") if place.is_file()} == {b"deep"}


@pytest.mark.parametrize("target", ["/R/1", "/R", "/R/1/new", "/R/1/sub/new"])
async def test_a_publish_that_would_touch_them_is_refused(
    store: LocalStore, keys: RepositoryKeys, release: Path, target: str
) -> None:
    before = store.read(".cvmfspublished")
    with pytest.raises(PermanentError, match="nested catalog"):
        await publish(store, keys, FQRN, [Change(release, target)], NOW)
    assert store.read(".cvmfspublished") == before


async def test_a_publish_beside_them_leaves_them(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path
) -> None:
    assert (await publish(store, keys, FQRN, [Change(release, "/R/2")], NOW)).number == 2
    await materialise(store.get, FQRN, keys.master_public, "/R/1/sub", tmp_path / "out", NOW)
    assert (tmp_path / "out/f").read_bytes() == b"deep"
