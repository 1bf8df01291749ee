"""A VO box's configuration: ROOT/etc/vobox.json. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from orchestrator.errors import UserError


@dataclass(frozen=True)
class VoBoxConfig:
    """What the VO box is and where central is. ``computing_elements``: name → settings as in site.yaml."""

    vo: str
    site: str
    machine: str
    address: str  # this machine's, where all its services listen
    central: str  # URL
    broker: str  # URL
    clustermonitor: str  # URL
    computing_elements: Mapping[str, Mapping[str, Any]]
    storage_elements: Mapping[str, Mapping[str, Any]]
    close_se: tuple[str, ...]  # of the whole site: near every agent whose CE does not say otherwise
    repositories: tuple[str, ...]
    method: str
    agent_file: str  # "": ROOT/data/www/agent/orchestrate-agent

    @classmethod
    def of(cls, data: Any) -> Self:
        """Read it; UserError names what is missing."""
        if not isinstance(data, Mapping):
            raise UserError("vobox.json must hold a JSON object; run `orchestrate up` again")
        needed = ("vo", "site", "machine", "address", "central", "broker")
        if missing := [key for key in needed if not isinstance(data.get(key), str)]:
            raise UserError(f"vobox.json lacks {', '.join(missing)}; run `orchestrate up` again")
        text = {key: str(data[key]) for key in needed}
        storage = _named(data.get("storage_elements", {}))
        return cls(
            **text,
            clustermonitor=str(data.get("clustermonitor") or f"https://{text['address']}:8445"),
            computing_elements=_named(data.get("computing_elements", {})),
            storage_elements=storage,
            close_se=tuple(sorted(str(each) for each in data.get("close_se", storage))),
            repositories=tuple(str(each) for each in data.get("repositories", ())),
            method=str(data.get("method") or "torrent"),
            agent_file=str(data.get("agent_file") or ""),
        )


def _named(value: Any) -> dict[str, Mapping[str, Any]]:
    """Name → settings, from a mapping or from a list of settings that have a name."""
    if isinstance(value, Mapping):
        return {str(name): dict(settings) for name, settings in value.items()}
    return {str(each["name"]): dict(each) for each in value}
