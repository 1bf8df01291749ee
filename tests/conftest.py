"""What holds for every test: needs are declared, skips are counted, and with CI=true a skip fails the run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import apt

# No example has a wall-clock limit: the machine may be busy with anything.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip by name what this machine cannot run."""
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        pytest.skip("needs root")
    for marker in item.iter_markers("needs_apt"):
        for name in marker.args:
            if apt.program(name) is None:
                pytest.skip(f"needs {name}: apt-get install {apt.packages()[name]}")


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Count the outcomes for `make test` ($TEST_TALLY), and refuse skips in CI."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker of xdist
        return
    names = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
    counts = {name: len(reporter.stats.get(name, ())) for name in names}
    if counts["skipped"] and _in_ci() and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"CI=true: {counts['skipped']} skipped, which fails the run", red=True)
    if tally := os.environ.get("TEST_TALLY"):
        bad = {report.nodeid for name in ("failed", "error") for report in reporter.stats.get(name, ())}
        Path(tally).write_text(json.dumps({"counts": counts, "bad": sorted(bad)}))
