"""A simulated cloud: a process of its own, seeded, with its state on disk and a virtual clock.

``cloud`` decides (pure), ``store`` keeps, ``server`` is the process, ``link`` talks to it and ``client``
is the port. The server imports none of the last two, so that it starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.providers.sim.client import SimProvider
    from orchestrator.site.schema import SimProvider as Settings
    from orchestrator.site.schema import Site


def make(name: str, settings: Settings, site: Site, state_dir: Path) -> SimProvider:
    """The simulated cloud called ``name`` in the site spec; nothing runs before it is needed."""
    from orchestrator.providers.sim.client import SimProvider

    return SimProvider(name, settings, site, state_dir)
