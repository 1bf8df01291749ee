from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from orchestrator.errors import PermanentError
from orchestrator.software.cvmfs import history, reflog
from orchestrator.software.cvmfs.catalog import COUNTERS, Catalog
from orchestrator.software.cvmfs.model import CATALOG, CHUNKED, DIRECTORY, FILE, SYMLINK, Chunk, Entry

A, B = "a" * 40, "b" * 40
TREE = [
    Entry("/d", DIRECTORY, 0o040755, 4096, 10),
    Entry("/d/sub", DIRECTORY, 0o040755, 4096, 10),
    Entry("/d/sub/f", FILE, 0o100644, 7, 11, digest=A),
    Entry("/d/g", FILE | CHUNKED, 0o100644, 30, 12, chunks=(Chunk(0, 20, A), Chunk(20, 10, B))),
    Entry("/d/l", FILE | SYMLINK, 0o120777, 5, 13, symlink="sub/f"),
    Entry("/d/h1", FILE, 0o100644, 3, 14, links=2, group=1, digest=B),
    Entry("/d/h2", FILE, 0o100644, 3, 14, links=2, group=1, digest=B),
    Entry("/d/\udce9", FILE, 0o100644, 1, 15, digest=B),
]


@pytest.fixture
def catalog() -> Catalog:
    made = Catalog.new(5)
    made.insert(TREE)
    return made


def test_what_was_written_is_read_back(catalog: Catalog) -> None:
    read = Catalog.load(catalog.seal(3, 20, 240, A), "it")
    assert [entry.path for entry in read.walk("")] == [
        "",
        "/d",
        "/d/g",
        "/d/h1",
        "/d/h2",
        "/d/l",
        "/d/sub",
        "/d/sub/f",
        "/d/\udce9",
    ]
    by_path = {entry.path: entry for entry in read.walk("")}
    for entry in TREE:
        if not entry.is_directory:
            assert by_path[entry.path] == entry
    assert [by_path[path].links for path in ("", "/d", "/d/sub")] == [3, 3, 2]
    assert read.lookup("/absent") is None
    assert list(read.walk("/absent")) == []
    assert read.properties == {
        "schema": "2.5",
        "schema_revision": "7",
        "revision": "3",
        "last_modified": "20",
        "TTL": "240",
        "previous_revision": A,
    }
    assert read.objects() == {A, B, A + "P", B + "P"}
    assert read.highest_group() == 1


def test_all_24_counters_are_there_and_right(catalog: Catalog) -> None:
    catalog.seal(1, 20, 240, "")
    counted = catalog.statistics()
    assert set(counted) == {f"{kind}_{name}" for kind in ("self", "subtree") for name in COUNTERS}
    assert len(counted) == 24
    assert {name: value for name, value in counted.items() if value} == {
        "self_regular": 5,
        "self_symlink": 1,
        "self_dir": 3,
        "self_chunked": 1,
        "self_chunks": 2,
        "self_file_size": 7 + 30 + 3 + 3 + 1,
        "self_chunked_size": 30,
    }


def test_removing_a_subtree_leaves_nothing_of_it(catalog: Catalog) -> None:
    assert catalog.remove("/d") == 8
    read = Catalog.load(catalog.seal(2, 20, 240, ""), "it")
    assert [entry.path for entry in read.walk("")] == [""]
    assert read.objects() == set()
    assert {name for name, value in read.statistics().items() if value} == {"self_dir"}


def test_the_file_is_vacuumed_not_wal_and_has_no_null_text(catalog: Catalog, tmp_path: Path) -> None:
    content = catalog.seal(1, 20, 240, "")
    assert content[18:20] == b"\x01\x01"  # file format versions: 2 would be WAL
    file = tmp_path / "catalog"
    file.write_bytes(content)
    with sqlite3.connect(file) as base:
        assert base.execute(
            "SELECT count(*) FROM catalog WHERE symlink IS NULL OR name IS NULL"
        ).fetchone() == (0,)
        assert base.execute("SELECT DISTINCT typeof(name), typeof(symlink) FROM catalog").fetchall() == [
            ("text", "text")
        ]
        assert base.execute("PRAGMA freelist_count").fetchone() == (0,)
        assert base.execute("SELECT count(*) FROM bind_mountpoints").fetchone() == (0,)
        raw = base.execute("SELECT CAST(name AS BLOB) FROM catalog WHERE mtime = 15").fetchone()
        assert raw == (b"\xe9",)
    base.close()


def test_an_impossible_name_is_refused(catalog: Catalog) -> None:
    catalog._base.execute("UPDATE catalog SET name = '../../etc' WHERE mtime = 11")
    with pytest.raises(PermanentError, match="impossible name"):
        list(catalog.walk(""))


def test_what_is_no_catalog_is_refused() -> None:
    with pytest.raises(PermanentError, match="SQLite"):
        Catalog.load(b"no database" * 100, "it")
    with pytest.raises(PermanentError, match="not a CernVM-FS catalog"):
        Catalog.load(reflog.extended(None, "a.b", {}, 1), "it")


def test_trunk_and_its_predecessor_follow_each_publish() -> None:
    one = history.follow(history.open_history(None, "a.b"), history.Tag("trunk", A, 1, 10, 99), "")
    two = history.follow(history.open_history(one, "a.b"), history.Tag("trunk", B, 2, 20, 98), A)
    base = history.open_history(two, "a.b")
    assert [(tag.name, tag.root, tag.revision) for tag in history.tags(base)] == [
        ("trunk", B, 2),
        ("trunk-previous", A, 1),
    ]
    assert base.execute("SELECT * FROM branches").fetchall() == [("", None, 0)]
    assert dict(base.execute("SELECT key, value FROM properties").fetchall()) == {
        "schema": "1.0",
        "schema_revision": "3",
        "fqrn": "a.b",
        "previous_revision": A,
    }


@pytest.mark.parametrize("damaged", [None, b"", b"no database" * 100])
def test_a_damaged_reflog_is_begun_anew_and_a_good_one_extended(damaged: bytes | None) -> None:
    one = reflog.extended(damaged, "a.b", {CATALOG: A, "X": B, "H": ""}, 10)
    two = reflog.extended(one, "a.b", {CATALOG: A, "M": "c" * 40}, 20)
    base = sqlite3.connect(":memory:")
    base.deserialize(two)
    assert base.execute("SELECT hash, type, timestamp FROM refs ORDER BY hash").fetchall() == [
        (A, 0, 10),
        (B, 1, 10),
        ("c" * 40, 3, 20),
    ]
    base.close()
