"""The plan: changes as data, with reasons, and a digest of the world they were decided for. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from orchestrator.deploy.model import Action, World
from orchestrator.errors import UserError

FORMAT = 2
PETS_KEEP = frozenset({Action.DESTROY, Action.REPLACE})


@dataclass(frozen=True)
class FieldChange:
    """One field that differs between what is and what is wanted. ``how`` it takes effect: live (the machine
    goes on), rolling (machines are replaced a few at a time) or replace."""

    name: str
    old: str
    new: str
    how: str = "live"


@dataclass(frozen=True)
class Change:
    """One thing apply will do. ``object`` is a machine, or a group for verify. ``needs`` are ids of changes
    that must be done before, ``after`` of those that must have ended, well or not; ``seconds`` is
    predicted from history, ``cost`` what the site then costs more per hour (None: not known)."""

    id: str
    action: Action
    object: str
    group: str
    role: str
    provider: str
    reason: str
    fields: tuple[FieldChange, ...] = ()
    seconds: float = 0.0
    needs: tuple[str, ...] = ()
    previous: str = ""  # replace: the provider where the old machine is, when it is another one
    jobs: tuple[int, ...] = ()  # running tasks of the machine: drained first, ended when it goes
    after: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()  # verify: these alone; all of the group when empty
    image: str = ""
    cost: float | None = None
    avoid: tuple[str, ...] = ()  # places where it failed before
    removes: bool = False  # a machine that may work goes for good, or because it does not work
    withheld: bool = False  # action none: it would go over a budget

    @property
    def destroys_data(self) -> bool:
        """A machine that keeps state (anything but a worker) would be gone."""
        return self.action in PETS_KEEP and self.role != "worker"


@dataclass(frozen=True)
class Plan:
    """What ``up``, ``scale`` or ``down`` will do; nothing else is done."""

    site: str
    verb: str  # "up" or "down"
    made: float  # seconds since the epoch
    world: str  # digest of what it was decided for
    changes: tuple[Change, ...] = ()
    limit: str = ""
    keep_data: bool = False
    notes: tuple[str, ...] = field(default=())
    per_hour: float = 0.0  # what the site then costs, as far as prices are known

    @property
    def work(self) -> tuple[Change, ...]:
        """The changes that do something."""
        return tuple(change for change in self.changes if change.action is not Action.NONE)

    @property
    def withheld(self) -> tuple[Change, ...]:
        """The changes that a budget forbids."""
        return tuple(change for change in self.changes if change.withheld)

    @property
    def cost(self) -> float | None:
        """What the site costs more per hour afterwards; None when no price is known."""
        known = [change.cost for change in self.changes if change.cost is not None]
        return sum(known) if known else None

    @property
    def jobs(self) -> frozenset[int]:
        """Running tasks of machines that go."""
        return frozenset(task for change in self.changes for task in change.jobs)

    @property
    def destroys_data(self) -> tuple[Change, ...]:
        """Changes after which data is gone that cannot be made again."""
        return () if self.keep_data else tuple(c for c in self.changes if c.destroys_data)

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it back to an equal Plan."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that ``to_json`` wrote; UserError when it is none."""
        try:
            if data["format"] != FORMAT:
                raise UserError(f"the plan has format {data['format']!r}, this program reads {FORMAT}")
            rest = {key: value for key, value in data.items() if key not in ("format", "changes", "notes")}
            changes = tuple(_change(change) for change in data["changes"])
            return cls(**rest, changes=changes, notes=tuple(data["notes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"this is not a saved plan ({error}); make one with `plan --save FILE`"
            ) from error


def _change(data: Mapping[str, Any]) -> Change:
    special = {
        "action": Action(data["action"]),
        "fields": tuple(FieldChange(**each) for each in data["fields"]),
        **{name: tuple(data[name]) for name in ("needs", "jobs", "after", "machines", "avoid")},
    }
    return Change(**{**data, **special})


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain data, hex."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def world_digest(wanted: Mapping[str, Any], world: World) -> str:
    """Digest of what a plan depends on: what is wanted, and what there is. Times and health are left out."""
    machines: Sequence[Any] = sorted(
        [m.provider, m.name, m.state, m.address, m.applied, sorted(m.drift), sorted(m.tags.items())]
        for m in world.machines
    )
    known = sorted([r.name, r.provider] for r in world.records.values())
    opened = sorted([i.object, i.action] for i in world.open)
    return digest([wanted, machines, known, opened, dict(world.digests)])
