"""The agent's configuration and ad."""

from __future__ import annotations

import pytest

from orchestrator.agent.model import AgentConfig, machine_ad
from orchestrator.errors import UserError

GOOD = {"clustermonitor": "https://x:8445", "ca": "/ca.pem", "workdir": "/w"}


def test_a_small_configuration_is_enough() -> None:
    config = AgentConfig.of(GOOD | {"ttl": 60, "methods": ["http"], "slots": 2})
    assert (config.ttl, config.methods, config.slots) == (60.0, ("http",), 2)
    assert isinstance(config.ttl, float)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clustermonitor": None}, "clustermonitor must be of type str"),
        ({"slots": True}, "slots must be of type int"),
        ({"slots": "2"}, "slots must be of type int"),
        ({"methods": "http"}, "methods must be of type list"),
        ({"surprise": 1}, "surprise is unknown"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        AgentConfig.of(GOOD | change)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UserError) as error:
        AgentConfig.of({"ttl": "long"})
    for part in ("clustermonitor is missing", "ca is missing", "workdir is missing", "ttl must be"):
        assert part in error.value.message
    with pytest.raises(UserError):
        AgentConfig.of([])


def test_the_ad_matches_a_jobs_ad_by_the_real_library() -> None:
    from orchestrator.classads import Ad, matches
    from orchestrator.jobs.requirements import task_ad

    attributes = {"TTL": 600, "CPUCores": 1, "MemorySize": 1 << 30, "WorkDirectorySize": 1 << 30,
                  "Packages": ["P::1"]}  # fmt: skip
    job = task_ad(attributes, "ada", "")
    slot = {"site": "s", "ce": "c", "host": "h", "cores": 1, "memory": 1 << 31, "disk": 1 << 34, "arch": "x86_64",
            "os": "linux", "ttl": 3600.0}  # fmt: skip
    assert matches(job, Ad(machine_ad(**slot, methods=["torrent"])))  # type: ignore[arg-type]
    assert matches(job, Ad(machine_ad(**slot, packages=["P::1"])))  # type: ignore[arg-type]
    assert not matches(job, Ad(machine_ad(**slot)))  # type: ignore[arg-type]
    assert not matches(job, Ad(machine_ad(**slot | {"ttl": 60.0}, methods=["torrent"])))  # type: ignore[arg-type]
