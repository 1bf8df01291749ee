"""What a VO box runs for its site by pulling: computing elements, and the file transfer daemon.

Each imports what it is made of by itself, as all programs of ``vobox`` do.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UserError
from orchestrator.runtime import daemon
from orchestrator.runtime.clock import SystemClock

if TYPE_CHECKING:
    from orchestrator.ce.daemon import Site
    from orchestrator.ce.model import CeConfig
    from orchestrator.wiring.box import Box

METHODS = ("cvmfs", "torrent", "http")


async def computing_element(box: Box, name: str) -> None:
    from orchestrator.ce.batch.fork import ForkBatch
    from orchestrator.ce.daemon import ComputingElement
    from orchestrator.ce.model import CeConfig

    if name not in box.config.computing_elements:
        known = ", ".join(box.config.computing_elements) or "none"
        raise UserError(f"CE {name!r} is not in vobox.json; there is: {known}", ce=name)
    daemon.stop_on_signals(box.stop)
    clock, config = SystemClock(), CeConfig.of(name, box.config.computing_elements[name])
    os.environ.setdefault("ORCHESTRATE_AGENT_CACHE", str(box.root / "data/agent-cache"))
    monitor = box.config.clustermonitor
    batch = ForkBatch(box.root / "data/ce" / name, config.slots, clock)
    async with box.authorised(monitor, monitor, patience=10.0) as (_, api):
        element = ComputingElement(
            config, _ce_site(box, config), batch, api, clock, lambda: f"{name}-{secrets.token_hex(6)}"
        )
        daemon.ready()
        await _until_stopped(daemon.loop(f"ce {name}", element.step, box.stop), box.stop)


async def _until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event, patience: float = 1.0) -> None:
    """``work`` to its end, at most ``patience`` seconds longer than ``stop``: a call that is tried again would hold it up."""
    working = asyncio.create_task(work)
    await stop.wait()
    await asyncio.wait({working}, timeout=patience)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


def _ce_site(box: Box, config: CeConfig) -> Site:
    """What the agents of a CE get; a slot has its share of this machine."""
    from orchestrator.agent.model import AgentConfig
    from orchestrator.agent.node import measure
    from orchestrator.ce.daemon import Site

    whole = measure(AgentConfig(clustermonitor="", ca="", workdir=str(box.root), host=box.config.machine))
    memory = config.memory or whole.memory // max(1, config.slots)
    node = type(whole)(whole.host, config.cores, memory, whole.disk // 2, whole.arch, whole.os, whole.cvmfs)
    first = box.config.method
    methods = (first, *(each for each in METHODS if each != first)) if first in METHODS else METHODS
    return Site(
        site=box.config.site,
        clustermonitor=box.config.clustermonitor,
        ca=str(box.root / "etc/tls/ca.pem"),
        agent_file=_agent_command(box),
        address=box.config.address,
        cache=str(box.root / "data/packages"),
        methods=methods,
        node=node,
    )


def _agent_command(box: Box) -> tuple[str, ...]:
    """The agent file; where none was delivered (a development checkout), this Python."""
    file = box.root / (box.config.agent_file or "data/www/agent/orchestrate-agent")
    return (str(file),) if file.is_file() else (sys.executable, "-m", "orchestrator.wiring.agent")


async def ftd(box: Box) -> None:
    """Brings files to the storage elements of this VO box."""
    daemon.ready()
    import httpx

    from orchestrator.agent.model import AgentConfig
    from orchestrator.agent.session import Session
    from orchestrator.runtime.http import tls_context
    from orchestrator.transfers.ends import Https
    from orchestrator.transfers.ftd import Ftd, ftd_ad
    from orchestrator.transfers.model import FTD
    from orchestrator.transfers.mover import Streams

    monitor, machine = box.config.clustermonitor, box.config.machine
    tls = tls_context(box.root / "etc/tls/ca.pem")

    def ad() -> dict[str, Any]:
        free = shutil.disk_usage(box.root / "data").free
        return ftd_ad(machine, sorted(box.config.storage_elements), free, ["https"])

    async def session() -> float:
        """Ask for work as one agent after another: a session that was refused is followed by a new one."""
        async with box.authorised(monitor, monitor, patience=10.0) as (_, host):
            asked = {"ce": FTD, "lifetime": 600.0}
            enrolment = str((await host.post("/v1/enrolments", asked))["token"])
        config = AgentConfig(clustermonitor=monitor, ca="", workdir="", token=enrolment)
        async with box.api(monitor) as api, httpx.AsyncClient(verify=tls, trust_env=False) as http:
            line = Session(api, config, machine)
            await line.token()
            movers = {"https": Streams({"https": Https(http)})}
            await Ftd(line, movers, ad, secrets.token_hex(8)).run(box.stop)
        return 1.0

    await _until_stopped(daemon.loop("ftd", session, box.stop), box.stop, 3.0)
