from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.software.cvmfs.scan import scan

FQRN = "alice.example.org"


def test_a_good_tree(release: Path) -> None:
    tree = scan(release, "/R/1", FQRN)
    entries = {entry.path: entry for entry in tree.entries}
    assert [entry.path for entry in tree.entries][:4] == [
        "/R/1",
        "/R/1/bin",
        "/R/1/bin/run",
        "/R/1/bin/run-again",
    ]
    run, again = entries["/R/1/bin/run"], entries["/R/1/bin/run-again"]
    assert (run.group, run.links, again.group, again.links) == (1, 2, 1, 2)
    assert run.mode == 0o100755
    assert entries["/R/1/lib/link"].symlink == "deep/er/data.bin"
    assert entries["/R/1/lib/link"].size == len("deep/er/data.bin")
    assert {(entry.uid, entry.gid) for entry in tree.entries} == {(0, 0)}
    assert tree.size == 5_120_000 + 2 * 21 + 24


def test_hard_links_across_directories_become_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "r" / name).mkdir(parents=True)
    (tmp_path / "r/a/f").write_text("x")
    os.link(tmp_path / "r/a/f", tmp_path / "r/b/f")
    assert {
        (entry.group, entry.links) for entry in scan(tmp_path / "r", "/R", FQRN).entries if entry.is_regular
    } == {(0, 1)}


@pytest.mark.parametrize("absent", ["nowhere", "file"])
def test_the_directory_must_be_one(tmp_path: Path, absent: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=absent):
        scan(tmp_path / absent, "/R", FQRN)


def test_an_empty_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is empty"):
        scan(tmp_path, "/R", FQRN)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    top = tmp_path / "r"
    top.mkdir()
    (top / "good").write_text("x")
    os.mkfifo(top / "pipe")
    # A path of at most 108 bytes is all that a socket takes, so it is made from inside.
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(top)
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
    (top / "abroad").symlink_to("/usr/lib/libc.so")
    (top / "build").symlink_to(top / "good")
    (top / "above").symlink_to("../../../etc/passwd")
    (top / ".cvmfscatalog").touch()
    (top / "fine").symlink_to(f"/cvmfs/{FQRN}/R/1/good")
    (top / "sibling").symlink_to("../0/good")
    with pytest.raises(UserError) as caught:
        scan(top, "/R/1", FQRN)
    told = caught.value.message
    assert "nothing was changed" in told
    for problem in (
        "pipe is a named pipe",
        "sock is a socket",
        "abroad: is an absolute link to /usr/lib/libc.so, outside the release",
        f"build: is an absolute link to {top / 'good'}",
        "above: is a link to ../../../etc/passwd, outside the repository",
        ".cvmfscatalog asks for a nested catalog",
    ):
        assert problem in told
    assert len(caught.value.facts["problems"]) == 6


def test_an_unreadable_file_is_told() -> None:
    """Root reads everything, so the look is taken by a child without privileges."""
    top = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        top.chmod(0o755)
        (top / "secret").write_text("x")
        (top / "secret").chmod(0)
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                scan(top, "/R", FQRN)
            except UserError as error:
                os.write(into, error.message.encode())
            finally:
                os._exit(0)
        os.close(into)
        os.waitpid(child, 0)
        with os.fdopen(out) as answer:
            assert "secret is not readable; chmod +r it" in answer.read()
    finally:
        shutil.rmtree(top)
