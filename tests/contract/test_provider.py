"""The provider suite on what runs anywhere: machines on this host, ssh hosts, and simulated clouds.

``sim-faulty`` is the simulated cloud with every fault switched on, seen through the guard as deploy sees it.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from orchestrator.providers import local, sim, ssh
from orchestrator.providers._addresses import candidates
from orchestrator.providers.base import Provider
from orchestrator.providers.guard import Allowance, Guarded
from orchestrator.runtime.virtual import VirtualClock
from tests.lab.hosts import Lab, hosts
from tests.support.provider_suite import AnyProvider, Case, MachinesWithShell, cleared, site_with

_FAULTS: dict[str, Any] = {
    "api_errors": "20 %", "lost_replies": "20 %", "duplicate_listing": "30 %", "eventual_list": "20 s",
    "slow_boot": "20 %", "network_cut": "20 %", "ip_reuse": True, "throttle": {"rate": 5, "burst": 5},
    "zones": {"a": 2, "b": 2}, "quota": {"machines": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with hosts(3, tmp_path_factory.mktemp("lab")) as running:
        yield running


class TestEvery(AnyProvider):
    @pytest.fixture(params=["local", "ssh", "sim", "sim-faulty"])
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
        yield from _made(request, tmp_path / "state")


class TestReal(MachinesWithShell):
    @pytest.fixture(params=["local", "ssh"])
    def real(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
        yield from _made(request, tmp_path / "state")


def _made(request: pytest.FixtureRequest, state: Path) -> Iterator[Case]:
    if request.param == "local":
        return cleared(_local(state))
    if request.param == "ssh":
        return cleared(_ssh(request.getfixturevalue("lab"), state))
    return cleared(
        _simulated(state, _FAULTS if request.param == "sim-faulty" else {"quota": {"machines": 3}})
    )


def _local(state: Path) -> Case:
    site = site_with("local")

    @contextmanager
    def taken() -> Iterator[None]:
        """One port is in use at every address that is tried."""
        with ExitStack() as held:
            for address in islice(candidates(state), 40):
                with suppress(OSError):  # another site on this host has it
                    held.enter_context(socket.create_server((address, 6881)))
            yield

    return Case(
        local.make("p", site.providers["p"], site, state),
        lambda: local.make("p", site.providers["p"], site, state),
        full="6881",
        run=lambda machine, script: os.popen(f"ORCHESTRATE_ROOT={machine.root}; {script}").read(),
        crowded=taken,
    )


def _ssh(running: Lab, state: Path) -> Case:
    inventory = [
        {"name": host.name, "address": host.address, "key": str(running.key)} for host in running.hosts
    ]
    site = site_with("ssh", hosts=inventory)
    inside = {host.address: host for host in running.hosts}
    return Case(
        ssh.make("p", site.providers["p"], site, state),
        lambda: ssh.make("p", site.providers["p"], site, state),
        full="free host",
        run=lambda machine, script: inside[machine.address].run(f"ORCHESTRATE_ROOT={machine.root}; {script}"),
    )


def _simulated(state: Path, settings: dict[str, Any]) -> Case:
    site = site_with("sim", **settings)
    clock = VirtualClock(1.0e9)

    def make() -> Provider:
        cloud = sim.make("p", site.providers["p"], site, state)
        cloud.clock = clock
        return Guarded(cloud, clock, threading.Event(), Allowance(tries=30))

    return Case(make(), make, full="quota of 3 machines", clock=clock)
