"""Torrents: hybrid, reproducible, and readable by whoever follows the BEPs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import libtorrent as lt
import pytest

from orchestrator.errors import PermanentError, UserError
from orchestrator.software.torrent.make import make, piece_length, readdress
from orchestrator.software.torrent.session import file_of, info_hash_of, web_seeds_of


@pytest.mark.parametrize(
    ("size", "length"), [(1, 64 << 10), (60_000_000, 64 << 10), (300_000_000, 512 << 10), (10**11, 4 << 20)]
)
def test_piece_length(size: int, length: int) -> None:
    assert piece_length(size) == length


def test_it_is_hybrid_and_its_hashes_are_those_of_the_beps(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(os.urandom(200_000))
    made = make(archive, trackers=["http://t/announce", "http://u/announce"], web_seeds=["http://w/a.tar.gz"])
    document = lt.bdecode(made.data)
    info = document[b"info"]
    assert made.info_hash == hashlib.sha1(lt.bencode(info)).hexdigest()
    assert info[b"meta version"] == 2
    assert info[b"name"] == b"a.tar.gz"
    data, step = archive.read_bytes(), info[b"piece length"]
    assert info[b"pieces"] == b"".join(
        hashlib.sha1(data[at : at + step]).digest() for at in range(0, len(data), step)
    )
    assert document[b"announce"] == b"http://t/announce"
    assert document[b"announce-list"] == [[b"http://t/announce", b"http://u/announce"]]
    assert web_seeds_of(made.data) == ["http://w/a.tar.gz"]
    assert file_of(made.data) == ("a.tar.gz", 200_000)


def test_same_file_same_torrent_and_other_addresses_keep_the_info_hash(tmp_path: Path) -> None:
    for folder in "xy":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_bytes(b"data" * 50_000)
        os.utime(tmp_path / folder / "a", (ord(folder), ord(folder)))
        (tmp_path / folder / "a").chmod(0o755 if folder == "x" else 0o600)
    first, second = (make(tmp_path / folder / "a", trackers=["http://t/announce"]) for folder in "xy")
    assert first == second
    moved = readdress(first.data, web_seeds=["http://here/a"])
    assert moved.info_hash == first.info_hash == info_hash_of(moved.data)
    assert web_seeds_of(moved.data) == ["http://here/a"]
    assert b"announce" not in lt.bdecode(moved.data)
    assert readdress(moved.data, trackers=["http://t/announce"]) == first


def test_a_plain_v1_torrent_for_old_clients(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"data" * 50_000)
    info = lt.bdecode(make(tmp_path / "a", hybrid=False).data)[b"info"]
    assert set(info) == {b"length", b"name", b"piece length", b"pieces"}


def test_missing_empty_and_foreign_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        with pytest.raises(UserError, match="missing or empty"):
            make(tmp_path / name)
    for junk in (b"", b"junk", b"i3e", b"de"):
        with pytest.raises(UserError, match="no torrent"):
            readdress(junk)
        with pytest.raises(PermanentError):
            file_of(junk)


def test_a_torrent_of_many_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in "ab":
        (tmp_path / "d" / name).write_bytes(b"x" * 100)
    draft = lt.create_torrent(lt.list_files(str(tmp_path / "d")), 0, lt.create_torrent.no_attributes)
    lt.set_piece_hashes(draft, str(tmp_path))
    with pytest.raises(PermanentError, match="exactly one file"):
        file_of(lt.bencode(draft.generate()))
