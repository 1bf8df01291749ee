"""What `make bench` reads from its files, and the table it ends with."""

from __future__ import annotations

import pytest

from tests.support import bench


@pytest.mark.parametrize(
    ("line", "met", "of_goal"),
    [
        ("figure a 3 s goal <= 4\n", "yes", "0.75"),
        ("figure a 5 s goal <= 4", "NO", "1.25"),
        ("figure a 4 % of a core goal >= 4", "yes", "1.00"),
        ("figure a 1e+03 tasks/s goal >= 1500", "NO", "0.67"),
        ("figure a 0 jobs goal <= 0", "yes", ""),
        ("figure a 2 ratio", "", ""),
    ],
)
def test_a_line_is_a_figure(line: str, met: str, of_goal: str) -> None:
    found = bench.read(line)
    assert found is not None
    assert (found.name, found.met, found.of_goal) == ("a", met, of_goal)


@pytest.mark.parametrize("line", ["", "all goals are met", "missed: a", "figures a 3 s"])
def test_other_lines_are_none(line: str) -> None:
    assert bench.read(line) is None


def test_units_may_have_spaces() -> None:
    found = bench.read("figure share 12.5 % of a core goal <= 30")
    assert found is not None
    assert (found.value, found.unit, found.operator, found.limit) == ("12.5", "% of a core", "<=", "30")


def test_the_table_has_one_line_a_figure() -> None:
    rows = [
        ("file", "figure", "value", "unit", "goal", "of it", "met"),
        ("x", "long_name", "3", "s", "<= 4", "0.75", "yes"),
    ]
    first, second = bench.table(rows).splitlines()
    assert first.index("unit") == second.index("s", second.index("3"))
    assert second.endswith("yes")


def test_every_area_has_files() -> None:
    assert {file.stem for file in bench.files("queue")} >= {"claims", "submit", "beats"}
    assert [file.name for file in bench.files("turnaround")] == ["turnaround.py"]
    assert bench.files("nothing") == []
