"""Spellings of LFNs and GUIDs, and how the command line reads names."""

from __future__ import annotations

import itertools
import random
import uuid
from typing import Any

import pytest

from orchestrator.catalogue import model
from orchestrator.client.copying import absolute
from orchestrator.errors import NotAllowed, UserError

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


def test_guids_made_together_stand_together() -> None:
    chance, now = random.Random(1), 1_700_000_000.0
    made = [model.new_guid(now + second, chance.getrandbits(66)) for second in range(60) for _ in range(100)]
    assert len(set(made)) == len(made)
    assert all(uuid.UUID(guid).version == 8 and uuid.UUID(guid).variant == uuid.RFC_4122 for guid in made)
    assert [model.clean_guid(guid) for guid in made] == made
    seconds = [second for _, second in sorted((guid, index // 100) for index, guid in enumerate(made))]
    turns = sum(later < earlier for earlier, later in itertools.pairwise(seconds))
    assert turns <= 1  # in order of time, but for the first two digits' change
    folders = {model.pfn_of(model.new_guid(now + 65.536 * step, 0))[:4] for step in range(256)}
    assert len(folders) == 256
    assert model.new_guid(now, 0) != model.new_guid(now, 1 << 65)
    assert model.new_guid(now, 0) != model.new_guid(now + 0.001, 0)


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


def test_tags_that_can_be_kept() -> None:
    good = {"run": 7, "x_1.y": -1.5, "ok": True, "name": "é" * model.LONGEST_TAG}
    assert model.check_tags(good) == good
    wrong: list[Any] = [[1], None, {}, "x" * 257, "a\nb", float("nan"), float("inf"), 10**400, 2**63]
    for bad in wrong:
        with pytest.raises(UserError, match="tag run="):
            model.check_tags({"run": bad})
    for name in ("", "1x", "a b", "a-b", "x" * 65, "é", 'a"', 7):
        with pytest.raises(UserError, match="no name of a tag"):
            model.check_tags({name: 1})  # type: ignore[dict-item]


def test_a_quota_says_what_is_too_much() -> None:
    free = model.Quota("ada", 10, 1 << 30, None, None)
    free.check(1 << 40, 1 << 60)
    tight = model.Quota("ada", 10, 1 << 30, 11, 1 << 30)
    assert model.Quota.from_json(tight.to_json()) == tight
    tight.check(1)
    with pytest.raises(UserError, match=r"quota of ada .* 12 files where 11 are allowed; remove"):
        tight.check(2)
    with pytest.raises(UserError, match="2 GiB where 1 GiB are allowed") as told:
        tight.check(1, 1 << 30)
    assert told.value.facts["most_bytes"] == 1 << 30


def test_nobody_makes_anything_in_proc() -> None:
    assert [path for path in ("/proc", "/proc/x", "/process", "/a/proc", "") if model.in_proc(path)] == [
        "/proc", "/proc/x",
    ]  # fmt: skip
    assert model.clean_new("/process//x") == "/process/x"
    for path in ("/proc", "//proc/./x/"):
        with pytest.raises(NotAllowed, match="computed from the jobs"):
            model.clean_new(path)
