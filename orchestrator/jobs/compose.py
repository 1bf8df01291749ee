"""How wiring builds the parts of central, broker and optimizer that deal with jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute

from orchestrator.jobs.advice import Advice, Advisor
from orchestrator.jobs.api import job_routes
from orchestrator.jobs.jdl import Defaults
from orchestrator.jobs.kind import Catalogue, JobKind, Surroundings
from orchestrator.jobs.optimizer import Optimizer
from orchestrator.jobs.service import Jobs
from orchestrator.runtime.clock import Clock, SystemClock
from orchestrator.runtime.sql import Database
from orchestrator.tasks import api
from orchestrator.tasks.broker import Broker, JobToken
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import Kind, Patience
from orchestrator.tasks.manager import Manager


@dataclass(frozen=True)
class Served:
    """Routes to serve, and the hub whose ``run(stop)`` must run beside the server."""

    routes: Sequence[BaseRoute]
    hub: Hub


def central_routes(
    database: Database,
    catalogue: Catalogue,
    defaults: Defaults,
    patience: Patience | None = None,
    clock: Clock | None = None,
    also: Sequence[Kind] = (),
    surroundings: Surroundings | None = None,
) -> Served:
    """Task manager and jobs: what runs in the ``central`` program. ``also``: kinds of tasks beside jobs.

    Without ``surroundings`` no suggestion can be accepted.
    """
    hub = Hub(database, ["event", "command"])
    kinds: Sequence[Kind] = [JobKind(catalogue), *also]
    manager = Manager(database, {kind.name: kind for kind in kinds}, patience)
    jobs = Jobs(database, manager, hub, catalogue, defaults, surroundings)
    routes = [*api.manager_routes(manager, hub), *job_routes(jobs, (clock or SystemClock()).now)]
    return Served(routes, hub)


def broker_routes(
    database: Database,
    job_token: JobToken,
    patience: Patience | None = None,
    clock: Clock | None = None,
    also: Sequence[Kind] = (),
) -> Served:
    """What runs in the ``broker`` program; ``job_token(task, attempt, user, site, seconds)`` signs."""
    hub = Hub(database, ["waiting"])
    kinds: Sequence[Kind] = [JobKind(None), *also]
    by_name = {kind.name: kind for kind in kinds}
    broker = Broker(database, by_name, hub, job_token, patience, (clock or SystemClock()).now)
    return Served(api.broker_routes(broker), hub)


def optimizer(
    database: Database,
    catalogue: Catalogue,
    defaults: Defaults,
    patience: Patience | None = None,
    advice: Advice | None = None,
) -> Optimizer:
    """What runs in the ``optimizer`` program: ``await optimizer(...).run(stop)``. Without ``advice`` it suggests nothing."""
    kind = JobKind(catalogue)
    advisor = Advisor(database, catalogue, advice) if advice is not None else None
    return Optimizer(database, Manager(database, {kind.name: kind}, patience), catalogue, defaults, advisor)
