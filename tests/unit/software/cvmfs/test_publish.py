"""Publish to a directory and read back with the reader."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from orchestrator.errors import GridError, NotFound, PermanentError, TemporaryError, UserError
from orchestrator.software.cvmfs import whitelist
from orchestrator.software.cvmfs.keys import RepositoryKeys
from orchestrator.software.cvmfs.model import Change, object_path
from orchestrator.software.cvmfs.publish import publish
from orchestrator.software.cvmfs.read import entries_below, materialise, open_revision
from orchestrator.software.cvmfs.store import Commit, LocalStore

FQRN = "alice.example.org"
NOW = 1_750_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / FQRN)


def snapshot(top: Path) -> dict[str, object]:
    """All that a reader must give back: kind, mode, time, content, which names are one file."""
    seen: dict[str, object] = {}
    for place in sorted(top.rglob("*")):
        info = place.lstat()
        content: object = None
        if place.is_symlink():
            content = os.readlink(place)
        elif place.is_file():
            content = place.read_bytes()
        mates = sorted(p.name for p in place.parent.iterdir() if p.lstat().st_ino == info.st_ino)
        seen[str(place.relative_to(top))] = (info.st_mode, int(info.st_mtime), content, mates)
    return seen


async def test_what_is_published_comes_back_as_it_was(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path
) -> None:
    made = await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    assert (made.number, made.changed, made.files) == (1, True, 5)
    out = tmp_path / "out"
    got = await materialise(store.get, FQRN, keys.master_public, "/R/1", out, NOW)
    assert (got.number, got.root, got.files, got.size) == (1, made.root, made.files, made.size)
    assert snapshot(out) == snapshot(release)
    assert [place.name for place in tmp_path.iterdir() if place.name.startswith(".out")] == []


async def test_the_same_again_makes_no_revision_and_says_so(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path
) -> None:
    first = await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    shutil.copytree(release, tmp_path / "copy", symlinks=True)  # other times, hard links broken up
    (tmp_path / "copy/bin/run-again").unlink()
    os.link(tmp_path / "copy/bin/run", tmp_path / "copy/bin/run-again")
    os.utime(tmp_path / "copy/bin/run", (1, 1))
    again = await publish(store, keys, FQRN, [Change(tmp_path / "copy", "/R/1")], NOW + 100)
    assert (again.number, again.root, again.changed, again.new_objects) == (1, first.root, False, 0)
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


async def test_another_compressor_is_no_change_but_another_byte_is(
    store: LocalStore, keys: RepositoryKeys, release: Path
) -> None:
    await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW, level=3)
    assert not (await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW, level=0)).changed
    with (release / "lib/deep/er/data.bin").open("r+b") as file:
        file.seek(5_000_000)
        file.write(b"!")
    made = await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW, level=0)
    assert (made.number, made.changed) == (2, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "bin/run").chmod(0o644),
        lambda top: (top / "bin/new").touch(),
        lambda top: (top / "bin/run-again").unlink(),
        lambda top: ((top / "lib/link").unlink(), (top / "lib/link").symlink_to("empty")),
        lambda top: ((top / "lib/empty").unlink(), (top / "lib/empty").mkdir()),
        lambda top: shutil.rmtree(top / "lib/deep"),
    ],
    ids=["mode", "added", "removed", "link", "kind", "subtree"],
)
async def test_every_kind_of_change_makes_a_revision_that_reads_back(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    change(release)
    assert (await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)).number == 2
    await materialise(store.get, FQRN, keys.master_public, "/R/1", tmp_path / "out", NOW)
    assert snapshot(tmp_path / "out") == snapshot(release)


async def test_versions_live_side_by_side_and_can_be_removed(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    other = make(tmp_path / "second")
    (other / "bin/run").write_text("version 2")
    await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    made = await publish(store, keys, FQRN, [Change(other, "/R/2"), Change(other, "/S/x/y")], NOW + 1)
    opened = await open_revision(store.get, FQRN, keys.master_public, NOW + 1, at_least=made.number)
    assert [e.path for e in opened.catalog.listing("/R")] == ["/R/1", "/R/2"]
    groups = [e.group for e in opened.catalog.walk("") if e.group]
    assert sorted(groups) == [1, 1, 2, 2, 3, 3]  # numbers are unique in the catalog
    gone = await publish(store, keys, FQRN, [Change(None, "/R/1")], NOW + 2)
    assert gone.number == 3
    with pytest.raises(NotFound, match="/R/1"):
        await materialise(store.get, FQRN, keys.master_public, "/R/1", tmp_path / "out", NOW)
    assert not (await publish(store, keys, FQRN, [Change(None, "/R/1")], NOW + 3)).changed
    await materialise(store.get, FQRN, keys.master_public, "/S/x/y", tmp_path / "out", NOW)
    assert snapshot(tmp_path / "out") == snapshot(other)


async def test_wrong_input_touches_nothing(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path
) -> None:
    changes = [
        Change(tmp_path / "nowhere", "/R/1"),
        Change(release, "/"),
        Change(release, "/A"),
        Change(release, "/A/b"),
    ]
    with pytest.raises(UserError) as caught:
        await publish(store, keys, FQRN, changes, NOW)
    assert len(caught.value.facts["problems"]) == 3
    with pytest.raises(UserError, match="keys of alice"):
        await publish(store, keys, "bob.example.org", [Change(release, "/R/1")], NOW)
    with pytest.raises(UserError, match="nothing to publish"):
        await publish(store, keys, FQRN, [], NOW)
    assert not store.root.exists()


async def test_a_place_below_a_file_is_refused(
    store: LocalStore, keys: RepositoryKeys, release: Path
) -> None:
    await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    with pytest.raises(UserError, match="/R/1/bin/run is a file"):
        await publish(store, keys, FQRN, [Change(release, "/R/1/bin/run/x")], NOW)


async def test_two_publishers_do_not_mix(store: LocalStore, keys: RepositoryKeys, release: Path) -> None:
    async with store.lock():
        with pytest.raises(TemporaryError, match="another publisher"):
            await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    assert (await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)).number == 1


async def test_the_wrong_keys_cannot_build_upon_it(
    store: LocalStore, keys: RepositoryKeys, other_keys: RepositoryKeys, release: Path
) -> None:
    await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    with pytest.raises(PermanentError, match="not signed by the master key"):
        await publish(store, other_keys, FQRN, [Change(release, "/R/2")], NOW)


async def test_the_whitelist_is_renewed_in_time_or_the_publisher_is_told(
    store: LocalStore, keys: RepositoryKeys, release: Path
) -> None:
    change = [Change(release, "/R/1")]
    await publish(store, keys, FQRN, change, NOW)
    offline = RepositoryKeys(FQRN, keys.signing, keys.certificate, keys.master_public)
    first = store.read(".cvmfswhitelist")
    assert not (await publish(store, offline, FQRN, change, NOW + 20 * 86400)).changed
    assert store.read(".cvmfswhitelist") == first
    with pytest.raises(UserError, match="renew it where the master key is"):
        await publish(store, offline, FQRN, change, NOW + 31 * 86400)
    assert not (await publish(store, keys, FQRN, change, NOW + 20 * 86400)).changed
    renewed = store.read(".cvmfswhitelist")
    assert renewed is not None
    assert whitelist.verify(renewed, keys.master_public, FQRN, NOW + 49 * 86400)


class Dying:
    """A store that fails at its ``last`` writing call, as a full disk or a cut link would."""

    def __init__(self, inner: LocalStore, last: int) -> None:
        self.inner, self.left = inner, last

    def lock(self) -> AbstractAsyncContextManager[None]:
        return self.inner.lock()

    async def get(self, path: str) -> bytes | None:
        return await self.inner.get(path)

    async def missing(self, names: Collection[str]) -> set[str]:
        return await self.inner.missing(names)

    async def put(self, objects: Sequence[tuple[str, bytes]]) -> int:
        self.spend()
        return await self.inner.put(objects)

    async def commit(self, commit: Commit) -> None:
        self.spend()
        await self.inner.commit(commit)

    async def renew(self, whitelist: bytes) -> None:
        await self.inner.renew(whitelist)

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TemporaryError("the link is cut")


async def test_a_publish_that_dies_anywhere_leaves_the_old_revision_and_is_finished_by_the_next(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path
) -> None:
    first = await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    (release / "bin/run").write_text("changed")
    deaths = 0
    for last in range(10):
        try:
            made = await publish(Dying(store, last), keys, FQRN, [Change(release, "/R/1")], NOW)
        except TemporaryError:
            deaths += 1
            there = await open_revision(store.get, FQRN, keys.master_public, NOW)
            assert there.manifest.catalog == first.root
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
            await materialise(store.get, FQRN, keys.master_public, "/R/1", tmp_path / "out", NOW)
        else:
            break
    assert deaths >= 3
    assert (made.number, made.changed) == (2, True)


async def test_when_another_comes_first_the_work_is_put_on_top(
    store: LocalStore, keys: RepositoryKeys, release: Path, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    class Overtaken(Dying):
        def lock(self) -> AbstractAsyncContextManager[None]:
            from contextlib import nullcontext

            return nullcontext()  # as a remote store, which only compares at the commit

        async def commit(self, commit: Commit) -> None:
            if self.left == 99:
                self.left = 98
                await publish(self.inner, keys, FQRN, [Change(release, "/R/other")], NOW)
            await self.inner.commit(commit)

        def spend(self) -> None:
            pass

    made = await publish(Overtaken(store, 99), keys, FQRN, [Change(make(tmp_path / "b"), "/R/mine")], NOW)
    assert made.number == 2
    opened = await open_revision(store.get, FQRN, keys.master_public, NOW)
    assert [e.path for e in opened.catalog.listing("/R")] == ["/R/mine", "/R/other"]


async def test_the_reader_refuses_what_is_damaged_missing_or_old(
    store: LocalStore, keys: RepositoryKeys, other_keys: RepositoryKeys, release: Path, tmp_path: Path
) -> None:
    made = await publish(store, keys, FQRN, [Change(release, "/R/1")], NOW)
    out = tmp_path / "out"

    async def read(**more: int) -> None:
        await materialise(store.get, FQRN, keys.master_public, "/R/1", out, NOW, **more)

    with pytest.raises(PermanentError, match="older than 2"):
        await read(at_least=2)
    with pytest.raises(PermanentError, match="not signed by the master key"):
        await materialise(store.get, FQRN, other_keys.master_public, "/R/1", out, NOW)
    with pytest.raises(UserError, match="not a directory"):
        await materialise(store.get, FQRN, keys.master_public, "/R/1/bin/run", out, NOW)
    opened = await open_revision(store.get, FQRN, keys.master_public, NOW)
    names = [name for e in await entries_below(store.get, opened.catalog, "/R/1") for name in e.objects()]
    for name in (names[0], names[-1], made.root + "C"):
        place = store.root / object_path(name)
        whole = place.read_bytes()
        place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(PermanentError, match="damaged"):
            await read()
        place.unlink()
        with pytest.raises(TemporaryError, match="not at this source"):
            await read()
        place.write_bytes(whole)
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")] == []
    await read()
    with pytest.raises(UserError, match="exists already"):
        await read()


async def test_an_empty_source_has_no_repository(keys: RepositoryKeys, tmp_path: Path) -> None:
    async def nothing(path: str) -> bytes | None:
        return None

    with pytest.raises(NotFound, match="no repository"):
        await open_revision(nothing, FQRN, keys.master_public, NOW)


async def test_a_file_that_changes_meanwhile_stops_the_publish(
    store: LocalStore, keys: RepositoryKeys, release: Path
) -> None:
    class Growing(Dying):
        async def get(self, path: str) -> bytes | None:  # called between the look and the reading
            (release / "bin/run").write_text("longer than it was a moment ago")
            return await self.inner.get(path)

    with pytest.raises(GridError, match="changed while it was published"):
        await publish(Growing(store, 99), keys, FQRN, [Change(release, "/R/1")], NOW)
    assert store.read(".cvmfspublished") is None


async def test_progress_ends_at_the_whole(store: LocalStore, keys: RepositoryKeys, release: Path) -> None:
    told: list[tuple[int, int]] = []
    made = await publish(
        store,
        keys,
        FQRN,
        [Change(release, "/R/1")],
        NOW,
        progress=lambda done, whole: told.append((done, whole)),
    )
    assert told[-1] == (made.size, made.size)
