"""How wiring builds the parts of central, broker and optimizer that deal with transfers."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import BaseRoute

from orchestrator.runtime.sql import Database
from orchestrator.tasks.hub import Hub
from orchestrator.tasks.kinds import Patience
from orchestrator.tasks.manager import Manager
from orchestrator.transfers.api import transfer_routes
from orchestrator.transfers.kind import TransferKind
from orchestrator.transfers.optimizer import Optimizer
from orchestrator.transfers.service import Transfers


def _manager(database: Database, kind: TransferKind, patience: Patience | None) -> Manager:
    return Manager(database, {kind.name: kind}, patience)


def service(database: Database, hub: Hub, kind: TransferKind, patience: Patience | None = None) -> Transfers:
    """What users can do with transfers; ``hub`` hears of events. ``kind`` has its replicas."""
    if kind.replicas is None:
        raise ValueError("central books replicas")
    return Transfers(database, _manager(database, kind, patience), hub, kind.replicas, kind.policy)


def central_routes(
    database: Database,
    hub: Hub,
    kind: TransferKind,
    now: Callable[[], float],
    patience: Patience | None = None,
) -> list[BaseRoute]:
    """What the ``central`` program serves."""
    return transfer_routes(service(database, hub, kind, patience), now)


def optimizer(database: Database, kind: TransferKind, patience: Patience | None = None) -> Optimizer:
    """What runs in the ``optimizer`` program: ``await optimizer(...).run(stop)``."""
    if kind.replicas is None:
        raise ValueError("the optimizer books replicas")
    return Optimizer(database, _manager(database, kind, patience), kind.replicas, kind.policy)
