"""Spellings of LFNs and GUIDs, and how the command line reads names."""

from __future__ import annotations

import pytest

from orchestrator.catalogue import model
from orchestrator.cli.filecopy import absolute
from orchestrator.errors import UserError

HOME = "/vo/user/a/ada"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", HOME), ("~", HOME), ("~/x", f"{HOME}/x"), ("x/y", f"{HOME}/x/y"), ("./x/", f"{HOME}/x"),
        ("/", "/"), ("//a//b/", "/a/b"), ("..", "/vo/user/a"), ("../../../..", "/"), ("../../../../..", "/"),
        ("/a/../b/.", "/b"), ("~x", f"{HOME}/~x"), ("..x", f"{HOME}/..x"),
    ],
)  # fmt: skip
def test_absolute(said: str, meant: str) -> None:
    assert absolute(said, HOME) == meant


def test_clean_and_lineage() -> None:
    assert model.clean("/a//b/./c/") == "/a/b/c"
    assert model.clean("/") == ""
    assert model.lineage("/a/b") == ["/a/b", "/a", ""]
    for bad in ("", "a", "/a/../b", "/a\x00", "/" + "x" * 1024):
        with pytest.raises(UserError):
            model.clean(bad)


def test_guids_and_sums() -> None:
    guid = "6F1C1F0E-6a3b-4b9e-9d0f-0123456789AB"
    assert model.pfn_of(guid) == f"/6f/{guid.lower()}"
    for bad in ("", "x", "../../etc/passwd", guid + "0"):
        with pytest.raises(UserError):
            model.pfn_of(bad)
    model.check_md5("0123456789abcdef" * 2)
    for bad in ("", "0" * 31, "g" * 32, "A" * 32):
        with pytest.raises(UserError):
            model.check_md5(bad)


def test_may_write() -> None:
    mine = model.Entry("/a", "ada", 0o755, "", 0, "", "", 0.0)
    shared = model.Entry("/a", "ada", 0o777, "", 0, "", "", 0.0)
    told = [
        model.may_write(mine, "ada", False),
        model.may_write(mine, "bob", False),
        model.may_write(mine, "bob", True),
    ]
    assert told == [True, False, True]
    assert model.may_write(shared, "bob", False)
