"""Files that are whole, and trees that go whatever a job made of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from orchestrator.runtime import logs
from orchestrator.runtime.files import remove_tree, write_atomic


def test_a_tree_deeper_than_paths_and_recursion_goes(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    place = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=place)
        below = os.open("deep", os.O_RDONLY, dir_fd=place)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=below))
        os.close(place)
        place = below
    os.close(place)
    remove_tree(top)
    assert not top.exists()


def test_no_link_is_followed_and_closed_folders_go(tmp_path: Path) -> None:
    kept, top = tmp_path / "kept", tmp_path / "top"
    (kept / "inner").mkdir(parents=True)
    (kept / "inner/file").touch()
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/link").symlink_to(kept)
    (top / "link").symlink_to(kept)
    (top / "a/b").chmod(0)
    remove_tree(top)
    assert not top.exists()
    link = tmp_path / "link"
    link.symlink_to(kept)
    remove_tree(link)
    assert not link.is_symlink()
    assert (kept / "inner/file").exists()
    remove_tree(tmp_path / "never")


def test_a_secret_has_its_mode_from_the_first_byte(tmp_path: Path) -> None:
    write_atomic(tmp_path / "secret", b"x", 0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


def test_logs_are_the_services_own(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = f"from orchestrator.runtime import logs; from pathlib import Path; logs.configure(Path({str(tmp_path / 'l')!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert stat.S_IMODE((tmp_path / "l").stat().st_mode) == 0o600
    assert logs.get("x") is not None
