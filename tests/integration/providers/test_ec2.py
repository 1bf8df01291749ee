"""The provider suite on EC2 (a real moto server), and what only a cloud can do wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.providers import ec2
from orchestrator.providers.base import MachineSpec
from orchestrator.providers.guard import Allowance, Guarded
from orchestrator.runtime.clock import SystemClock
from tests.support.ec2 import Cloud
from tests.support.provider_suite import AnyProvider, Case, cleared, site_with

_SPEC = MachineSpec(
    "", "w", "worker", image="ami-12c6146b", offering="m5.large", tags={"orchestrate-site": "try"}
)


def _case(cloud: Cloud, state: Path, **more: object) -> Case:
    site = site_with("ec2", region="us-east-1", endpoint=cloud.url, **more)

    def make() -> Guarded:
        adapter = ec2.make("p", site.providers["p"], site, state)
        return Guarded(adapter, SystemClock(), threading.Event(), Allowance(tries=20))

    return Case(make(), make, full="may have 3 instances", wanted=_SPEC)


class TestEc2(AnyProvider):
    @pytest.fixture
    def case(self, cloud: Cloud, tmp_path: Path) -> Iterator[Case]:
        cloud.machines = 3
        yield from cleared(_case(cloud, tmp_path / "state"))


@pytest.fixture
def case(cloud: Cloud, tmp_path: Path) -> Iterator[Case]:
    yield from cleared(_case(cloud, tmp_path / "site" / ".orchestrate" / "try"))
