from __future__ import annotations

import pytest

from orchestrator.errors import UserError
from orchestrator.jobs.split import filled, parts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("#alien_counter#", "7"),
        ("x#alien_counter_03i#y", "x007y"),
        ("#alien_counter_3i#", "  7"),
        ("#alien_split#-#alien_counter_02i#", "v-07"),
        ("#alien_other# #counter#", "#alien_other# #counter#"),
        (["a#alien_counter#", "b"], ["a7", "b"]),
    ],
)
def test_patterns(text: object, wanted: object) -> None:
    assert filled(text, 7, "v") == wanted


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


@pytest.mark.parametrize(
    "wrong",
    ["production:4-1", "production:", "production:a-b", "production:1-1000000", "moon:1-2", "", "file"],
)
def test_a_wrong_split_says_what_to_write(wrong: str) -> None:
    with pytest.raises(UserError):
        parts({"Split": wrong})


def test_parts_that_would_overwrite_each_other_are_refused() -> None:
    attributes = {"Split": "production:1-2", "OutputDir": "/v/out", "OutputFile": ["h.json"]}
    with pytest.raises(UserError, match="#alien_counter_03i#"):
        parts(attributes)
    assert len(parts(attributes | {"OutputFile": ["h#alien_counter#.json"]})) == 2
