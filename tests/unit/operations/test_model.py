"""What a backup says of itself, which ones are refused, and the numbers after a restore."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UserError
from orchestrator.operations.model import Header, Partition, Table, check, first_attempt, next_number

HEADER = Header(
    vo="alice", made=1e9, by="0.1.0", server="18.4", migrations=("tasks/0001_tasks.sql",),
    tables=(Table("task_class", ("id",)), Table("task", ("id", "class"), ("task_class",))),
    partitions=(Partition("task_1", "task", "FOR VALUES IN (1)"),), sequences={"task_id_seq": 7},
)  # fmt: skip


def test_a_header_is_read_as_it_was_written() -> None:
    assert Header.from_json(json.loads(json.dumps(HEADER.to_json()))) == HEADER


@pytest.mark.parametrize("change", [
    {"format": "tar"}, {"version": 2}, {"version": None}, {"tables": [{}]}, {"migrations": 7}, {"sequences": []},
    {"made": "yesterday"}, {"partitions": [{"name": "x"}]},
])  # fmt: skip
def test_what_cannot_be_read_is_an_error_of_the_caller(change: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Header.from_json(HEADER.to_json() | change)


@pytest.mark.parametrize("value", [None, [], "text", 7, {}])
def test_nothing_else_is_a_header(value: object) -> None:
    with pytest.raises(UserError, match="no backup of central"):
        Header.from_json(value)


def test_a_backup_belongs_to_one_vo_and_to_this_version_or_an_older_one() -> None:
    check(HEADER, "alice", ["tasks/0001_tasks.sql", "tasks/0002_lean.sql"])
    with pytest.raises(UserError, match="of VO alice, and this is the central of VO atlas"):
        check(HEADER, "atlas", ["tasks/0001_tasks.sql"])
    with pytest.raises(UserError, match=r"newer version.*tasks/0001_tasks\.sql"):
        check(HEADER, "alice", [])


@given(st.integers(0, 2**40), st.floats(-1e9, 1e9), st.integers(0, 10_000))
def test_a_number_is_above_all_that_were_given_out(last: int, seconds: float, a_second: int) -> None:
    given_out = last + int(max(0.0, seconds)) * a_second
    assert next_number(last, seconds) > given_out
    assert next_number(last, seconds) % 1_000_000 == 0


@given(st.integers(1, 100_000), st.floats(-1e8, 1e8))
def test_an_attempt_is_above_all_that_began(highest: int, seconds: float) -> None:
    first = first_attempt(highest, seconds)
    assert first > highest + max(0.0, seconds) + 999
    assert first < 2**31
    assert first_attempt(first, 0.0) > first
