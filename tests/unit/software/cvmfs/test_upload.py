"""The server's side of a commit: what it takes and what it refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import GridError, NotFound, PermanentError, TemporaryError, UserError
from orchestrator.software.cvmfs import manifest as manifests
from orchestrator.software.cvmfs import whitelist
from orchestrator.software.cvmfs.catalog import Catalog
from orchestrator.software.cvmfs.draft import Base, draft
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import Change, object_path
from orchestrator.software.cvmfs.objects import digest, pack
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.store import Commit, LocalStore
from orchestrator.software.cvmfs.upload import Repositories, receive
from orchestrator.software.cvmfs.wire import frame

FQRN = "alice.example.org"
NOW = 1_750_000_000.0


@pytest.fixture
def server(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "served", tmp_path / "pinned")


@pytest.fixture
async def built(tmp_path: Path, keys: RepositoryKeys, release: Path, server: Repositories) -> Commit:
    """A first revision whose objects the server has, and the commit that waits."""
    local = LocalStore(tmp_path / "local" / FQRN)
    await publish(local, keys, FQRN, [Change(release, "/R/1")], NOW)
    copy_objects(local, server.store(FQRN))
    return commit_of(local, keys)


def copy_objects(source: LocalStore, into: LocalStore) -> None:
    places = [
        p for p in (source.root / "data").glob("??/*") if p.parent.name != "txn" and len(p.parent.name) == 2
    ]
    into.write([(p.parent.name + p.name, p.read_bytes()) for p in places])


def commit_of(store: LocalStore, keys: RepositoryKeys, base: str = "") -> Commit:
    parts = [store.read(path) for path in (".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog")]
    manifest, listed, reflog = (part for part in parts if part is not None)
    return Commit(base, manifest, listed, reflog, keys.master_public)


def resigned(commit: Commit, keys: RepositoryKeys, **changes: object) -> Commit:
    made = replace(manifests.parse(commit.manifest), **changes)  # type: ignore[arg-type]
    return replace(commit, manifest=manifests.sign(made, keys.signing))


async def test_a_good_commit_is_taken_pinned_listed_and_may_be_repeated(
    server: Repositories, built: Commit, keys: RepositoryKeys
) -> None:
    assert server.commit(FQRN, built, NOW) == 1
    assert server.commit(FQRN, built, NOW) == 1
    assert server.read(FQRN, ".cvmfspublished") == built.manifest
    assert server.pinned(FQRN) == keys.master_public
    listed = json.loads((server.root / "info/v1/repositories.json").read_text())
    assert listed["repositories"] == [{"name": FQRN, "url": f"/cvmfs/{FQRN}"}]


async def test_commits_that_are_refused(
    server: Repositories, built: Commit, keys: RepositoryKeys, other_keys: RepositoryKeys
) -> None:
    assert other_keys.master is not None
    manifest = manifests.parse(built.manifest)
    foreign = whitelist.make(other_keys.master, FQRN, [keys.certificate], NOW)
    unlisting = whitelist.make(keys.master, FQRN, [other_keys.certificate], NOW) if keys.master else b""
    refused = {
        "signed by the master key": replace(built, whitelist=foreign),
        "not whitelisted": replace(built, whitelist=unlisting),
        "not signed by its certificate": resigned(built, other_keys),
        "not of alice": resigned(built, keys, fqrn="bob.example.org"),
        "next is 1": resigned(built, keys, revision=2),
        "at revision 0": replace(built, base="a" * 40),
        "reflog": replace(built, reflog=b"another"),
        "damaged": replace(built, manifest=built.manifest.replace(b"S1", b"S9")),
        "is not here": resigned(built, keys, catalog="a" * 40),
        "objects of this revision are not here": resigned(built, keys, history="b" * 40),
        "where the catalog says": resigned(built, keys, catalog_size=manifest.catalog_size + 1),
    }
    for why, commit in refused.items():
        with pytest.raises(GridError, match=why):
            server.commit(FQRN, commit, NOW)
    with pytest.raises(PermanentError, match="expired"):
        server.commit(FQRN, built, NOW + 40 * 86400)
    assert server.store(FQRN).read(".cvmfspublished") is None
    assert server.pinned(FQRN) is None


async def test_a_revision_without_all_its_objects_is_refused(
    server: Repositories, built: Commit, release: Path
) -> None:
    name, _ = pack((release / "bin/run").read_bytes())
    place = server.store(FQRN).root / object_path(name)
    content = place.read_bytes()
    place.unlink()
    with pytest.raises(PermanentError, match="1 objects of this revision are not here") as caught:
        server.commit(FQRN, built, NOW)
    assert caught.value.facts["missing"] == [name]
    place.write_bytes(content)
    assert server.commit(FQRN, built, NOW) == 1


async def test_a_pinned_key_decides(
    server: Repositories, built: Commit, keys: RepositoryKeys, other_keys: RepositoryKeys
) -> None:
    server.keys.mkdir()
    (server.keys / f"{FQRN}.pub").write_bytes(other_keys.master_public)
    with pytest.raises(PermanentError, match="not signed by the master key"):
        server.commit(FQRN, built, NOW)
    (server.keys / f"{FQRN}.pub").write_bytes(keys.master_public)
    assert server.commit(FQRN, built, NOW) == 1


async def test_the_second_revision_must_follow_the_first(
    server: Repositories, built: Commit, keys: RepositoryKeys, tmp_path: Path, release: Path
) -> None:
    server.commit(FQRN, built, NOW)
    local = LocalStore(tmp_path / "local" / FQRN)
    first = manifests.parse(built.manifest)
    (release / "bin/new").write_text("new")
    await publish(local, keys, FQRN, [Change(release, "/R/1")], NOW + 5)
    second = commit_of(local, keys, base=first.catalog)
    copy_objects(local, server.store(FQRN))
    for why, commit in {
        "dated before": resigned(second, keys, published=int(NOW) - 1),
        "next is 2": resigned(second, keys, revision=1),
        "catalog is of revision 1": resigned(second, keys, catalog=first.catalog, catalog_size=0),
    }.items():
        with pytest.raises(PermanentError, match=why):
            server.commit(FQRN, commit, NOW)
    with pytest.raises(PermanentError, match="publish again") as caught:
        server.commit(FQRN, replace(second, base=""), NOW)
    assert caught.value.facts["moved"] is True
    assert server.commit(FQRN, second, NOW) == 2
    with pytest.raises(PermanentError, match="at revision 2") as caught:
        server.commit(FQRN, built, NOW)
    assert caught.value.facts["moved"] is True


async def test_a_local_publisher_locks_remote_commits_out(server: Repositories, built: Commit) -> None:
    with server.store(FQRN).held():
        with pytest.raises(TemporaryError, match="another publisher"):
            server.commit(FQRN, built, NOW)


async def test_the_whitelist_is_renewed_only_by_the_pinned_key(
    server: Repositories, built: Commit, keys: RepositoryKeys, other_keys: RepositoryKeys
) -> None:
    assert keys.master is not None
    assert other_keys.master is not None
    later = NOW + 20 * 86400
    good = whitelist.make(keys.master, FQRN, [keys.certificate], later)
    with pytest.raises(NotFound, match="publish to it first"):
        server.renew(FQRN, good, later)
    server.commit(FQRN, built, NOW)
    with pytest.raises(PermanentError):
        server.renew(FQRN, whitelist.make(other_keys.master, FQRN, [keys.certificate], later), later)
    assert server.renew(FQRN, good, later) > later + 29 * 86400
    assert server.read(FQRN, ".cvmfswhitelist") == good


async def test_objects_are_verified_on_arrival(server: Repositories) -> None:
    good, other = pack(b"good"), pack(b"other")

    async def body(*objects: tuple[str, bytes]) -> AsyncIterator[bytes]:
        for at in range(0, len(frame(objects)), 7):
            yield frame(objects)[at : at + 7]

    store = server.store(FQRN)
    assert await receive(store, body(good, other, good)) == 2
    assert await receive(store, body(good)) == 0
    third = pack(b"third")
    with pytest.raises(PermanentError, match="damaged"):
        await receive(store, body((third[0], b"something else")))
    assert store.absent([third[0], good[0]]) == {third[0]}
    assert not list(store.root.glob("data/*/.part-*"))


@pytest.mark.parametrize(
    "path", ["../secret", "data/../x", "data/ab", "etc/passwd", "data/txn/publisher.lock", "data/ab/c"]
)
async def test_only_files_of_a_repository_are_read(server: Repositories, path: str) -> None:
    with pytest.raises(UserError):
        server.read(FQRN, path)


async def test_a_truncated_object_is_written_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / FQRN)
    name, stored = pack(b"content")
    assert await store.put([(name, stored)]) == 1
    (store.root / object_path(name)).write_bytes(b"")
    assert await store.put([(name, stored)]) == 1
    assert store.read(object_path(name)) == stored


async def test_all_directories_of_the_format_exist(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / FQRN)
    await store.put([pack(b"x")])
    assert sorted(p.name for p in (store.root / "data").iterdir()) == [
        *(f"{n:02x}" for n in range(256)),
        "txn",
    ]


def test_a_draft_is_complete(keys: RepositoryKeys) -> None:
    listed = whitelist.make(keys.master, FQRN, [keys.certificate], NOW) if keys.master else b""
    made = draft(Base(None, Catalog.new(1), None, None, None), keys, listed, [], [], int(NOW))
    assert {name[40:] for name, _ in made.objects} == {"C", "X", "H", "M"}
    assert made.manifest.reflog == digest(made.commit.reflog)
