"""Commands on their way from central to the site's agents, and heartbeats on the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from orchestrator.runtime.daemon import wait_any
from orchestrator.tasks.model import KILL, Beat, Command

Key = tuple[int, int]
_KEPT = 120.0  # seconds a verdict "stale" is repeated to an agent that does not hear


class Mailbox:
    """Commands that wait for their agents. A command is handed out again until it is answered."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._commands: dict[int, Command] = {}
        self._stale: dict[Key, float] = {}
        self._woken: set[asyncio.Event] = set()

    def put(self, commands: Sequence[Command]) -> bool:
        """All that central has for us now, and nothing else; returns whether one is new."""
        fresh = {each.id: each for each in commands}
        new = bool(fresh.keys() - self._commands.keys())
        self._commands = fresh
        if new:
            self._wake()
        return new

    def stale(self, keys: Sequence[Key]) -> None:
        """These attempts are over: whoever runs them must stop."""
        for key in keys:
            self._stale[key] = self._now()
        if keys:
            self._wake()

    def get(self, number: int) -> Command | None:
        """The unanswered command with that id."""
        return self._commands.get(number)

    def drop(self, number: int) -> None:
        """It was answered."""
        self._commands.pop(number, None)

    def ended(self, key: Key) -> None:
        """The attempt is over on our side too."""
        self._stale.pop(key, None)

    def pending(self, keys: set[Key]) -> list[Command]:
        """What the agent of these attempts must do."""
        now = self._now()
        self._stale = {key: at for key, at in self._stale.items() if now - at < _KEPT}
        kills = [
            Command(0, task, attempt, KILL, {"reason": "the attempt is over"})
            for task, attempt in sorted(keys & self._stale.keys())
        ]
        return kills + [each for each in self._commands.values() if (each.task, each.attempt) in keys]

    def unclaimed(self, known: Callable[[Key], bool]) -> list[Command]:
        """Commands for attempts that nobody here runs."""
        return [each for each in self._commands.values() if not known((each.task, each.attempt))]

    async def wait(self, keys: Callable[[], set[Key]], seconds: float) -> list[Command]:
        """``pending`` as soon as there is something, at most ``seconds`` later."""
        woken = asyncio.Event()
        self._woken.add(woken)
        give_up = self._now() + seconds
        try:
            while True:
                found = self.pending(keys())
                left = give_up - self._now()
                if found or left <= 0:
                    return found
                woken.clear()
                await wait_any(left, woken)
        finally:
            self._woken.discard(woken)

    def _wake(self) -> None:
        for event in self._woken:
            event.set()


class Beats:
    """Heartbeats since the last delivery: the newest of each attempt."""

    def __init__(self) -> None:
        self._beats: dict[Key, Beat] = {}

    def put(self, beat: Beat) -> None:
        """Deliver it with the next batch."""
        self._beats[beat.task, beat.attempt] = beat

    def take(self) -> list[Beat]:
        """All that wait; give them back with ``restore`` if they could not be delivered."""
        taken, self._beats = list(self._beats.values()), {}
        return taken

    def restore(self, beats: Sequence[Beat]) -> None:
        """These were not delivered; newer ones count more."""
        for beat in beats:
            self._beats.setdefault((beat.task, beat.attempt), beat)
