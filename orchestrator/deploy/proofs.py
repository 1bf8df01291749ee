"""Workers that run, and whose kind has yet to prove itself: others like them wait until they ask for work.

An image that boots is no proof: its context may have failed all the same. All are asked in one question.
Owned by the apply loop; not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Health
from orchestrator.deploy.observe import answers
from orchestrator.deploy.plan import Change
from orchestrator.errors import TemporaryError
from orchestrator.providers.base import Machine

_FIRST, _LONGEST, _GROWTH = 0.25, 5.0, 1.4  # seconds between questions
_EACH = 0.002  # seconds more between questions for each machine in one
_IDLE = 60.0


class Proofs:
    """Changes that made a worker which runs."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._held: dict[str, tuple[Change, Machine, float]] = {}  # machine → change, it, deadline
        self._kinds: dict[tuple[str, str], Change] = {}  # provider and group → one of its changes
        self._next, self._gap, self._asking = 0.0, _FIRST, False

    def add(self, change: Change, machine: Machine) -> None:
        """Wait until that machine does its work, as long as a group is given for it."""
        now = self._ctx.clock.monotonic()
        self._kinds[change.provider, change.group] = change
        self._held[machine.name] = (change, machine, now + self._ctx.limits.verify)
        self._gap, self._next = _FIRST, min(self._next, now + _FIRST) if self._next > now else now + _FIRST

    def poll(self, submit: Callable[[Callable[[], Mapping[str, Health]]], None]) -> None:
        """Have them asked, if it is time."""
        if self._held and not self._asking and self._next <= self._ctx.clock.monotonic():
            self._asking = True
            machines = [machine for _, machine, _ in self._held.values()]
            submit(lambda: answers(self._ctx, machines))

    def answered(
        self, future: Future[Mapping[str, Health]]
    ) -> Iterator[tuple[Change, TemporaryError | None]]:
        """Changes that are decided by an answer: None when the worker does its work, or why it does not."""
        self._asking, now = False, self._ctx.clock.monotonic()
        found = future.result()
        self._gap = max(min(self._gap * _GROWTH, _LONGEST), _EACH * len(self._held))
        self._next = now + self._gap
        for name, health in found.items():
            change, _, deadline = self._held.get(name, (None, None, 0.0))
            if change is None or not (health.ok or now >= deadline):
                continue
            del self._held[name]
            waited = f"(waited {self._ctx.limits.verify:.0f} s)"
            error = TemporaryError(f"{name} runs, but {health.what} {waited}", machine=name)
            yield change, None if health.ok else error

    def release(self, waits: Callable[[Change], bool]) -> list[Change]:
        """Changes that nobody waits for any more; the look at their group sees how they end."""
        # The loop comes by often, and thousands may be held: one of each group speaks for all of it.
        done = {key for key, change in self._kinds.items() if not waits(change)}
        if not done:
            return []
        self._kinds = {key: change for key, change in self._kinds.items() if key not in done}
        free = [change for change, _, _ in self._held.values() if (change.provider, change.group) in done]
        for change in free:
            del self._held[change.object]
        return free

    @property
    def pause(self) -> float:
        """Seconds until the next question is due; large when none is."""
        if not self._held or self._asking:
            return _IDLE
        return max(0.0, self._next - self._ctx.clock.monotonic())
