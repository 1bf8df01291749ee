"""One wrapper around any provider: patience, rate limit, quota, and a breaker for each kind of machine.

Adapters know none of this. The breakers need to hear how the machines they let through ended, which only
the caller sees: ``begun``, then ``came_up``, ``failed`` or ``dropped``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.providers.base import (
    HasOfferings,
    HasSome,
    Machine,
    MachineSpec,
    Offering,
    Provider,
    QuotaExceeded,
    bare,
)
from orchestrator.providers.breaker import Answer, Breaker
from orchestrator.providers.bucket import Bucket, back_off
from orchestrator.runtime.clock import Clock

T = TypeVar("T")


class Kind(NamedTuple):
    """Machines that fail or work alike (at one provider)."""

    image: str
    role: str
    context: str = ""


@dataclass(frozen=True)
class Allowance:
    """What may be asked of one provider; 0 is no limit."""

    tries: int = 4  # of one call that fails temporarily
    rate: float = 0.0  # calls per second
    burst: int = 10  # calls at once, before the rate holds
    machines: int = 0  # that may exist at the same time
    cores: int = 0  # of all machines, where the provider tells its offerings


class Guarded:
    """The port ``Provider`` around another one. Safe for several threads."""

    def __init__(self, inner: Provider, clock: Clock, stop: threading.Event, allowed: Allowance) -> None:
        self.name, self.inner = inner.name, inner
        self._clock, self._stop, self._allowed = clock, stop, allowed
        self._bucket = Bucket(allowed.rate, allowed.burst)
        self._breakers: dict[Kind, Breaker] = {}
        self._sizes: dict[str, str] = {}  # machine that exists → offering
        self._making: dict[str, str] = {}  # machine whose making is not known to have failed → offering
        self._mutex = threading.Lock()
        self._offerings: Mapping[str, Offering] | None = None

    def list(self) -> Sequence[Machine]:
        """As the port says; each machine once, even when the infrastructure lists it twice."""
        found = {machine.name: machine for machine in self._patiently(self.inner.list)}
        with self._mutex:
            self._sizes = {name: machine.tags.get("offering", "") for name, machine in found.items()}
        return [*found.values()]

    def some(self, names: Collection[str]) -> Sequence[Machine]:
        """At least the machines of those names, as ``list`` shows them."""
        told = bare(self.inner)
        return self._patiently(lambda: told.some(names)) if isinstance(told, HasSome) else self.list()

    def create(self, spec: MachineSpec) -> Machine:
        """As the port says; QuotaExceeded when the site spec allows no more machines or cores here."""
        with self._mutex:
            new = spec.name not in self._sizes and spec.name not in self._making
            if new and (full := self._full(spec)):
                raise QuotaExceeded(f"{spec.name}: {full}", machine=spec.name)
            self._making[spec.name] = spec.offering
        try:
            made = self._patiently(lambda: self.inner.create(spec))
        except (QuotaExceeded, PermanentError):
            self._forget(spec.name)
            raise
        with self._mutex:
            self._sizes[spec.name] = self._making.pop(spec.name, spec.offering)
        return made

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        """As the port says."""
        self._patiently(lambda: self.inner.destroy(name, keep_data=keep_data))
        self._forget(name)

    def offerings(self) -> Mapping[str, Offering]:
        """Sizes of machines, asked once; none when the infrastructure does not tell."""
        if self._offerings is None:
            told = bare(self.inner)
            self._offerings = self._patiently(told.offerings) if isinstance(told, HasOfferings) else {}
        return self._offerings

    # --- the breakers

    def admit(self, kind: Kind) -> tuple[Answer, float]:
        """Whether one more of that kind may be begun, and the seconds until asking again makes sense."""
        with self._mutex:
            breaker, now = self._breaker(kind), self._clock.monotonic()
            return breaker.admit(now), breaker.pause(now)

    def begun(self, kind: Kind) -> None:
        """One of that kind is being made."""
        with self._mutex:
            self._breaker(kind).begun()

    def came_up(self, kind: Kind) -> None:
        """One that was begun runs."""
        with self._mutex:
            self._breaker(kind).came_up()

    def failed(self, kind: Kind) -> None:
        """One that was begun will never run."""
        with self._mutex:
            self._breaker(kind).failed(self._clock.monotonic())

    def dropped(self, kind: Kind) -> None:
        """One that was begun ended for a reason that says nothing about its kind."""
        with self._mutex:
            self._breaker(kind).dropped()

    def in_a_row(self, kind: Kind) -> int:
        """How many of that kind failed since the last that came up."""
        with self._mutex:
            return self._breaker(kind).row

    def _breaker(self, kind: Kind) -> Breaker:
        return self._breakers.setdefault(kind, Breaker())

    # --- quota and patience

    def _full(self, spec: MachineSpec) -> str:
        most, cores = self._allowed.machines, self._allowed.cores
        held = self._making | self._sizes
        if most and len(held) >= most:
            return (
                f"provider {self.name} may have {most} machines (`machines` in the site spec), and has them"
            )
        if cores:
            used = sum(self._cores(offering) for offering in held.values())
            if used + self._cores(spec.offering) > cores:
                return (
                    f"provider {self.name} may use {cores} cores (`cores` in the site spec), {used} are used"
                )
        return ""

    def _cores(self, offering: str) -> int:
        size = (self._offerings or {}).get(offering)
        return size.cores if size else 1

    def _forget(self, name: str) -> None:
        with self._mutex:
            self._sizes.pop(name, None)
            self._making.pop(name, None)

    def _patiently(self, call: Callable[[], T]) -> T:
        """``call`` at the allowed rate, and again when it fails temporarily, a bounded number of times."""
        for tried in range(1, max(1, self._allowed.tries) + 1):
            with self._mutex:
                pause = self._bucket.take(self._clock.monotonic())
            if pause > 0 and self._clock.wait(self._stop, pause):
                raise TemporaryError(f"provider {self.name}: stopped before the call was made")
            try:
                return call()
            except QuotaExceeded:
                raise
            except TemporaryError as error:
                if tried >= self._allowed.tries:
                    raise
                if self._clock.wait(self._stop, back_off(tried, error.retry_in)):
                    raise
        raise AssertionError("unreachable")
