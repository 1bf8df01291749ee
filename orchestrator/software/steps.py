"""The steps of a publication, and how far each is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from orchestrator.runtime.clock import Clock

T = TypeVar("T")


class Step(StrEnum):
    """The steps, in order."""

    CHECK = "check"
    ARCHIVE = "archive"
    REPOSITORY = "repository"
    TORRENT = "torrent"
    UPLOAD = "upload"
    ENTRY = "entry"
    SEED = "seed"


@dataclass(frozen=True, slots=True)
class Progress:
    """``done`` of ``total`` bytes of a step (0: not known) after ``seconds``; ``note`` when it has ended."""

    step: Step
    done: int
    total: int
    seconds: float
    ended: bool = False
    note: str = ""

    @property
    def rate(self) -> float:
        """Bytes per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


Sink = Callable[[Progress], None]


@dataclass(frozen=True)
class Meter:
    """Times steps and tells of them."""

    clock: Clock
    sink: Sink

    async def time(self, step: Step, work: Awaitable[T], told: Callable[[T], tuple[int, str]]) -> T:
        """``work``'s result; ``told`` makes its bytes and note."""
        begun = self.clock.monotonic()
        self.sink(Progress(step, 0, 0, 0.0))
        result = await work
        size, note = told(result)
        self.sink(Progress(step, size, size, self.clock.monotonic() - begun, True, note))
        return result

    def within(self, step: Step) -> Callable[[int, int], None]:
        """What a step calls with bytes done and bytes in all."""
        begun = self.clock.monotonic()
        return lambda done, total: self.sink(Progress(step, done, total, self.clock.monotonic() - begun))
