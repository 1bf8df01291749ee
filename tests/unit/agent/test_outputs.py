"""What a hostile job leaves in its work directory is refused, with the reason."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.agent.outputs import Unsafe, matching, open_inside, refusal
from orchestrator.agent.processmonitor import tail
from orchestrator.agent.stage import choose
from orchestrator.jobs.model import OutputSpec


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/real").write_text("mine")
    (tmp_path / "secret").write_text("the agent's")
    return folder


def test_links_inside_are_followed(work: Path) -> None:
    (work / "latest").symlink_to("sub")
    (work / "result").symlink_to("latest/real")
    for name in ("sub/real", "latest/real", "result"):
        with open_inside(work / name, work) as file:
            assert file.read() == b"mine"
    assert matching("latest/*", work) == [work / "latest/real"]
    assert [file.path.name for file in choose(work, [OutputSpec("result")]).files] == ["result"]


def test_what_is_not_the_jobs_own_file_is_refused(work: Path) -> None:
    (work / "shadow").symlink_to("/etc/shadow")
    (work / "up").symlink_to("../secret")
    (work / "out").symlink_to("/etc")
    (work / "loop").symlink_to("loop")
    (work / "gone").symlink_to("nothing")
    os.mkfifo(work / "fifo")
    (work / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(work / "socket"))
        why = {name: refusal(work / name, work) for name in os.listdir(work) if name not in ("sub", "out")}
        assert why == {
            "shadow": "a link to outside the work directory",
            "up": "a link to outside the work directory",
            "null": "a link to outside the work directory",
            "loop": "a link, not a file",
            "gone": "a link to nothing",
            "fifo": "a FIFO, not a file",
            "socket": "a socket, not a file",
        }
        specs = [OutputSpec(name) for name in (*why, "out/shadow", "**/shadow")]
        choice = choose(work, specs)
    assert choice.files == ()
    assert len(choice.unsafe) == len(why)
    assert choice.missing == ("out/shadow",)


def test_a_pattern_never_looks_outside(work: Path) -> None:
    (work / "everything").symlink_to("/")
    assert matching("everything/etc/*", work) == []
    assert matching("../secret", work) == []
    assert matching("/etc/passwd", work) == []
    assert matching("**/real", work) == [work / "sub/real"]


@pytest.mark.needs_root
def test_a_hard_link_to_anothers_file_is_refused(work: Path, tmp_path: Path) -> None:
    os.chown(work, 61184, 61184)
    os.link(tmp_path / "secret", work / "hard")
    assert "another account" in refusal(work / "hard", work)
    with pytest.raises(Unsafe):
        open_inside(work / "hard", work)


def test_peek_shows_no_secret(work: Path) -> None:
    (work / "stdout").symlink_to("/etc/passwd")
    os.mkfifo(work / "stderr")
    assert (tail(work / "stdout"), tail(work / "stderr")) == ("", "")
