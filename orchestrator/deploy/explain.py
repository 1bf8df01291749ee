"""Answers of ``status`` and ``why``, as data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.deploy.model import Decision, Health, Intent, Record, World
from orchestrator.deploy.plan import Change
from orchestrator.providers.base import Machine


@dataclass(frozen=True)
class MachineRow:
    """One machine as ``status`` shows it."""

    name: str
    group: str
    provider: str
    state: str  # the provider's word, or "missing"
    address: str
    health: str  # "ok", also with a warning, or what is wrong; "" when it was not asked


@dataclass(frozen=True)
class Status:
    """A site now: what should be, what there is, what ``up`` would do."""

    site: str
    wanted: Mapping[str, int]
    roles: Mapping[str, str]
    world: World
    pending: tuple[Change, ...]
    lease: tuple[str, float, float] | None  # holder, since, expires

    @property
    def machines(self) -> tuple[MachineRow, ...]:
        """Every machine, in the order of groups, missing ones too."""
        return tuple(self._rows())

    def _rows(self) -> Iterator[MachineRow]:
        rows: dict[str, list[MachineRow]] = {group: [] for group in self.wanted}
        for machine in sorted(self.world.machines, key=lambda machine: (machine.group, machine.name)):
            health = self.world.health.get(machine.name)
            told = "" if health is None else _told(health)
            rows.setdefault(machine.group, []).append(
                MachineRow(
                    machine.name, machine.group, machine.provider, str(machine.state), machine.address, told
                )
            )
        there = {machine.name for machine in self.world.machines}
        for change in self.pending:
            if change.action == "create" and change.object not in there:
                row = MachineRow(change.object, change.group, change.provider, "missing", "", "")
                rows.setdefault(change.group, []).append(row)
        for each in rows.values():
            yield from each

    @property
    def ok(self) -> bool:
        """Nothing is left to do."""
        return not self.pending

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "site": self.site,
            "ok": self.ok,
            "groups": [
                {"name": name, "role": self.roles.get(name, ""), "wanted": count}
                for name, count in self.wanted.items()
            ],
            "machines": [asdict(row) for row in self.machines],
            "pending": [asdict(change) for change in self.pending],
            "lease": None
            if self.lease is None
            else dict(zip(("holder", "since", "expires"), self.lease, strict=True)),
        }


@dataclass(frozen=True)
class Why:
    """Everything known about one machine or group; newest first."""

    name: str
    record: Record | None
    machine: Machine | None
    health: Health | None
    decisions: tuple[Decision, ...]
    intents: tuple[Intent, ...]
    pending: tuple[Change, ...]
    evidence: tuple[str, ...] = ()  # files, the newest first

    @property
    def known(self) -> bool:
        """Something is known of it."""
        return bool(self.record or self.machine or self.decisions or self.intents or self.pending)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def _told(health: Health) -> str:
    if not health.ok:
        return health.what
    return f"ok, but {health.warning}" if health.warning else "ok"
