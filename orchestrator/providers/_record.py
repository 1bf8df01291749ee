"""What a machine remembers of itself: ROOT/machine.json and ROOT/etc/applied.json. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.providers.base import MachineSpec


@dataclass(frozen=True)
class Record:
    """Content of machine.json, written last by ``create``: a root without it is no machine."""

    name: str
    group: str
    role: str
    vo: str
    site: str
    address: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """As JSON, sorted."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def record(spec: MachineSpec, vo: str, site: str, address: str) -> Record:
    """The record of a machine that is made from ``spec``."""
    return Record(spec.name, spec.group, spec.role, vo, site, address, dict(spec.tags))


def parse_record(text: str) -> Record | None:
    """The record in the text of a machine.json; None when it is damaged or not ours."""
    try:
        value: Any = json.loads(text)
        names = ("name", "group", "role", "vo", "site", "address")
        if not all(isinstance(value[name], str) for name in names):
            return None
        return Record(**{name: value[name] for name in names}, tags=dict(value.get("tags", {})))
    except (ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class Applied:
    """Content of applied.json: the role digest, and the SHA-256 of every managed file."""

    digest: str
    files: Mapping[str, str]


def parse_applied(text: str) -> Applied | None:
    """The manifest in the text of an applied.json; None when it is damaged."""
    try:
        value: Any = json.loads(text)
        return Applied(str(value["digest"]), {str(name): str(sha) for name, sha in value["files"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def compare(applied: Applied | None, sums: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """(digest when every managed file is as it was left, else "", files that differ or are missing)."""
    if applied is None:
        return "", ()
    drift = tuple(sorted(name for name, sha in applied.files.items() if sums.get(name) != sha))
    return ("" if drift else applied.digest), drift
