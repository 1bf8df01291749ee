"""Split modes: a table of what comes of each, and what must hold for any input."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.catalogue.model import Placed
from orchestrator.errors import UserError
from orchestrator.jobs import modes, split
from orchestrator.jobs.split import check, parts

SITES = {"CERN::A": "CERN", "CERN::B": "CERN", "Torino::A": "Torino"}


def placed(lfn: str, size: int = 10, *ses: str) -> Placed:
    return Placed(lfn, "guid", size, "0" * 32, tuple(sorted(ses)))


FILES = {
    each.lfn: each
    for each in (
        placed("/v/r1/001/a", 10, "CERN::A"),
        placed("/v/r1/001/b", 20, "CERN::B"),
        placed("/v/r1/002/a", 30, "CERN::A", "Torino::A"),
        placed("/v/r2/001/a", 40, "CERN::B", "Torino::A"),
        placed("/v/r2/003/a", 50),
    )
}
A, B, C, D, E = FILES


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"Split": "file"}, [(A, [A]), (B, [B]), (C, [C]), (D, [D]), (E, [E])]),
        ({"Split": "FILE", "SplitMaxInputFileNumber": 3}, [(A, [A]), (B, [B]), (C, [C]), (D, [D]), (E, [E])]),
        ({"Split": "directory"}, [("/v/r1/001", [A, B]), ("/v/r1/002", [C]), ("/v/r2/001", [D]), ("/v/r2/003", [E])]),
        (
            {"Split": "directory", "SplitMaxInputFileNumber": 1},
            [("/v/r1/001", [A]), ("/v/r1/001", [B]), ("/v/r1/002", [C]), ("/v/r2/001", [D]), ("/v/r2/003", [E])],
        ),
        ({"Split": "parentdirectory"}, [("/v/r1", [A, B, C]), ("/v/r2", [D, E])]),
        (
            {"Split": "parentdirectory", "SplitMaxInputFileSize": 30},
            [("/v/r1", [A, B]), ("/v/r1", [C]), ("/v/r2", [D]), ("/v/r2", [E])],
        ),
        ({"Split": "event"}, [("001", [A, B, D]), ("002", [C]), ("003", [E])]),
        (
            {"Split": "se"},
            [("CERN::A", [A]), ("CERN::B", [B]), ("CERN::A,Torino::A", [C]), ("CERN::B,Torino::A", [D]), ("", [E])],
        ),
        ({"Split": "ce"}, [("CERN", [A, B]), ("CERN,Torino", [C, D]), ("", [E])]),
        ({"Split": "ce", "SplitMaxInputFileNumber": 1}, [("CERN", [A]), ("CERN", [B]), ("CERN,Torino", [C]),
                                                         ("CERN,Torino", [D]), ("", [E])]),
    ],
)  # fmt: skip
def test_modes_of_input_files(attributes: dict[str, Any], wanted: list[tuple[str, list[str]]]) -> None:
    given_ = attributes | {"InputData": list(FILES), "Arguments": "#alien_split#"}
    made = parts(given_, FILES, SITES)
    assert [(each["Arguments"], each["InputData"]) for each in made] == wanted
    assert [each["Counter"] for each in made] == list(range(1, len(wanted) + 1))


def test_a_part_of_ce_names_the_sites_it_must_run_at() -> None:
    made = parts({"Split": "ce", "InputData": list(FILES)}, FILES, SITES)
    assert [each.get("InputSites") for each in made] == [["CERN"], ["CERN", "Torino"], None]


def test_nodownload_stays_with_its_file_and_doubles_count_once() -> None:
    made = parts({"Split": "file", "InputData": [f"{A},nodownload", B, A]}, FILES)
    assert [each["InputData"] for each in made] == [[f"{A},nodownload"], [B]]


@pytest.mark.parametrize("name", ["event", "entries"])
def test_ranges_of_events(name: str) -> None:
    attributes = {
        "Split": f"{name}:11-35",
        "EventsPerJob": 10,
        "Arguments": "--first #alien_first_event# --last #alien_last_event# #alien_split#",
    }
    made = parts(attributes)
    assert [(each["FirstEvent"], each["LastEvent"]) for each in made] == [(11, 20), (21, 30), (31, 35)]
    assert [each["Counter"] for each in made] == [1, 2, 3]
    assert made[2]["Arguments"] == "--first 31 --last 35 31-35"
    assert "EventsPerJob" not in made[0]


def test_production_makes_one_part_for_each_number() -> None:
    made = parts(
        {
            "Split": "production:9-11",
            "Arguments": "run",
            "SplitArguments": "--seed #alien_counter#",
            "OutputDir": "/v/#alien_counter_03i#",
            "OutputFile": ["h.json"],
            "Merge": ["x"],
            "TTL": 5,
        }
    )
    assert [each["Counter"] for each in made] == [9, 10, 11]
    assert made[0] == {
        "Arguments": "run --seed 9", "OutputDir": "/v/009", "OutputFile": ["h.json"], "TTL": 5, "Counter": 9,
    }  # fmt: skip


def test_each_of_split_arguments_makes_a_part_of_each_group() -> None:
    attributes = {"Split": "production:5-6", "SplitArguments": ["--up #alien_split#", "--down #alien_split#"]}
    made = parts(attributes | {"Arguments": "x"})
    assert [(each["Counter"], each["Arguments"]) for each in made] == [
        (5, "x --up 5"), (6, "x --down 5"), (7, "x --up 6"), (8, "x --down 6"),
    ]  # fmt: skip


def test_user_defined_parts_say_what_differs() -> None:
    attributes = {
        "Split": "userdefined",
        "Arguments": "a",
        "TTL": 60,
        "SplitDefinitions": [
            {"Arguments": "b#alien_counter#"},
            {"TTL": 90, "Requirements": "other.Cores > 1"},
        ],
    }
    assert parts(attributes) == [
        {"Arguments": "b1", "TTL": 60, "Counter": 1},
        {"Arguments": "a", "TTL": 90, "Requirements": "other.Cores > 1", "Counter": 2},
    ]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"Split": "production:4-1"}, "A not above B"),
        ({"Split": "production:"}, "production:A-B"),
        ({"Split": "production"}, "production:A-B"),
        ({"Split": "production:a-b"}, "production:A-B"),
        ({"Split": "production:1-1000000"}, "too many"),
        ({"Split": "moon:1-2"}, "'moon' is unknown; there are ce, directory, entries, event"),
        ({"Split": ""}, "is unknown"),
        ({"Split": "file"}, "InputData"),
        ({"Split": "file:1-3"}, '"file" alone'),
        ({"Split": "userdefined"}, "SplitDefinitions"),
        ({"Split": "event:1-10"}, "EventsPerJob"),
        ({"Split": "entries"}, "entries:A-B"),
        ({"Split": "event:1-1000000", "EventsPerJob": 1}, "too many"),
        ({"Split": "production:1-2", "Arguments": "#alienfirstfilename#"}, "has no InputData"),
        ({"Split": "production:1-2", "OutputFile": ["h.json"], "OutputDir": "/v/out"}, "#alien_counter_03i#"),
        (
            {"Split": "production:1-2", "OutputArchive": ["l.zip:a,b"], "OutputDir": "/v"},
            "both write /v/l.zip",
        ),
    ],
)
def test_a_wrong_split_says_what_to_write(attributes: dict[str, Any], message: str) -> None:
    for judge in (check, parts):
        with pytest.raises(UserError) as caught:
            judge(attributes)
        assert message in caught.value.message


@pytest.mark.parametrize(
    "attributes",
    [
        {"Split": "production:1-99999", "SplitArguments": ["a", "b"]},
        {"Split": "event:1-99999", "EventsPerJob": 1, "SplitArguments": ["a", "b"]},
        {"Split": "production:1-99999", "Comment": "x" * 20_000},
    ],
)
def test_a_submission_that_is_too_large_is_refused_at_once(attributes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="parts"):
        check(attributes)


def test_a_submission_is_judged_by_its_first_parts() -> None:
    started = time.process_time()
    check({"Split": "production:1-100000", "OutputDir": "/v/#alien_counter#", "OutputFile": ["a"]})
    assert time.process_time() - started < 1


def test_what_a_pattern_makes_of_a_name_is_judged_again() -> None:
    attributes = {"Split": "file", "InputData": [A], "OutputFile": ["#alienfirstfilename/.*/../#"]}
    with pytest.raises(UserError, match="relative to the work directory"):
        parts(attributes, FILES)


def test_parts_that_write_different_files_need_no_pattern_in_the_directory() -> None:
    attributes = {"Split": "production:1-2", "OutputDir": "/v/out", "OutputFile": ["h#alien_counter#.json"]}
    assert len(parts(attributes)) == 2


LFNS = st.builds(
    lambda run, event, name, size, ses: placed(f"/v/{run}/{event}/{name}", size, *ses),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(0, 100),
    st.sets(st.sampled_from(sorted(SITES))),
)


@pytest.mark.parametrize("mode", sorted(modes.BY_INPUT))
@given(files=st.lists(LFNS, min_size=1, max_size=40, unique_by=lambda each: each.lfn), data=st.data())
def test_every_file_is_in_exactly_one_part_and_no_limit_is_exceeded(
    mode: str, files: list[Placed], data: st.DataObject
) -> None:
    known = {each.lfn: each for each in files}
    attributes: dict[str, Any] = {"Split": mode, "InputData": list(known)}
    number = data.draw(st.none() | st.integers(1, 10))
    size = data.draw(st.none() | st.integers(1, 300))
    attributes |= {} if number is None else {"SplitMaxInputFileNumber": number}
    attributes |= {} if size is None else {"SplitMaxInputFileSize": size}
    made = parts(attributes, known, SITES)
    assert sorted(lfn for each in made for lfn in each["InputData"]) == sorted(known)
    assert [each["Counter"] for each in made] == list(range(1, len(made) + 1))
    for each in made:
        held = each["InputData"]
        assert number is None or len(held) <= number
        assert size is None or len(held) == 1 or sum(known[lfn].size for lfn in held) <= size
        assert len({_key(mode, known[lfn]) for lfn in held}) == 1


def _key(mode: str, file: Placed) -> tuple[str, ...]:
    """What the files of one part share, written once more from the manual."""
    above = tuple(file.lfn.split("/"))
    return {
        "file": above,
        "directory": above[:-1],
        "parentdirectory": above[:-2],
        "event": above[-2:-1],
        "se": file.ses,
        "ce": tuple(sorted({SITES[se] for se in file.ses})),
    }[mode]


@given(first=st.integers(0, 500), more=st.integers(0, 300), each=st.integers(1, 400))
def test_ranges_cover_every_event_once(first: int, more: int, each: int) -> None:
    made = parts({"Split": f"event:{first}-{first + more}", "EventsPerJob": each})
    events = [n for part in made for n in range(part["FirstEvent"], part["LastEvent"] + 1)]
    assert events == list(range(first, first + more + 1))
    assert all(part["LastEvent"] - part["FirstEvent"] < each for part in made)


def test_ten_thousand_files_are_split_within_a_second() -> None:
    known = {
        f"/v/r{n % 7}/{n:05d}/a.root": placed(f"/v/r{n % 7}/{n:05d}/a.root", 1, "CERN::A")
        for n in range(10_000)
    }
    attributes = {
        "Split": "file",
        "InputData": list(known),
        "Arguments": r"#alienfirstfulldir# #alienfirstfilename/(.*)\.root/\1.out/#",
        "OutputDir": "/v/out/#alien_counter_05i#",
    }
    started = time.process_time()
    made = parts(attributes, known)
    assert time.process_time() - started < 2
    assert len(made) == 10_000
    assert split.lfns(made[-1]) == [list(known)[-1]]
