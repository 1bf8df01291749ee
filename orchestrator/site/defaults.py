"""What is true when the file does not say so. Works on the file's plain data, right or wrong. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.site.fields import NAME

DEFAULT_SE = "disk"
_DOMAIN = "example.org"


def filled(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the provider ``local``, the SE ``disk`` and the repository ``<vo>.example.org``
    added where the file has none; parts of a wrong type are left for validation to tell."""
    site = {key: value for key, value in data.items() if value is not None or key not in _SECTIONS}
    providers = site.get("providers", {})
    if isinstance(providers, Mapping) and "local" not in providers:
        site["providers"] = {"local": {"kind": "local"}, **providers}
    vobox = first_vobox(site.get("groups"))
    if vobox is None:
        return site
    if site.get("storage_elements", {}) == {}:
        site["storage_elements"] = {DEFAULT_SE: {"vobox": vobox}}
    software = site.get("software", {})
    vo = site.get("vo")
    named = isinstance(vo, str) and re.fullmatch(NAME, vo) is not None
    if named and isinstance(software, Mapping) and software.get("repositories") in (None, {}):
        site["software"] = {**software, "repositories": {f"{vo}.{_DOMAIN}": {"server": vobox}}}
    return site


# `software:` with nothing under it is null in YAML: it means "all defaults", not an error.
_SECTIONS = frozenset(
    {
        "providers",
        "computing_elements",
        "storage_elements",
        "software",
        "security",
        "budgets",
        "archive",
        "monitoring",
    }
)


def first_vobox(groups: Any) -> str | None:
    """Name of the first group of role vobox, of plain data or of models."""
    if not isinstance(groups, Mapping):
        return None
    for name, group in groups.items():
        role = group.get("role") if isinstance(group, Mapping) else getattr(group, "role", None)
        if isinstance(role, str) and role == "vobox":
            # After a wrong name nothing is filled in: the mistake would be told twice.
            return name if isinstance(name, str) and re.fullmatch(NAME, name) else None
    return None
