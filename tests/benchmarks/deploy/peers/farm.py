"""Hosts for one tool, and the central services that their VO box wants; and what a peer is to deliver.

The central services run on a host of their own, which is brought up before and measured for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.providers._ssh_connection import control_directory
from orchestrator.runtime.http import Api
from orchestrator.site.load import load
from orchestrator.wiring.grid import connect
from orchestrator.wiring.sites import state_directory
from tests.e2e.grid import Grid
from tests.lab.hosts import Host, hosts

SITE = "farm"
ROOT = f"/opt/orchestrate/{SITE}"
LONGEST = 900.0  # seconds of one run


@dataclass(frozen=True)
class Farm:
    """One central, which is up, and ``hosts`` with nothing on them but an ssh server."""

    folder: Path
    grid: Grid
    key: Path
    hosts: list[Host]

    def site(self, voboxes: int, workers: int) -> None:
        """The site spec asks for so many from now on."""
        self.grid.file.write_text(json.dumps(self._spec(voboxes, workers)))

    def _spec(self, voboxes: int, workers: int) -> dict[str, Any]:
        told = [{"name": host.name, "address": host.address, "key": str(self.key)} for host in self.hosts]
        groups: dict[str, Any] = {"central": {"role": "central", "provider": "middle"}}
        for number in range(1, voboxes + 1):
            groups[f"vobox{number}"] = {"role": "vobox", "provider": "farm", "needs": ["central"]}
        if workers:
            workers_ = {"role": "worker", "provider": "farm", "count": workers, "needs": ["vobox1"]}
            groups["workers"] = workers_
        return {
            "vo": "alice",
            "site": SITE,
            "providers": {
                "middle": {"kind": "ssh", "hosts": told[:1]},
                "farm": {"kind": "ssh", "hosts": told[1:], "parallel": 20},
            },
            "groups": groups,
        }

    def central(self) -> None:
        """The central services are up."""
        self.site(1, 0)
        self.grid.run("up", "--limit", "central")

    def up(self) -> None:
        """`orchestrate up` to its end; SystemExit with what it said when it fails."""
        begun = self.grid.start("up")
        try:
            said, _ = begun.communicate(timeout=LONGEST)
        finally:
            begun.kill()
        if begun.returncode != 0:
            raise SystemExit(f"orchestrate up: {begun.returncode}\n{said}")

    def forget_connections(self) -> None:
        """No connection to a host is kept, ours or Ansible's."""
        for socket in (*self.control.iterdir(), *self.folder.glob("work/.ansible/cp/*")):
            leave = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"]
            subprocess.run(leave, capture_output=True, timeout=10)

    @property
    def control(self) -> Path:
        """Where `orchestrate` keeps the sockets of its connections."""
        return control_directory(state_directory(self.grid.file, load(self.grid.file)))

    @contextlib.contextmanager
    def line(self) -> Iterator[Callable[[], int]]:
        """How many worker machines have an agent that asked central for work, by a connection that is open: a
        login is no part of what is measured."""

        async def ask(central: Api) -> int:
            told = (await central.get("/v1/resources", site=SITE))["resources"]
            hosts = {each["name"].partition("/")[0] for each in told}
            return len(
                {host for host in hosts if not host.startswith(f"{SITE}-vobox")}
            )  # an FTD asks for work too

        with asyncio.Runner() as runner:
            way = connect(self.grid.file, patience=60.0)
            grid = runner.run(way.__aenter__())
            try:
                yield lambda: runner.run(ask(grid.central))
            finally:
                runner.run(way.__aexit__(None, None, None))


@contextlib.contextmanager
def farm(folder: Path, cache: Path, count: int) -> Iterator[Farm]:
    """``count`` free hosts beside the one of central; nothing of them is left after."""
    with hosts(count + 1, folder / "lab") as lab:
        made = Farm(folder, Grid.of(folder / "site", "{}", cache), lab.key, lab.hosts)
        try:
            made.central()
            yield made
        finally:
            made.forget_connections()
            shutil.rmtree(made.control)  # it may be outside of the state directory
