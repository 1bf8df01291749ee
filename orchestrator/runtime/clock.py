"""The only place that reads the clock; everything else takes ``now`` or a Clock as an argument."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S", contravariant=True)


class Clock(Protocol):
    """Seconds since the epoch (UTC) and a monotonic counter; whoever waits, waits by it."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Until ``event`` is set or the seconds are over; whether it is set. A virtual clock jumps."""
        ...


class Inbox(Protocol[T]):
    """A queue of which one thread waits for what the others put in."""

    def put(self, item: T) -> None: ...
    def get(self, seconds: float) -> T:
        """The oldest item; queue.Empty when none comes within ``seconds``."""
        ...


class Timeline(Clock, Protocol):
    """A clock whose passing can be waited for, so that a simulated one may jump over the waits.

    A thread that works tells it by ``begin`` (before it starts) and ``end``: a simulated clock stands
    still as long as anybody works.
    """

    def sleep(self, seconds: float) -> None: ...
    def inbox(self) -> Inbox[T]: ...
    def begin(self, threads: int = 1) -> None: ...
    def end(self) -> None: ...


class _Queue(queue.SimpleQueue[T]):
    def get(self, seconds: float) -> T:  # type: ignore[override]
        return super().get(timeout=seconds) if seconds > 0 else super().get_nowait()


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)

    def inbox(self) -> Inbox[T]:
        return _Queue()

    def begin(self, threads: int = 1) -> None:
        """Real time passes whoever works."""

    def end(self) -> None:
        """Real time passes whoever works."""


@contextmanager
def aside(clock: Timeline) -> Iterator[None]:
    """The calling thread waits for others in a way that the clock cannot see."""
    clock.end()
    try:
        yield
    finally:
        clock.begin()


def each(clock: Timeline, things: Iterable[T], call: Callable[[T], R], hands: int) -> list[R]:
    """``call`` of each thing, in ``hands`` threads, in order; the first error is raised."""
    listed = list(things)
    if len(listed) < 2:
        return [call(thing) for thing in listed]
    shares = [listed[first::hands] for first in range(min(hands, len(listed)))]
    left, lock = len(shares), threading.Lock()

    def work(share: list[T]) -> list[R]:
        nonlocal left
        try:
            return [call(thing) for thing in share]
        finally:
            with lock:
                left -= 1
                last = left == 0
            if not last:
                clock.end()  # the last one works on in the caller's name

    clock.begin(len(shares) - 1)
    with ThreadPoolExecutor(len(shares)) as pool:
        done = list(pool.map(work, shares))
    answers: list[R] = [done[n % len(shares)][n // len(shares)] for n in range(len(listed))]
    return answers
