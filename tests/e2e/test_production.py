"""A physics production through the whole grid equals the same seeds run directly, and repeats itself."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.e2e.conftest import EVENTS
from tests.e2e.grid import Grid


def test_two_productions_equal_the_direct_run_to_the_last_digit(
    pythia: Grid, direct: Callable[[int], bytes]
) -> None:
    runs = (101, 102)
    masters = [pythia.produce(run, 2, EVENTS) for run in runs]
    for master in masters:
        done = pythia.finished(master, 180)
        assert done["state"] == "DONE", done["reason"]
        states = sorted(part["state"] for part in pythia.parts(master))
        assert states == ["DONE", "DONE", "DONE"]  # two parts and the merge
    expected = direct(2)
    assert json.loads(expected)["events"] == 2 * EVENTS
    assert [pythia.merged(run) for run in runs] == [expected, expected]
