"""Jobs as a kind of task, and the catalogue as jobs see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from orchestrator.catalogue.model import Placed
from orchestrator.jobs import model, validation
from orchestrator.jobs.suggest import Element
from orchestrator.runtime.sql import Connection
from orchestrator.tasks import store
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.model import Json, Output, Report

MARGIN = 3600.0  # seconds beyond its TTL in which a job may install its packages and save its outputs


class Catalogue(Protocol):
    """What jobs need of the file catalogue; ``connection`` is the caller's open transaction."""

    async def register(self, connection: Connection, outputs: Sequence[Output], owner: str) -> None:
        """Every output is an entry of ``owner`` with its replica. Same GUID again: harmless. UserError otherwise."""
        ...

    async def exists(self, connection: Connection, lfn: str) -> bool:
        """Whether ``lfn`` is a file (not a directory)."""
        ...

    async def placed(self, connection: Connection, lfns: Sequence[str]) -> Mapping[str, Placed]:
        """The files among ``lfns`` with their sizes and storage elements, by the spelling asked for; one statement."""
        ...

    async def sites(self, connection: Connection) -> Mapping[str, str]:
        """The site of every storage element."""
        ...

    async def remove(self, connection: Connection, lfns: Sequence[str]) -> None:
        """These files are not in the catalogue; those that never were are passed over."""
        ...

    async def read_text(self, lfn: str) -> str:
        """The content of a small text file; called outside any transaction. NotFound when there is none."""
        ...


class Surroundings(Protocol):
    """What suggestions need to know and do beyond jobs and files; ``connection`` is the caller's open transaction."""

    async def storage(self, connection: Connection) -> Mapping[str, Element]:
        """All storage elements by name."""
        ...

    async def published(self, connection: Connection, packages: Sequence[str]) -> set[str]:
        """Those of these ``NAME::VERSION`` that the VO has."""
        ...

    async def mirror(self, user: str, lfns: Sequence[str], se: str) -> list[Json]:
        """``user`` asks for one more replica of each file on ``se``: {lfn, task, state, new} each. Repeating is harmless."""
        ...


class JobKind:
    """The life of a job for the task manager (tasks.kinds.Kind)."""

    name: Final = model.KIND
    life: Final = model.LIFE
    active: Final = model.ACTIVE
    reportable: Final = frozenset(
        {
            model.QUEUED,
            model.STARTED,
            model.RUNNING,
            model.SAVING,
            model.DONE,
            model.DONE_WARN,
            model.WAITING,
            model.ERROR_A,
            model.ERROR_S,
            model.ERROR_IB,
            model.ERROR_E,
            model.ERROR_SV,
        }
    )
    silent: Final = model.ZOMBIE
    lost: Final = model.EXPIRED
    never_started: Final = model.ERROR_A
    overwaited: Final = model.ERROR_EW
    refused: Final[Mapping[str, str]] = {
        model.DONE: model.ERROR_SV,
        model.DONE_WARN: model.ERROR_SV,
    }

    def __init__(self, catalogue: Catalogue | None) -> None:
        """``catalogue`` is None where no outputs are booked (in the broker)."""
        self.catalogue = catalogue

    def payload(self, spec: Json) -> Json:
        """What ``model.Payload.of`` reads."""
        return dict(spec["jdl"])

    def lifetime(self, spec: Json) -> float:
        """Seconds one attempt may last, installation and saving included."""
        return float(spec["jdl"]["TTL"]) + MARGIN

    async def on_move(self, connection: Connection, task: Task, report: Report | None) -> None:
        """Book the outputs with the move that ends the job, judge the job that a validation was for, and wake
        the optimizer for what it must do."""
        if report is not None and report.outputs and self.catalogue is not None:
            await self.catalogue.register(connection, report.outputs, task.owner)
        if task.state in (model.INSERTING, model.SPLITTING):
            await store.notify(connection, "optimize", str(task.id))
        if model.unjudged(task.state, task.spec):
            await store.notify(connection, "optimize", str(task.id))
        if (judged := await validation.judge(connection, task)) is not None:
            await self.on_move(connection, judged, None)
        if task.state in model.FINAL and task.parent is not None:
            await store.notify(connection, "optimize", str(task.parent))
