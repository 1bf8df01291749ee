"""The seeder program's loop: what PackMan laid down is seeded as long as it lies there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from orchestrator.runtime import logs

_ROUND = 1.0  # seconds


class Seeds(Protocol):
    """What orchestrator.software.torrent.seed.Seeder promises; blocking."""

    def start(self) -> Mapping[str, str]: ...
    def adopt(self, directory: Path) -> Mapping[str, str]: ...
    def maintain(self) -> Mapping[str, str]: ...


class Seeding:
    """Looks at ``releases`` once a second; every tenth time at all that is seeded."""

    def __init__(self, seeds: Seeds, releases: Path) -> None:
        self._seeds = seeds
        self._releases = releases
        self._rounds = 0
        self._told: dict[str, str] = {}
        self._log = logs.get("seeder")

    async def step(self) -> float:
        """One look; problems are logged once."""
        look: Callable[[], Mapping[str, str]] = self._seeds.maintain if self._rounds else self._seeds.start
        problems: dict[str, str] = {}
        if self._rounds % 10 == 0:
            problems |= await asyncio.to_thread(look)
        self._rounds += 1
        problems |= await asyncio.to_thread(self._seeds.adopt, self._releases)
        for name, what in problems.items():
            if self._told.get(name) != what:
                self._told[name] = what
                self._log.warning("cannot seed", name=name, what=what)
        return _ROUND
