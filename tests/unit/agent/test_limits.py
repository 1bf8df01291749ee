"""Which limit a usage breaks."""

from __future__ import annotations

import pytest

from orchestrator.agent.limits import Activity, Limits, Usage, judge

LIMITS = Limits(wall=100.0, memory=1000, disk=500, idle=50.0)


@pytest.mark.parametrize(
    ("usage", "code"),
    [
        (Usage(100.0, 99.0, 1000, 500), None),
        (Usage(100.1, 99.0, 1, 1), "TTL_EXCEEDED"),
        (Usage(1.0, 1.0, 1001, 1), "MEMORY_EXCEEDED"),
        (Usage(1.0, 1.0, 1, 501), "DISK_EXCEEDED"),
        (Usage(99.0), None),
        (Usage(99.0, 10.0), "NO_CPU"),
    ],
)
def test_judge(usage: Usage, code: str | None) -> None:
    found = judge(usage, LIMITS, Activity(10.0, 40.0 if usage.cpu == 10.0 else usage.wall))
    assert (found.code if found else None) == code


def test_activity_is_the_last_clear_use_of_cpu() -> None:
    activity = Activity()
    for wall, cpu in ((1.0, 0.6), (2.0, 0.7), (3.0, 0.9)):
        activity = activity.after(Usage(wall, cpu))
    assert activity == Activity(0.6, 1.0), "0.3 s in two seconds is noise"
    assert activity.after(Usage(4.0, 1.1)) == Activity(1.1, 4.0)
    assert activity.after(Usage(9.0)).at == 9.0, "a node that tells no CPU proves nothing"
