"""What goes to the archive, and where its parts end: cases."""

from __future__ import annotations

import pytest

from orchestrator.tasks.keeping import DAY, Keeping, end_of_part, whole

KEEPING = Keeping(period=7 * DAY, most=100)


@pytest.mark.parametrize(
    ("first", "following", "since", "now", "ends"),
    [
        (1, 50, 0.0, 6.9 * DAY, None),  # neither full nor over
        (1, 50, 0.0, 7 * DAY, 50),  # its time is over
        (1, 101, 0.0, 1.0, 101),  # full
        (1, 5000, 0.0, 8 * DAY, 101),  # more than one part has come: no part is larger than it may be
        (50, 50, 0.0, 99 * DAY, None),  # nothing came: no empty part
        (50, 51, 99 * DAY, 98 * DAY, None),  # a clock that went back
    ],
)
def test_where_a_part_ends(first: int, following: int, since: float, now: float, ends: int | None) -> None:
    assert end_of_part(first, following, since, now, KEEPING) == ends


@pytest.mark.parametrize(
    ("ended", "top", "goes"),
    [
        ({1, 2, 3, 4}, 10, [1, 2, 3, 4]),
        ({1, 2, 4}, 10, [4]),  # one part is left
        ({2, 3, 4}, 10, [4]),  # the head is
        ({1, 2, 3, 4}, 4, [1, 2, 3]),  # 4 belongs to no part yet
        ({1, 2, 3, 4}, 3, []),  # nor does a member of the first family
        (set(), 10, []),
    ],
)
def test_a_family_goes_as_a_whole(ended: set[int], top: int, goes: list[int]) -> None:
    assert whole({4: [4], 1: [1, 3, 2]}, ended, top) == goes
