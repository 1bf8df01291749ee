from __future__ import annotations

from typing import Any

import pytest

from orchestrator.catalogue.model import Placed
from orchestrator.classads import Ad, matches
from orchestrator.jobs.jdl import Defaults, read
from orchestrator.jobs.priority import LOWEST, factors
from orchestrator.jobs.requirements import MOST_SES, conditions, near, task_ad
from orchestrator.jobs.service import reasons

SLOT: dict[str, Any] = {
    "Type": "machine",
    "Site": "CERN",
    "TTL": 30_000,
    "Cores": 1,
    "Memory": 2 * 1024**3,
    "Disk": 10 * 1024**3,
    "Packages": ["Root::6"],
    "InstallMethods": [],
    "Requirements": 'other.Type == "job"',
}


@pytest.mark.parametrize(
    ("jdl", "changes", "wanted"),
    [
        ("", {}, True),
        ("", {"TTL": 21_599}, False),
        ("TTL = 60;", {"TTL": 60}, True),
        ("CPUCores = 2;", {}, False),
        ("CPUCores = 2;", {"Cores": 2, "Memory": 4 * 1024**3}, True),
        ('MemorySize = "3 GB";', {}, False),
        ('WorkDirectorySize = "11 GiB";', {}, False),
        ('Packages = {"Root::6"};', {}, True),
        ('Packages = {"Pythia::8"};', {}, False),
        ('Packages = {"Pythia::8", "Root::6"};', {"InstallMethods": ["http"]}, True),
        ('Packages = {"Pythia::8"};', {"InstallMethods": ["floppy"]}, False),
        ('Requirements = other.Site == "CERN";', {}, True),
        ('Requirements = other.Site == "Torino";', {}, False),
        ('Requirements = member(other.Packages, "Root::6");', {}, True),
        ("Requirements = other.NoSuchThing > 3;", {}, False),
        ("Requirements = other.NoSuchThing > 3 || true;", {}, True),
        ("Requirements = other.TTL > TTL;", {}, True),
        ("MyLimit = 40000; Requirements = other.TTL > MyLimit;", {}, False),
        ("", {"Requirements": 'other.User == "bob"'}, False),
        ("", {"Requirements": 'other.User == "ada"'}, True),
        ("", {"Requirements": "other.TTL < 100"}, False),
        ("TTL = 99;", {"Requirements": "other.TTL < 100"}, True),
    ],
)
def test_what_matches(jdl: str, changes: dict[str, Any], wanted: bool) -> None:
    spec = read('Executable = "x";' + jdl, [], Defaults("grid"))
    assert matches(task_ad(spec.attributes, "ada", spec.requirements), Ad(SLOT | changes)) is wanted


def test_jobs_that_differ_in_files_and_arguments_alone_are_one_class() -> None:
    one = read('Executable = "x"; Arguments = "1"; OutputDir = "/a";', [], Defaults("grid"))
    two = read('Executable = "y"; Arguments = "2"; TTL = 21600;', [], Defaults("grid"))
    three = read('Executable = "y"; TTL = 21601;', [], Defaults("grid"))
    digests = [task_ad(each.attributes, "ada", "").digest() for each in (one, two, three)]
    assert digests[0] == digests[1] != digests[2]


def test_a_package_name_cannot_smuggle_in_an_expression() -> None:
    made = conditions(
        {
            "Packages": ['x", {}) || true || member("y::1'],
            "TTL": 1,
            "CPUCores": 1,
            "MemorySize": 1,
            "WorkDirectorySize": 1,
        },
        "",
    )
    ad = Ad({"Requirements": made[1].expression})
    assert not ad.accepts(Ad(SLOT))


@pytest.mark.parametrize(
    ("running", "waiting", "wanted"),
    [
        ({}, {"ada": 5}, {"ada": 1.0}),
        ({"ada": 10}, {"ada": 1, "bob": 1}, {"ada": 1 / 3, "bob": 1.0}),
        ({"ada": 5, "bob": 5}, {}, {"ada": 0.5, "bob": 0.5}),
        ({"ada": 30, "bob": 10}, {"eve": 1}, {"ada": 1 / 3.25, "bob": 1 / 1.75, "eve": 1.0}),
        ({"ada": 1000}, {f"u{n}": 1 for n in range(999)} | {"ada": 1}, {"ada": LOWEST}),
    ],
)
def test_share_falls_with_use(
    running: dict[str, int], waiting: dict[str, int], wanted: dict[str, float]
) -> None:
    found = factors(running, waiting)
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_reasons() -> None:
    told = [{"text": "a", "satisfied": 0, "known": 2}, {"text": "b", "satisfied": 1, "known": 2}]
    assert reasons(told, 0, 0)[0].startswith("no resource has asked")
    assert reasons(told, 0, 2) == ["no known resource satisfies: a"]
    assert "2 of 2" in reasons([], 2, 2)[0]
    assert "satisfies all" in reasons(told[1:], 0, 2)[0]


def test_the_longest_requirements_that_are_accepted_can_be_evaluated() -> None:
    packages = ", ".join(f'"P{n}::1"' for n in range(50))
    text = f'Executable = "x"; Packages = {{{packages}}}; Requirements = ' + "true && " * 200 + "true;"
    spec = read(text, [], Defaults("grid"))
    ad = task_ad(spec.attributes, "ada", spec.requirements)
    assert matches(ad, Ad(SLOT | {"InstallMethods": ["http"]}))
    assert matches(Ad.restore(ad.canonical()), Ad(SLOT | {"InstallMethods": ["http"]}))


def placed(size: int, *ses: str) -> Placed:
    return Placed(f"/v/{size}", "", size, "", tuple(sorted(ses)))


@pytest.mark.parametrize(
    ("files", "wanted", "text"),
    [
        ([placed(5, "A")], {"A"}, "near A (CloseSE), which holds its input data (1 file, 5 B)"),
        ([placed(5, "A", "B")], {"A", "B"}, "near A or B (CloseSE), which holds its input data (1 file, 5 B)"),
        ([placed(5, "A", "B"), placed(6, "B", "C")], {"B"}, "near B (CloseSE), which holds its input data (2 files, 11 B)"),
        ([placed(5, "A"), placed(6, "B")], {"B"},
         "near B (CloseSE), which holds the most of its input data (2 files, 11 B): 6 B; none holds all"),
        ([placed(5, "A"), placed(5, "B"), placed(1, "C")], {"A", "B"},
         "near A or B (CloseSE), which holds the most of its input data (3 files, 11 B): 5 B; none holds all"),
        ([placed(0, "A"), placed(0, "B")], {"A", "B"},
         "near A or B (CloseSE), which holds the most of its input data (2 files, 0 B): 0 B; none holds all"),
        ([placed(5, "A"), placed(9)], {"A"}, "near A (CloseSE), which holds its input data (2 files, 5 B)"),
    ],
)  # fmt: skip
def test_near_the_input_data(files: list[Placed], wanted: set[str], text: str) -> None:
    close = near(files)
    assert close is not None
    assert close.text == text
    spec = read('Executable = "x";', [], Defaults("grid"))
    ad = task_ad(spec.attributes, "ada", "", close)
    for se in "ABC":
        assert matches(ad, Ad(SLOT | {"CloseSE": ["x", se]})) is (se in wanted)
    assert not matches(ad, Ad(SLOT))
    assert not matches(ad, Ad(SLOT | {"CloseSE": []}))


@pytest.mark.parametrize("files", [[], [placed(5)]])
def test_a_job_without_stored_data_may_run_anywhere(files: list[Placed]) -> None:
    assert near(files) is None


def test_at_the_sites_that_a_part_was_split_by() -> None:
    close = near([placed(5, "A")], ["CERN", "Torino"])
    assert close is not None
    assert close.text == "at CERN or Torino, which has its input data (1 file, 5 B)"
    spec = read('Executable = "x";', [], Defaults("grid"))
    ad = task_ad(spec.attributes, "ada", "", close)
    assert matches(ad, Ad(SLOT))
    assert not matches(ad, Ad(SLOT | {"Site": "Lyon"}))


def test_a_file_on_very_many_storage_elements_can_be_evaluated() -> None:
    names = [f"S{n:04d}" for n in range(5000)]
    close = near([placed(5, *names)])
    assert close is not None
    spec = read('Executable = "x";', [], Defaults("grid"))
    ad = task_ad(spec.attributes, "ada", "true", close)
    assert matches(ad, Ad(SLOT | {"CloseSE": [names[MOST_SES - 1]]}))


def test_a_storage_elements_name_cannot_smuggle_in_an_expression() -> None:
    close = near([placed(5, 'x", {}) || true || member("y')])
    assert close is not None
    assert not Ad({"Requirements": close.expression}).accepts(Ad(SLOT | {"CloseSE": ["z"]}))
