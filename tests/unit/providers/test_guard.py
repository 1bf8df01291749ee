"""The wrapper around providers: retries, rate, quota, optional ports, by a clock that jumps."""

import threading
from collections.abc import Mapping, Sequence

import pytest

from orchestrator.errors import PermanentError, TemporaryError
from orchestrator.providers.base import (
    HasConsole,
    HasOfferings,
    Machine,
    MachineSpec,
    MachineState,
    Offering,
    QuotaExceeded,
    bare,
)
from orchestrator.providers.guard import Allowance, Guarded
from orchestrator.runtime.virtual import VirtualClock


class Cloud:
    """Machines in memory; ``errors`` are raised by the next calls."""

    name = "cloud"

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.errors: list[Exception] = []
        self.times: list[float] = []
        self.clock = VirtualClock(0.0)

    def _call(self) -> None:
        self.times.append(self.clock.now())
        if self.errors:
            raise self.errors.pop(0)

    def list(self) -> Sequence[Machine]:
        self._call()
        return [*self.machines.values(), *self.machines.values()]  # some clouds list twice

    def create(self, spec: MachineSpec) -> Machine:
        made = Machine(spec.name, spec.group, spec.role, self.name, MachineState.RUNNING, tags=spec.tags)
        self.machines[spec.name] = made  # the answer may be lost
        self._call()
        return made

    def destroy(self, name: str, *, keep_data: bool = False) -> None:
        self._call()
        self.machines.pop(name, None)

    def offerings(self) -> Mapping[str, Offering]:
        self._call()
        return {"big": Offering(8), "small": Offering(2)}


def guarded(cloud: Cloud, **allowed: float) -> Guarded:
    return Guarded(cloud, cloud.clock, threading.Event(), Allowance(**allowed))  # type: ignore[arg-type]


def spec(n: int, offering: str = "") -> MachineSpec:
    return MachineSpec(f"m-{n}", "m", "worker", offering=offering, tags={"offering": offering})


def test_a_lost_reply_is_asked_for_again_and_makes_one_machine() -> None:
    cloud = Cloud()
    cloud.errors = [TemporaryError("lost", retry_in=3.0), TemporaryError("throttled")]
    assert guarded(cloud).create(spec(1)).name == "m-1"
    assert len(cloud.machines) == 1
    assert cloud.times == [0.0, 3.0, 4.0]


def test_what_cannot_help_is_not_repeated_and_patience_ends() -> None:
    cloud = Cloud()
    cloud.errors = [PermanentError("no such image")]
    with pytest.raises(PermanentError):
        guarded(cloud).create(spec(1))
    assert len(cloud.times) == 1
    cloud.errors = [TemporaryError("away")] * 9
    with pytest.raises(TemporaryError):
        guarded(cloud, tries=3).list()
    assert len(cloud.times) == 4


def test_calls_keep_to_the_rate() -> None:
    cloud = Cloud()
    guard = guarded(cloud, rate=0.5, burst=2)
    for _ in range(4):
        guard.list()
    assert cloud.times == [0.0, 0.0, 2.0, 4.0]


def test_stopping_ends_the_waits() -> None:
    cloud, stop = Cloud(), threading.Event()
    stop.set()
    cloud.errors = [TemporaryError("away", retry_in=600.0)]
    with pytest.raises(TemporaryError):
        Guarded(cloud, cloud.clock, stop, Allowance()).list()
    assert cloud.clock.now() == 0.0


def test_no_more_machines_or_cores_than_the_site_spec_allows() -> None:
    cloud = Cloud()
    guard = guarded(cloud, machines=2, cores=10)
    guard.offerings()
    guard.create(spec(1, "big"))
    with pytest.raises(QuotaExceeded, match="10 cores"):
        guard.create(spec(2, "big"))
    guard.create(spec(2, "small"))
    guard.create(spec(2, "small"))  # it exists: not one more
    with pytest.raises(QuotaExceeded, match="2 machines"):
        guard.create(spec(3, "small"))
    guard.destroy("m-1")
    guard.create(spec(3, "small"))
    again = guarded(cloud, machines=2)
    assert [machine.name for machine in again.list()] == ["m-2", "m-3"]
    with pytest.raises(QuotaExceeded):
        again.create(spec(4))


def test_optional_ports_are_those_of_the_adapter() -> None:
    guard = guarded(Cloud())
    assert isinstance(bare(guard), HasOfferings)
    assert not isinstance(bare(guard), HasConsole)
