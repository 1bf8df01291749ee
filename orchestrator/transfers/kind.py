"""Transfers as a kind of task, and the catalogue as transfers see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from orchestrator.auth.model import Envelope
from orchestrator.catalogue.model import Placed
from orchestrator.classads import Ad, Expression, quote
from orchestrator.errors import UserError
from orchestrator.runtime.sql import Connection, Row
from orchestrator.tasks import store as tasks
from orchestrator.tasks.kinds import Task
from orchestrator.tasks.model import Json, Report
from orchestrator.transfers import decide, model, store
from orchestrator.transfers.decide import Policy, Storage

CHANNEL: Final = "transfer"  # NOTIFY: the optimizer has something to do
LONGEST: Final = 12 * 3600.0  # seconds one attempt may last: how long its token is good


class Replicas(Protocol):
    """What transfers need of the file catalogue; ``connection`` is the caller's open transaction."""

    async def files(self, connection: Connection, lfns: Sequence[str]) -> Mapping[str, Placed]:
        """The files among ``lfns`` with the storage elements that hold them; others are absent."""
        ...

    async def may_write(self, connection: Connection, lfn: str, user: str, admin: bool) -> bool:
        """Whether ``user`` may change the file."""
        ...

    async def storage(self, connection: Connection) -> Sequence[Storage]:
        """All storage elements (without the limits of transfers)."""
        ...

    async def intend(self, connection: Connection, se: str, guid: str) -> bool:
        """A copy may come to ``se``; if nobody registers it, it is removed after a week. False: wait, one
        that was there is just being removed."""
        ...

    async def add(self, connection: Connection, guid: str, content: model.Content, se: str) -> None:
        """The replica is in the catalogue. UserError when the file is no longer, or is another."""
        ...

    async def forget(self, connection: Connection, se: str, guid: str) -> bool:
        """A copy that came and was not registered may be removed from now on; False when there is none."""
        ...

    async def gone(self, connection: Connection, se: str, guid: str) -> None:
        """The copy that was to be forgotten is no longer there."""
        ...

    def pfn(self, guid: str) -> str:
        """Where every storage element keeps the file, below its URL."""
        ...


class TransferKind:
    """The life of a transfer for the task manager (tasks.kinds.Kind).

    An FTD that reports FAILED ends its attempt only: the next one is planned anew, after a while and with another
    copy if that one was bad, until ``policy.persevere`` attempts have failed.
    """

    name: Final = model.KIND
    life: Final = model.LIFE
    active: Final = model.ACTIVE
    reportable: Final = model.ACTIVE - {model.ASSIGNED} | {model.DONE, model.FAILED, model.WAITING}
    silent: Final = model.ZOMBIE
    lost: Final = model.LOST
    never_started: Final = model.FAILED
    overwaited: Final = model.EXPIRED
    refused: Final[Mapping[str, str]] = {model.DONE: model.FAILED}

    def __init__(
        self, replicas: Replicas | None, envelope: Envelope | None = None, policy: Policy | None = None
    ) -> None:
        """``replicas`` is None where nothing is booked, ``envelope`` where nothing is given out."""
        self.replicas = replicas
        self.envelope = envelope
        self.policy = policy or Policy()

    def payload(self, spec: Json) -> Json:
        """What ``model.Leg.of`` reads: both places with fresh envelopes."""
        leg: Json = {key: spec[key] for key in ("role", "lfn", "content")}
        verbs = ("GET", "DELETE" if spec["role"] == model.CLEAN else "PUT")
        for end, verb in zip(("source", "target"), verbs, strict=True):
            leg[end] = spec[end] | {"envelope": self._envelope(spec[end], verb, spec)}
        return leg

    def _envelope(self, place: Json, verb: str, spec: Json) -> str:
        if self.envelope is None or not place["url"].startswith("https:"):
            return ""
        content = spec["content"]
        return self.envelope(f"{place['se']}:{spec['pfn']}", verb, content["size"], content["md5"])

    def lifetime(self, spec: Json) -> float:  # noqa: ARG002
        """Seconds one attempt may last."""
        return LONGEST

    async def on_move(self, connection: Connection, task: Task, report: Report | None) -> None:
        """Register the replica with the move that ends its fetch; plan the next attempt; wake the optimizer."""
        if task.state == model.DONE and task.spec.get("final"):
            await self._register(connection, task)
        if task.state == model.DONE and task.spec.get("role") == model.CLEAN and self.replicas is not None:
            await self.replicas.gone(connection, task.spec["target"]["se"], task.spec["guid"])
        over = task.state in model.FINAL and not (
            task.state == model.LOST and task.attempt < task.max_attempts
        )
        if over or task.state == model.WAITING:
            await store.leg_over(connection, task.id)
        if task.parent is None and task.state == model.WAITING:
            await self._again(connection, task, report)
        elif task.parent is not None and task.state == model.WAITING:
            await store.leg_of(connection, task)  # a step that was given back waits for another FTD
        elif task.parent is None and over:
            await store.close(connection, task.id)
        if over or task.state in (model.INSERTING, model.WAITING):
            await tasks.notify(connection, CHANNEL, str(task.parent or task.id))

    async def _again(self, connection: Connection, task: Task, report: Report | None) -> None:
        """An attempt has ended: WAITING was for the manager; the next one is planned when its time has come."""
        given_back = report is not None and report.to == model.WAITING
        # What was given back was free: the manager allowed one attempt more for it.
        failed = task.attempt - 1 - (task.max_attempts - self.policy.persevere)
        delay = 0.0 if given_back else decide.retry_delay(self.policy, max(1, failed))
        blamed = report is not None and report.facts.get("blame") == model.SOURCE
        bad = str(task.spec["source"]["se"]) if blamed else ""
        await tasks.move(
            connection, self.life, task, model.INSERTING, actor="manager", reason="to be planned anew"
        )
        await store.again(connection, task.id, delay, task.reason, bad)

    async def _register(self, connection: Connection, task: Task) -> None:
        wanted = await store.get(connection, task.parent or task.id)
        if self.replicas is None or wanted["kind"] == model.CACHE:
            return
        content = model.Content(**task.spec["content"])
        se = str(task.spec["target"]["se"])
        await self.replicas.add(connection, wanted["guid"], content, se)
        if wanted["kind"] == model.MASTER_COPY:
            await store.set_master(connection, wanted["guid"], se)


def ftd_ad(user: str, spec: Json, at: str) -> Ad:
    """The ad of all legs that look the same to every FTD; ``at`` is the storage element near which it must be."""
    schemes = sorted({str(spec[end]["url"]).partition(":")[0] for end in ("source", "target")})
    needs = [f'other.Type == "{model.FTD}"', f"member({quote(at)}, other.CloseSE)"]
    needs += [f"member({quote(scheme)}, other.Protocols)" for scheme in schemes]
    small = spec["role"] == model.CLEAN or spec["content"]["size"] <= decide.SMALL
    values: Json = {"Type": model.KIND, "User": user, "SE": at, "Small": small}
    return Ad(values | {"Requirements": Expression(" && ".join(f"({need})" for need in needs))})


def wanted_of(found: Mapping[str, Placed], wanted: Row) -> Placed:
    """The file that was asked for; UserError when it is gone, or another has its name."""
    placed = found.get(wanted["lfn"])
    if placed is None or placed.guid != wanted["guid"]:
        raise UserError(f"{wanted['lfn']} is no longer in the catalogue as it was", lfn=wanted["lfn"])
    return placed
