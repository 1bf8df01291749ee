"""The only place that reads the clock; everything else takes ``now`` or a Clock as an argument."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch (UTC) and a monotonic counter; whoever waits, waits by it."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Until ``event`` is set or the seconds are over; whether it is set. A virtual clock jumps."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)
