"""Who waits for what: turns PostgreSQL's NOTIFY into asyncio events for long polls."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from orchestrator.runtime.sql import Database

ANY = "*"


class Hub:
    """One LISTEN connection of a process, shared by all its long polls. ``run`` must be running."""

    def __init__(self, database: Database, channels: Sequence[str]) -> None:
        self.database = database
        self.channels = channels
        self._events: dict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._told: dict[str, list[Callable[[str], None]]] = defaultdict(list)

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until ``stop``; survives a restart of the database."""
        await self.database.listen(self.channels, self.heard, stop)

    def tell(self, channel: str, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the payload of each notification of ``channel`` ("": some may have been missed)."""
        self._told[channel].append(listener)

    def heard(self, channel: str, payload: str) -> None:
        """Wake those who wait for (channel, payload); an empty payload wakes all of the channel."""
        for listener in self._told[channel]:
            listener(payload)
        for (name, key), events in self._events.items():
            if name == channel and (key in (payload, ANY) or not payload):
                for event in events:
                    event.set()

    @contextlib.contextmanager
    def subscribed(self, channel: str, key: str = ANY) -> Iterator[asyncio.Event]:
        """An event that is set by each notification. Subscribe first, then look, then wait: nothing is missed."""
        event, place = asyncio.Event(), (channel, key)
        self._events[place].add(event)
        try:
            yield event
        finally:
            self._events[place].discard(event)
            if not self._events[place]:
                del self._events[place]
