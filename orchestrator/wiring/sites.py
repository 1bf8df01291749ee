"""What every composition root knows of a site: where its state lies, and its providers."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from orchestrator.providers.base import Provider
from orchestrator.site.schema import Site


def state_directory(site_file: Path, site: Site) -> Path:
    """``.orchestrate/<site>`` beside the site spec: ledger, keys, evidence, local machines."""
    return site_file.resolve().parent / ".orchestrate" / site.site


def providers(site: Site, state_dir: Path) -> Mapping[str, Provider]:
    """The providers that the site names, by the site's names for them."""
    made: dict[str, Provider] = {}
    for name, settings in site.providers.items():
        module = importlib.import_module(f"orchestrator.providers.{settings.kind}")
        made[name] = module.make(name, settings, site, state_dir)
    return made
