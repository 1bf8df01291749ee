"""Release archives: same content, same bytes; unpacking is whole or not at all, and never escapes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from orchestrator.errors import PermanentError, UserError
from orchestrator.software.archive import checksum, pack, unpack


def release(root: Path) -> Path:
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "run").write_text("#!/bin/sh\necho hello\n")
    (root / "bin" / "run").chmod(0o755)
    (root / "lib" / "deep").mkdir(parents=True)
    (root / "lib" / "libx.so.1").write_bytes(os.urandom(3_000_000))
    (root / "lib" / "libx.so").symlink_to("libx.so.1")
    (root / "lib" / "deep" / "up").symlink_to("../../bin/run")
    (root / "lib" / "same").hardlink_to(root / "lib" / "libx.so.1")
    (root / "empty").mkdir()
    (root / "Ünïcode name").write_text("x")
    return root


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    found = {}
    for path in root.rglob("*"):
        kind = "l" if path.is_symlink() else "d" if path.is_dir() else f"{path.stat().st_mode & 0o777:o}"
        data = os.readlink(path).encode() if kind == "l" else b"" if kind == "d" else path.read_bytes()
        found[str(path.relative_to(root))] = (kind, data)
    return found


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, type_: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, link
    return info


def test_round_trip_keeps_content_modes_and_links(tmp_path: Path) -> None:
    source = release(tmp_path / "a")
    made = pack(source, tmp_path / "out" / "a.tar.gz")
    unpack(tmp_path / "out" / "a.tar.gz", tmp_path / "b", sha256=made.sha256)
    assert tree(tmp_path / "b") == tree(source)
    assert (tmp_path / "b/lib/same").stat().st_ino == (tmp_path / "b/lib/libx.so.1").stat().st_ino
    data = (tmp_path / "out" / "a.tar.gz").read_bytes()
    assert made.size == len(data)
    assert made.sha256 == hashlib.sha256(data).hexdigest()
    assert checksum(tmp_path / "out" / "a.tar.gz") == made


def test_same_content_gives_same_bytes_whatever_times_owners_and_threads(tmp_path: Path) -> None:
    first = release(tmp_path / "a")
    made = pack(first, tmp_path / "a.tar.gz", threads=1)
    second = tmp_path / "b"
    subprocess.run(["cp", "-a", first, second], check=True)
    for path in [second, *second.rglob("*")]:
        os.utime(path, (1, 1), follow_symlinks=False)
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    assert pack(second, tmp_path / "b.tar.gz", threads=3) == made
    (second / "bin" / "run").chmod(0o600)
    assert pack(second, tmp_path / "b.tar.gz") != made


def test_ordinary_tools_read_it(tmp_path: Path) -> None:
    source = release(tmp_path / "a")
    pack(source, tmp_path / "a.tar.gz")
    (tmp_path / "b").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "a.tar.gz", "-C", tmp_path / "b"], check=True)
    assert tree(tmp_path / "b") == tree(source)


@pytest.mark.parametrize("target", ["/etc/passwd", "../out", "x/../../out"])
def test_a_link_that_leaves_the_release_is_refused_at_packing(tmp_path: Path, target: str) -> None:
    source = release(tmp_path / "a")
    (source / "bad").symlink_to(target)
    with pytest.raises(UserError, match="link bad points to"):
        pack(source, tmp_path / "a.tar.gz")
    assert list(tmp_path.iterdir()) == [source]


def test_special_files_empty_and_missing_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="empty"):
        pack(tmp_path / "a", tmp_path / "a.tar.gz")
    with pytest.raises(UserError, match="not a directory"):
        pack(tmp_path / "missing", tmp_path / "a.tar.gz")
    os.mkfifo(tmp_path / "a" / "pipe")
    with pytest.raises(UserError, match="pipe is neither"):
        pack(tmp_path / "a", tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    "members",
    [
        [(member("../out"), b"x")],
        [(member("/tmp/out"), b"x"), (member("a/../../out"), b"x")],
        [(member("l", tarfile.SYMTYPE, "/etc"), b"")],
        [(member("l", tarfile.SYMTYPE, ".."), b"")],
        [(member("l", tarfile.SYMTYPE, "d"), b""), (member("l/x"), b"x")],
        [(member("l", tarfile.SYMTYPE, "d"), b""), (member("l"), b"x")],
        [(member("l", tarfile.SYMTYPE, "d"), b""), (member("h", tarfile.LNKTYPE, "l"), b"")],
        [(member("h", tarfile.LNKTYPE, "../../etc/passwd"), b"")],
        [(member("dev", tarfile.CHRTYPE), b"")],
        [(member("fifo", tarfile.FIFOTYPE), b"")],
    ],
)
def test_no_archive_escapes(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    box = tmp_path / "box"
    box.mkdir()
    bad = tar_of(tmp_path / "bad.tar.gz", *members)
    with pytest.raises(PermanentError):
        unpack(bad, box / "into")
    assert list(box.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "box"]


@pytest.mark.parametrize(
    "damage", ["cut", "tail", "flip", "garbage", "no gzip", "wrong checksum", "appended"]
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, damage: str) -> None:
    made = pack(release(tmp_path / "a"), tmp_path / "a.tar.gz")
    data = bytearray((tmp_path / "a.tar.gz").read_bytes())
    sha256: str | None = None
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "tail":
        data = data[:-4]
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
    elif damage == "garbage":
        data = bytearray(gzip.compress(b"no tar" * 1000))
    elif damage == "no gzip":
        data = bytearray(b"<html>not found</html>")
    elif damage == "wrong checksum":
        sha256 = "00" * 32
    else:
        data, sha256 = data + b"more", made.sha256
    (tmp_path / "bad.tar.gz").write_bytes(data)
    with pytest.raises(PermanentError, match=r"bad\.tar\.gz"):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "box" / "into", sha256=sha256)
    assert list((tmp_path / "box").iterdir()) == []


def test_an_existing_directory_is_not_touched(tmp_path: Path) -> None:
    pack(release(tmp_path / "a"), tmp_path / "a.tar.gz")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match="exists"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []
