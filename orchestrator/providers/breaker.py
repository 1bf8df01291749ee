"""Stop a failure storm: machines of one kind that never come up are not made by the hundred. Pure.

A kind is (provider, image, role, context). Until one machine of it has come up, START at most are made;
each that does lets GROW more be under way. The breaker opens when the first START all fail, later when
TRIP fail in a row: nothing is made until a pause is over, then one machine alone is tried (half-open).
PROBES such trials that fail end the attempts for a long time. So a kind that never comes up costs at most
START + PROBES machines; one that stops coming up costs those under way at that time, and PROBES.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

START = 5
GROW = 10
TRIP = 8
PROBES = 2
MOST = START + PROBES  # machines that a kind costs which never comes up
COOL = 30.0  # seconds until the first trial; doubled for each one after it
FORGET = 900.0  # seconds after which a process that still runs tries once more


class Answer(StrEnum):
    """Whether one more machine of a kind may be begun."""

    GO = "go"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass
class Breaker:
    """What is known of one kind. Every GO must be followed by ``begun``, and later by one of the ends."""

    under_way: int = 0
    successes: int = 0  # since the last trouble
    row: int = 0  # failures in a row
    opened: float | None = None  # when it opened last; None: closed
    probes: int = 0  # trials since it opened first

    def admit(self, now: float) -> Answer:
        """May one more be begun? WAIT: ask again when one has ended, or after ``pause``."""
        if self.opened is None:
            free = START + GROW * self.successes - self.under_way - self.row
            return Answer.GO if free > 0 else Answer.WAIT
        if self.under_way:
            return Answer.WAIT
        if self.probes >= PROBES and now < self.opened + FORGET:
            return Answer.REFUSE
        return Answer.GO if self.pause(now) <= 0 else Answer.WAIT

    def pause(self, now: float) -> float:
        """Seconds until a trial may be made; 0 when no time has to pass."""
        if self.opened is None:
            return 0.0
        return max(0.0, self.opened + COOL * 2.0 ** min(self.probes, PROBES) - now)

    def begun(self) -> None:
        """One more is being made."""
        self.under_way += 1
        if self.opened is not None:
            self.probes += 1

    def came_up(self) -> None:
        """One that was begun works."""
        self._ended()
        self.successes, self.row = self.successes + 1, 0
        self.opened, self.probes = None, 0

    def failed(self, now: float) -> None:
        """One that was begun will never work."""
        self._ended()
        self.row += 1
        if self.row >= (TRIP if self.successes else START):
            self.opened, self.successes = now, 0

    def dropped(self) -> None:
        """One that was begun ended for a reason that says nothing about its kind."""
        self._ended()

    def _ended(self) -> None:
        self.under_way = max(0, self.under_way - 1)
