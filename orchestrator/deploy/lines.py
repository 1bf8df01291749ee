"""Calls that wait: for a free hand at their provider, and for the breaker of their kind of machine.

Owned by the apply loop; not thread-safe.
"""

from __future__ import annotations

from collections import Counter, deque

from orchestrator.deploy.actions import Interrupted
from orchestrator.deploy.context import Context
from orchestrator.deploy.model import Action
from orchestrator.deploy.plan import Change
from orchestrator.errors import PermanentError
from orchestrator.providers.base import QuotaExceeded
from orchestrator.providers.breaker import Answer
from orchestrator.providers.guard import Kind

CALLS = frozenset({Action.CREATE, Action.REPLACE, Action.DESTROY, Action.DRAIN, Action.UNDRAIN})
_MAKING = (Action.CREATE, Action.REPLACE)
_LONG = 60.0
_GATHER = 0.1  # seconds that a few free hands wait for more


class Stormed(PermanentError):
    """Too many machines of this kind failed; no more are tried."""


class Lines:
    """Changes that call a provider, first come first served within a kind."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._waiting: dict[tuple[str, Kind | None], deque[Change]] = {}
        self._calls: Counter[str] = Counter()  # per provider
        self._free: dict[str, float] = {}  # provider → since when a few hands wait for more
        self.pause = _LONG  # seconds until a breaker may let the next one through

    def add(self, change: Change) -> None:
        """That change is ready to call its provider."""
        self._waiting.setdefault((change.provider, self._kind(change)), deque()).append(change)

    @property
    def waiting(self) -> set[str]:
        """Ids of the changes that wait."""
        return {change.id for line in self._waiting.values() for change in line}

    @property
    def any(self) -> bool:
        """Some change waits."""
        return any(self._waiting.values())

    def take(self) -> tuple[list[Change], list[tuple[Change, Stormed]]]:
        """Changes whose call starts now, and those that are given up."""
        chosen: list[Change] = []
        refused: list[tuple[Change, Stormed]] = []
        self.pause = _LONG
        closed = {provider for provider, _ in self._waiting if not self._worth(provider)}
        for (provider, kind), line in self._waiting.items():
            if provider in closed:
                continue
            guard = self._ctx.provider(provider)
            while line and self._calls[provider] < self._ctx.parallel(provider):
                answer, pause = (Answer.GO, 0.0) if kind is None else guard.admit(kind)
                if answer is Answer.REFUSE:
                    refused += [(change, self._storm(change)) for change in line]
                    line.clear()
                elif answer is Answer.WAIT:
                    self.pause = min(self.pause, pause or _LONG)
                    break
                else:
                    self._calls[provider] += 1
                    if kind is not None:
                        guard.begun(kind)
                    chosen.append(line.popleft())
        return chosen, refused

    def _worth(self, provider: str) -> bool:
        """Enough hands are free, or have been for a while: what starts together has its intents written
        together, and a quarter of the hands at a time keeps the disk from setting the pace."""
        many, busy = self._ctx.parallel(provider), self._calls[provider]
        if not busy or many - busy >= max(1, many // 4):
            self._free.pop(provider, None)
            return True
        now = self._ctx.clock.monotonic()
        since = self._free.setdefault(provider, now) if busy < many else now
        if now - since >= _GATHER:
            self._free.pop(provider, None)
            return True
        if busy < many:
            self.pause = min(self.pause, max(0.001, since + _GATHER - now))
        return False

    def _storm(self, change: Change) -> Stormed:
        kind = self._kind(change)
        failed = self._ctx.provider(change.provider).in_a_row(kind) if kind else 0
        what = f" with image {change.image}" if change.image else ""
        return Stormed(
            f"not tried, since {failed} machines of role {change.role}{what}"
            f" failed in a row at {change.provider}",
            machine=change.object,
        )

    def returned(self, change: Change) -> None:
        """Its call is over."""
        if change.action in CALLS:
            self._calls[change.provider] -= 1

    def like(self, change: Change) -> bool:
        """Others of the same kind wait, and may have to learn how this one ends."""
        return bool(self._waiting.get((change.provider, self._kind(change))))

    def ended(self, change: Change, error: BaseException | None, proved: bool) -> None:
        """The machine came up, or will not; its breaker is told. Not ``proved``: it only seems to have."""
        kind = self._kind(change)
        if kind is None:
            return
        guard = self._ctx.provider(change.provider)
        if error is None:
            (guard.came_up if proved else guard.dropped)(kind)
        elif isinstance(error, QuotaExceeded | Interrupted) or self._ctx.stop.is_set():
            guard.dropped(kind)
        else:
            guard.failed(kind)

    def _kind(self, change: Change) -> Kind | None:
        if change.action not in _MAKING:
            return None
        return Kind(change.image, change.role, self._ctx.site.group(change.group).context or "")
