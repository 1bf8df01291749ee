"""A computing element's settings, from ROOT/etc/vobox.json. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from orchestrator.errors import UserError


@dataclass(frozen=True)
class CeConfig:
    """One CE. ``ttl`` in seconds, ``memory`` (of one agent) in bytes; 0: its share of what the node has."""

    name: str
    kind: str
    slots: int
    min_idle: int
    max_agents: int
    ttl: float
    cores: int
    memory: int
    idle_timeout: float  # an agent without work ends after so many seconds
    partitions: tuple[str, ...]
    close_se: tuple[str, ...]

    @classmethod
    def of(cls, name: str, data: Mapping[str, Any]) -> Self:
        """Read it; UserError when the batch system is not one this version knows."""
        batch = data.get("batch") or {}
        kind = str(batch.get("kind", "fork"))
        if kind != "fork":
            raise UserError(f"CE {name}: batch kind {kind!r} is unknown; use fork", ce=name)
        slots = int(batch.get("slots", 1))
        return cls(
            name=name,
            kind=kind,
            slots=slots,
            min_idle=int(data.get("min_idle", 0)),
            max_agents=int(data.get("max_agents") or slots),
            ttl=float(data.get("ttl", 12 * 3600.0)),
            cores=int(data.get("cores", 1)),
            memory=int(data.get("memory", 0)),
            idle_timeout=float(data.get("idle_timeout", 900.0)),
            partitions=tuple(str(each) for each in data.get("partitions", ())),
            close_se=tuple(str(each) for each in data.get("close_se", ())),
        )
