"""A clock that jumps: when nobody works, it is at once the time that the first sleeper waits for."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
from collections import deque
from typing import Generic, TypeVar

from orchestrator.runtime.clock import Inbox

T = TypeVar("T")


class _Sleeper:
    """One wait: ``gate`` opens once, by the clock or by whoever wakes it earlier."""

    __slots__ = ("gate", "woken")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.woken = False


class VirtualClock:
    """Seconds since the epoch that pass only while every thread that has begun waits for this clock.

    The thread that makes it counts as working. Sleepers are woken one at a time, in the order of their
    times, so that a run is the same each time as far as the threads' own order allows.
    """

    def __init__(self, start: float) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._working = 1
        self._sleepers: list[tuple[float, int, _Sleeper]] = []
        self._number = itertools.count()

    def now(self) -> float:
        """Virtual seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """The same: a virtual clock never goes back."""
        return self._now

    def reach(self, at: float) -> None:
        """It is at least ``at`` now: another process has moved the simulated world on."""
        with self._lock:
            self._now = max(self._now, at)

    def sleep(self, seconds: float) -> None:
        """Returns when it is that much later."""
        if seconds > 0:
            with self._lock:
                sleeper = self._lie_down(seconds)
            sleeper.gate.acquire()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """``sleep``, unless ``event`` is set already; whether it is set afterwards."""
        if not event.is_set():
            self.sleep(seconds)
        return event.is_set()

    def inbox(self) -> Inbox[T]:
        """A queue whose ``get`` is a wait of this clock."""
        return _Inbox(self)

    def begin(self, threads: int = 1) -> None:
        """So many more threads work."""
        with self._lock:
            self._working += threads

    def end(self) -> None:
        """One thread less works."""
        with self._lock:
            self._working -= 1
            self._jump()

    def _lie_down(self, seconds: float) -> _Sleeper:
        """With the lock held; the caller waits at the sleeper's gate after it has released the lock."""
        sleeper = _Sleeper()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._number), sleeper))
        self._working -= 1
        self._jump()
        return sleeper

    def _jump(self) -> None:
        while self._working <= 0 and self._sleepers:
            at, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.woken:
                self._now = max(self._now, at)
                self._wake(sleeper)

    def _wake(self, sleeper: _Sleeper) -> None:
        sleeper.woken = True
        self._working += 1
        sleeper.gate.release()


class _Inbox(Generic[T]):
    """One reader; putting wakes it at the present time."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._items: deque[T] = deque()
        self._reader: _Sleeper | None = None

    def put(self, item: T) -> None:
        """The reader, if it waits, works from now on."""
        with self._clock._lock:
            self._items.append(item)
            if self._reader is not None and not self._reader.woken:
                self._clock._wake(self._reader)

    def get(self, seconds: float) -> T:
        """The oldest item; queue.Empty when none comes within virtual ``seconds``."""
        with self._clock._lock:
            if self._items:
                return self._items.popleft()
            if seconds <= 0:
                raise queue.Empty
            self._reader = self._clock._lie_down(seconds)
        self._reader.gate.acquire()
        with self._clock._lock:
            self._reader = None
            if self._items:
                return self._items.popleft()
        raise queue.Empty
