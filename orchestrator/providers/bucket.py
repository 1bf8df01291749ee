"""When the next call to an infrastructure may be made. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST, LONGEST = 0.25, 60.0  # seconds between tries


@dataclass
class Bucket:
    """A token bucket: ``rate`` calls a second on average, ``burst`` at once. A rate of 0 is no limit."""

    rate: float
    burst: float
    tokens: float = 0.0
    at: float | None = None

    def take(self, now: float) -> float:
        """One call is booked; returns the seconds until it may be made."""
        if self.rate <= 0:
            return 0.0
        since = 0.0 if self.at is None else now - self.at
        tokens = self.burst if self.at is None else min(self.burst, self.tokens + since * self.rate)
        self.at, self.tokens = now, tokens - 1
        return max(0.0, -self.tokens / self.rate)


def back_off(tried: int, retry_in: float) -> float:
    """Seconds until the next try, after ``tried`` that failed and the last one's own advice."""
    return min(LONGEST, max(retry_in, SHORTEST * 2.0 ** (tried - 1)))
