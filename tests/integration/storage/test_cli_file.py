"""``orchestrate file …`` against a real catalogue and storage element; only the way to them (site.yaml) is replaced."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result

from orchestrator.cli import file as verbs
from orchestrator.errors import NotFound, UserError
from tests.support.same import same
from tests.support.verbs import Invoke, invoker

from ..catalogue.conftest import VO
from .test_storage import Element, address, element

__all__ = ["address", "element"]
HOME = f"/{VO}/user/a/ada"


@pytest.fixture
def run(element: Element, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a verb as ada."""
    invoke = invoker("file", verbs.register, element.central.user, VO, monkeypatch)

    async def run(*words: object) -> Result:
        return await invoke("ada", *words)

    return run


async def test_a_file_there_and_back(run: Invoke, element: Element, tmp_path: Path) -> None:
    source = tmp_path / "hello.txt"
    source.write_bytes(b"hello\n")
    assert (await run("ls")).output == ""
    put = await run("put", source)
    assert (put.exit_code, put.output) == (0, f"{HOME}/hello.txt on disk\n")
    assert (await run("put", source)).output == f"{HOME}/hello.txt is there\n"
    assert (await run("ls")).output == "hello.txt\n"
    assert (await run("cat", "hello.txt", "~/hello.txt")).output == "hello\nhello\n"
    long = (await run("ls", "-l")).output.splitlines()
    assert long[1].split()[:4] == ["-rw-r--r--", "ada", "6", "B"]
    stat = json.loads((await run("stat", "hello.txt", "--json")).output)
    assert (stat["path"], stat["size"]) == (f"{HOME}/hello.txt", 6)
    assert "6 B (6 bytes)" in (await run("stat", "hello.txt")).output
    assert "disk" in (await run("whereis", "hello.txt")).output
    assert json.loads((await run("whereis", "hello.txt", "--json")).output)[0]["site"] == "here"
    source.write_bytes(b"changed\n")
    assert "exists" in str((await run("put", source)).exception)
    got = await run("get", "hello.txt", tmp_path / "back")
    assert (got.exit_code, (tmp_path / "back").read_bytes()) == (0, b"hello\n")


async def test_a_directory_there_and_back(run: Invoke, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a.root", "sub/b.root", "sub/deep/c.txt"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(os.urandom(1000))
    put = json.loads((await run("put", data, "run7/", "--json")).output)
    assert [each["lfn"] for each in put] == [
        f"{HOME}/run7/data/{name}" for name in ("a.root", "sub/b.root", "sub/deep/c.txt")
    ]
    again = json.loads((await run("put", data, "run7", "--json")).output)
    assert [each["new"] for each in again] == [False] * 3
    assert (await run("find", "run7", "*.root")).output.splitlines() == [
        f"{HOME}/run7/data/a.root",
        f"{HOME}/run7/data/sub/b.root",
    ]
    (tmp_path / "here").mkdir()
    assert (await run("get", "run7/data", tmp_path / "here")).exit_code == 0
    for name in ("a.root", "sub/b.root", "sub/deep/c.txt"):
        assert same(tmp_path / "here/data" / name, data / name)
    assert isinstance((await run("rm", "run7")).exception, SystemExit)
    assert (await run("rm", "-r", "run7")).exit_code == 0
    assert (await run("ls")).output == ""


async def test_directories_and_names(run: Invoke, tmp_path: Path) -> None:
    assert (await run("mkdir", "a/b", "~/c")).exit_code == 0
    assert (await run("mv", "a/b", "c")).exit_code == 0
    assert (await run("mv", "c", "d")).exit_code == 0
    assert (await run("ls", "d")).output == "b/\n"
    assert (await run("ls", "/")).output == f"proc/\n{VO}/\n"
    assert json.loads((await run("ls", "d/../d", "--json")).output)[0]["path"] == f"{HOME}/d/b"
    wrong = await run("rm", "none", "d/b")
    assert (wrong.exit_code, "none is not in the catalogue" in wrong.output) == (2, True)
    assert (await run("ls", "d")).output == ""
    assert isinstance((await run("cat", "none")).exception, NotFound)
    assert isinstance((await run("put", tmp_path / "none")).exception, UserError)
    (tmp_path / "file").write_bytes(b"x")
    assert (await run("put", tmp_path / "file")).exit_code == 0
    assert isinstance((await run("get", "file", tmp_path / "file/x")).exception, UserError)
