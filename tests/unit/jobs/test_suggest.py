"""What is suggested for waiting jobs, by tables: classes and resources in, suggestions out."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.catalogue.model import Placed
from orchestrator.jobs import suggest
from orchestrator.jobs.suggest import Element, Look, Policy, Stuck, decide

GB = 10**9
LOOKS = (
    Look("CERN", ("CERN::SE",), frozenset({"Root::6"}), True, free=0),  # 0: near the data, busy
    Look("Torino", ("Torino::SE",), frozenset(), True, free=3),  # 1
    Look("FZK", ("FZK::SE", "FZK::TAPE"), frozenset(), True, free=7),  # 2
    Look("Catania", ("Catania::SE",), frozenset(), False, free=0),  # 3: busy too
    Look("HLT", (), frozenset({"Root::6"}), False, free=9),  # 4: near nothing
)
STORAGE = {
    name: Element(name, free)
    for name, free in [("CERN::SE", 100 * GB), ("Torino::SE", 100 * GB), ("FZK::SE", 100 * GB), ("Catania::SE", GB)]
}  # fmt: skip


def placed(name: str, size: int = GB, *ses: str) -> Placed:
    return Placed(f"/grid/data/{name}", name, size, "", ses or ("CERN::SE",))


def told(stuck: Stuck, **more: Any) -> list[tuple[str, str, str, int]]:
    given = {"looks": LOOKS, "storage": STORAGE, "published": {"Root::6"}, "policy": Policy()} | more
    return [(each.kind, each.subject, each.target, each.jobs) for each in decide(stuck, **given)]


def waiting(*jobs: list[Placed], **more: Any) -> Stuck:
    """A class whose data is near CERN alone, which is busy; Torino and FZK would take it."""
    values = {"waiting": 10, "waited": 3600.0, "able": (0,), "elsewhere": (0, 1, 2), "jobs": jobs}
    return Stuck(1, **(values | more))


ONE = [placed("run1/a")]
TWO = [placed("run1/a"), placed("run1/b", 2 * GB)]


@pytest.mark.parametrize(
    ("stuck", "wanted"),
    [
        # One file: it is the subject; the copy goes where most resources are free, as many as there are jobs for.
        (waiting(ONE, ONE, ONE, ONE), [("copy", "/grid/data/run1/a", "FZK::SE", 4)]),
        # Equal use: the smaller copy, else by name. One job needs one resource, of which each site has some.
        (waiting(ONE), [("copy", "/grid/data/run1/a", "FZK::SE", 1)]),
        (waiting([placed("x", GB, "CERN::SE", "Torino::SE"), placed("y")]), [("copy", "/grid/data/y", "Torino::SE", 1)]),
        # Several files: their directory.
        (waiting(TWO, ONE), [("copy", "/grid/data/run1", "FZK::SE", 2)]),
        (waiting([placed("run1/a")], [placed("run2/a")]), [("copy", "/grid/data", "FZK::SE", 2)]),
        # Not before the class has waited long enough, nor while a resource near its data is free.
        (waiting(ONE, waited=599.0), []),
        (waiting(ONE, able=(0, 4)), []),
        # No resource near the data at all.
        (waiting(ONE, able=()), [("copy", "/grid/data/run1/a", "FZK::SE", 1)]),
        # Nobody would take it elsewhere; or those who would are busy, or near nothing.
        (waiting(ONE, elsewhere=(0,)), []),
        (waiting(ONE, elsewhere=(0, 3)), []),
        (waiting(ONE, elsewhere=(0, 4)), []),
        # A job of which a file has no copy cannot be helped; one whose files are there needs no help.
        (waiting([Placed("/grid/data/z", "z", GB, "", ())], ONE), [("copy", "/grid/data/run1/a", "FZK::SE", 1)]),
        (waiting([placed("x", GB, "CERN::SE", "FZK::SE", "Torino::SE")]), []),
        (waiting(), []),
    ],
)  # fmt: skip
def test_copies(stuck: Stuck, wanted: list[tuple[str, str, str, int]]) -> None:
    assert told(stuck) == wanted


def test_a_copy_names_its_files_bytes_and_reason() -> None:
    (made,) = decide(waiting(TWO, ONE), LOOKS, STORAGE, set(), Policy())
    assert (made.files, made.bytes, made.site) == (("/grid/data/run1/a", "/grid/data/run1/b"), 3 * GB, "FZK")
    assert made.reason == "the resources near it are busy"
    (made,) = decide(waiting(ONE, able=()), LOOKS, STORAGE, set(), Policy())
    assert made.reason == "no resource near it has asked lately"


@pytest.mark.parametrize(
    ("storage", "policy", "wanted"),
    [
        ({"FZK::SE": Element("FZK::SE", 100 * GB, alive=False)}, Policy(), None),
        ({}, Policy(), None),
        (
            {"FZK::SE": Element("FZK::SE", 2 * GB)},
            Policy(),
            1,
        ),  # room for one of the three files, with some to spare
        ({"FZK::SE": Element("FZK::SE", GB)}, Policy(), None),
        ({"FZK::SE": Element("FZK::SE", 100 * GB)}, Policy(most_bytes=2 * GB), 2),
        ({"FZK::SE": Element("FZK::SE", 100 * GB)}, Policy(patience=7200.0), None),
    ],
)
def test_room(storage: dict[str, Element], policy: Policy, wanted: int | None) -> None:
    stuck = waiting(*([placed(f"run1/{number}")] for number in range(3)), elsewhere=(2,))
    found = decide(stuck, LOOKS, storage, set(), policy)
    assert [(each.jobs, len(each.files)) for each in found] == ([] if wanted is None else [(wanted, wanted)])


def test_no_more_files_than_one_request_takes() -> None:
    stuck = waiting(*([placed(f"run1/{number}", 1)] for number in range(suggest.MOST_FILES + 5)))
    (made,) = decide(stuck, LOOKS, STORAGE, set(), Policy())
    assert (len(made.files), made.jobs) == (suggest.MOST_FILES, suggest.MOST_FILES)


@pytest.mark.parametrize(
    ("packages", "able", "unequipped", "wanted"),
    [
        (("Root::6",), (0,), (), []),  # CERN has it
        (("Root::6",), (0, 1, 2), (), [("fetch", "Root::6", "FZK", 5), ("fetch", "Root::6", "Torino", 5)]),
        (("Root::6",), (3, 4), (), []),  # they get it by other ways than their PackMan
        (("Root::5",), (0,), (), [("publish", "Root::5", "", 5)]),
        (("Root::6", "Root::5", "Geant::4"), (), (), [("publish", "Root::5", "", 5), ("publish", "Geant::4", "", 5)]),
        (("Root::6",), (), (1, 2, 3), [("install", "Root::6", "FZK", 5)]),
        (("Root::6",), (), (3,), [("install", "Root::6", "Catania", 5)]),
        (("Root::6",), (), (), []),  # something else excludes all
    ],
)  # fmt: skip
def test_packages(
    packages: tuple[str, ...], able: tuple[int, ...], unequipped: tuple[int, ...], wanted: list[Any]
) -> None:
    stuck = Stuck(1, 5, 60.0, packages, able, (), unequipped)
    assert told(stuck) == wanted


def test_a_package_that_is_not_published_needs_no_copy_and_a_lacking_one_neither() -> None:
    assert told(waiting(ONE, packages=("Root::5",))) == [("publish", "Root::5", "", 10)]
    assert told(waiting(ONE, packages=("Root::6",), able=(), unequipped=(3,))) == [
        ("install", "Root::6", "Catania", 10)
    ]


@pytest.mark.parametrize(
    ("row", "said", "todo"),
    [
        (
            {"kind": "copy", "subject": "/grid/d", "target": "SE", "site": "X", "jobs": 2, "files": 3, "bytes": 4096},
            "/grid/d: why: a copy of the 3 files of it that they need (4 KiB) at SE would let 2 waiting jobs run at X",
            "`orchestrate job suggestions --accept 7` asks for the transfers",
        ),
        (
            {"kind": "copy", "subject": "/grid/f", "target": "SE", "site": "X", "jobs": 1, "files": 1, "bytes": 4096, "accepted": "ada"},
            "/grid/f: why: a copy of it (4 KiB) at SE would let 1 waiting job run at X",
            "ada has asked for it; see `orchestrate transfer ps --to SE --user all`",
        ),
        (
            {"kind": "publish", "subject": "Root::6", "target": "", "jobs": 1},
            "Root::6 is not published, and 1 waiting job asks for it",
            "`orchestrate software publish REPOSITORY Root 6 DIRECTORY`",
        ),
        (
            {"kind": "install", "subject": "Root::6", "target": "X", "jobs": 3},
            "Root::6 should be installed at X, for 3 waiting jobs: why",
            "its admin allows a method of installation (`software: method:` in the site spec) or mounts CernVM-FS",
        ),
        ({"kind": "fetch", "subject": "Root::6", "target": "X", "jobs": 3}, "Root::6 is fetched to X ahead of 3 waiting jobs that may run there", ""),
    ],
)  # fmt: skip
def test_what_a_person_reads(row: dict[str, Any], said: str, todo: str) -> None:
    full = {"id": 7, "reason": "why", "accepted": ""} | row
    assert (suggest.text(full), suggest.advice(full)) == (said, todo)
