"""A mover that only accounts: for the simulation of transfers. No byte moves, but everything else is as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.errors import PermanentError
from orchestrator.transfers.model import DESTINATION, SOURCE, Content, Place
from orchestrator.transfers.mover import Progress

Speed = Callable[[str, str], float]  # (source, target) → bytes per second


@dataclass
class Accounting:
    """``copies`` is the world: what each URL holds. A move lasts as long as ``speed`` of its link says."""

    copies: dict[str, Content] = field(default_factory=dict)
    speed: Speed = lambda _source, _target: float("inf")
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    moved: list[tuple[str, str, int]] = field(default_factory=list)  # source, target, bytes

    async def holds(self, place: Place, content: Content) -> bool:
        return self.copies.get(place.url) == content

    async def move(self, source: Place, target: Place, content: Content, progress: Progress) -> None:
        self._check(source, content, SOURCE)
        if target.url in self.copies:
            self._check(target, content, DESTINATION)
            return
        await self.sleep(content.size / self.speed(source.se, target.se))
        self._check(source, content, SOURCE)
        progress(content.size)
        self.copies[target.url] = content
        self.moved.append((source.se, target.se, content.size))

    def _check(self, place: Place, content: Content, blame: str) -> None:
        found = self.copies.get(place.url)
        if found != content:
            raise PermanentError(f"{place.se} has {found or 'nothing'} at {place.url}", blame=blame)

    async def remove(self, place: Place) -> None:
        self.copies.pop(place.url, None)
