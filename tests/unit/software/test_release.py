"""A directory before it is published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.software import release
from orchestrator.software.model import PackageName
from orchestrator.software.release import Shelf

FQRN = "alice.example.org"


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    top = tmp_path / "tool"
    (top / "bin").mkdir(parents=True)
    (top / "bin/tool").write_text("#!/bin/sh\necho tool\n")
    (top / "bin/tool").chmod(0o755)
    (top / "bin/same").symlink_to("tool")
    return top


def test_every_problem_is_told_at_once(tool: Path) -> None:
    (tool / "out").symlink_to("../../Other/1/lib")  # good in a repository, not in an archive
    (tool / "abs").symlink_to("/etc/passwd")
    os.mkfifo(tool / "pipe")
    with pytest.raises(UserError) as refused:
        release.look(tool, "Alice", "to ol", "1")
    told = refused.value.message
    for part in ("'to ol'", "'Alice' is not a repository name", "pipe is a named pipe", "abs:", "out:"):
        assert part in told
    assert told.count("/etc/passwd") == 1


def test_a_missing_directory_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No such file or directory; name one that exists$") as refused:
        release.look(tmp_path / "none", FQRN, "Tool", "1")
    assert len(refused.value.facts["problems"]) == 1


def test_any_write_changes_the_fingerprint(tool: Path) -> None:
    seen = release.look(tool, FQRN, "Tool", "1")
    assert (seen.files, seen.size) == (1, 20)
    assert release.fingerprint(tool) == seen.fingerprint
    file = tool / "bin/tool"
    before = file.stat()
    file.write_text("#!/bin/sh\necho TOOL\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same mtime: ctime tells
    assert release.fingerprint(tool) != seen.fingerprint


def test_a_packed_directory_is_recalled_until_it_changes(tool: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "work", PackageName("Tool", "1"))
    seen = release.look(tool, FQRN, "Tool", "1")
    assert shelf.recall(seen) is None
    place, record = shelf.pack(tool, seen, 2)
    assert place.name == f"Tool-1-{record.sha256[:12]}.tar.gz"
    assert shelf.recall(seen) == record
    assert shelf.archive(record) == place
    again, same = Shelf(tmp_path / "elsewhere", PackageName("Tool", "1")).pack(tool, seen, 1)
    assert (again.read_bytes(), same) == (place.read_bytes(), record)
    shelf.clear(record)
    assert shelf.archive(record) is None
    assert shelf.recall(seen) == record
    (tool / "more").touch()
    assert shelf.recall(release.look(tool, FQRN, "Tool", "1")) is None


def test_a_broken_record_is_forgotten(tool: Path, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, PackageName("Tool", "1"))
    for text in ("", "{}", '{"fingerprint": "x", "other": 1}', "[]"):
        (tmp_path / "Tool::1.json").write_text(text)
        assert shelf.recall(release.look(tool, FQRN, "Tool", "1")) is None
