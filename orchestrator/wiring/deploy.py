"""The composition root of the deploy plane: a site spec's file → everything its verbs work with.

Each provider's module is imported when the site names its kind; SDKs are imported nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.deploy.context import Context, Tasks
from orchestrator.deploy.events import Event, Sink
from orchestrator.deploy.fleet import Fleet
from orchestrator.deploy.holder import myself, surely_dead
from orchestrator.deploy.ledger import Ledger
from orchestrator.deploy.model import Workload
from orchestrator.runtime.clock import SystemClock, Timeline
from orchestrator.site.load import load, resolve
from orchestrator.site.schema import Site
from orchestrator.wiring.configure import make_configurator
from orchestrator.wiring.sites import providers, state_directory
from orchestrator.wiring.workload import make_workload


def _silent(_: Event) -> None:
    return None


@contextmanager
def context(site_file: Path, *, sink: Sink = _silent, reading: bool = False) -> Iterator[Context]:
    """Everything about that site. With ``reading`` no file is made for a site that was never up."""
    site = load(site_file)
    state_dir = state_directory(site_file, site)
    if not reading:
        state_dir.parent.mkdir(exist_ok=True)
        # Jobs of other accounts pass to their machine; the secrets below are closed themselves.
        state_dir.mkdir(mode=0o711, exist_ok=True)
        state_dir.chmod(0o711)
    ledger = _ledger(site, site_file, state_dir, reading)
    try:
        yield made(site, state_dir, ledger, sink, reading=reading)
    finally:
        ledger.close()


def made(site: Site, state_dir: Path, ledger: Ledger, sink: Sink, *, reading: bool = False) -> Context:
    """Everything about a site whose state directory and ledger are there."""
    fleet, tasks = Fleet(), Tasks()
    infrastructure = providers(site, state_dir)
    configurator = make_configurator(site, state_dir, fleet, tasks, reading=reading)
    real = make_workload(site, state_dir, fleet)
    workload: Workload = real
    clock: Timeline = SystemClock()
    if any(settings.kind == "sim" for settings in site.providers.values()):
        from orchestrator.wiring import simulated

        clouds = simulated.clouds_of(infrastructure)
        clock = simulated.clock_of(site, clouds)
        agents = simulated.SimAgents(site, clouds, state_dir, fleet)
        configurator = simulated.SimConfigurator(site, clouds, configurator, agents)
        workload = simulated.SimWorkload(clouds, real, agents, simulated.served(site, clouds))
    return Context(
        site=site,
        ledger=ledger,
        providers=infrastructure,
        configurator=configurator,
        workload=workload,
        clock=clock,
        state_dir=state_dir,
        holder=myself(),
        dead=surely_dead,
        sink=sink,
        fleet=fleet,
        tasks=tasks,
    )


def _ledger(site: Site, site_file: Path, state_dir: Path, reading: bool) -> Ledger:
    if site.ledger is not None:
        return Ledger.open(resolve(site.ledger, os.environ, site_file.resolve().parent), site.site)
    file = state_dir / "ledger.db"
    if reading and not file.exists():
        return Ledger.empty(site.site)
    return Ledger.of_file(file, site.site)
