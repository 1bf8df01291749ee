"""The words of the simulated cloud: its settings, its machines, what it answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

NEVER = math.inf


class Dice(Protocol):
    """The part of random.Random that is used."""

    def random(self) -> float: ...
    def uniform(self, a: float, b: float) -> float: ...
    def lognormvariate(self, mu: float, sigma: float) -> float: ...
    def expovariate(self, lambd: float) -> float: ...


@dataclass(frozen=True)
class Settings:
    """``site.simulated.SimSettings`` as plain data: the server needs no pydantic. Times in seconds."""

    seed: int = 1
    latency: tuple[float, float] = (0.5, 3.0)  # median, 99th percentile
    boot: tuple[float, float] = (60.0, 180.0)
    configure: tuple[float, float] = (20.0, 60.0)
    job: tuple[float, float] = (60.0, 600.0)
    machines: float = NEVER
    cores: float = NEVER
    rate: float = NEVER
    burst: int = 10
    offerings: Mapping[str, tuple[int, float]] = field(default_factory=dict)  # name → cores, price per hour
    zones: Mapping[str, int] = field(default_factory=dict)
    ip_reuse: bool = False
    api_errors: float = 0.0
    lost_replies: float = 0.0
    duplicate_listing: float = 0.0
    eventual_list: float = 0.0
    slow_boot: float = 0.0
    failed_boot: float = 0.0
    bad_images: tuple[str, ...] = ()
    broken_context: float = 0.0
    network_cut: float = 0.0
    cut_lasts: float = 120.0
    spot: tuple[float, float, float] = (0.0, 3600.0, 120.0)  # share, mean life, notice


@dataclass(frozen=True, slots=True)
class Vm:
    """One machine and its whole fate, drawn when it is made; its state is a function of this and the time."""

    name: str
    group: str
    role: str
    image: str
    offering: str
    zone: str
    address: str
    tags: Mapping[str, str]
    serial: int  # how often a machine of this name was made
    created: float
    listed: float  # a list shows it from then on
    boots: float  # it runs from then on, or is seen to have failed
    fate: str  # fine, slow, failed or broken
    works: float  # its agent asks for work from then on
    cut: tuple[float, float]  # not reachable in between
    dies: float  # taken back by the cloud
    applied: str = ""
    gone: float = NEVER  # destroyed
    unlisted: float = NEVER  # a list shows it until then


@dataclass
class Cloud:
    """Everything the cloud knows; ``put`` keeps the sums right."""

    settings: Settings = Settings()
    vms: dict[str, Vm] = field(default_factory=dict)  # destroyed ones too: a name remembers its serial
    tally: dict[str, float] = field(default_factory=dict)
    clock: float = 0.0
    addresses: int = 0  # ever given
    free: list[str] = field(default_factory=list)  # addresses that may be given again
    machines: int = 0
    cores: int = 0
    money: float = 0.0  # per hour, of all that exist
    zones: dict[str, int] = field(default_factory=dict)
    allowed: float = 0.0  # when the next call is due, at the throttled rate

    def put(self, vm: Vm) -> None:
        """That machine is like this now."""
        old = self.vms.get(vm.name)
        if old is not None and old.gone == NEVER:
            self._count(old, -1)
        if vm.gone == NEVER:
            self._count(vm, 1)
            self.addresses = max(self.addresses, number_of(vm.address))
            if vm.address in self.free:
                self.free.remove(vm.address)
        elif old is not None and old.gone == NEVER and self.settings.ip_reuse:
            self.free.append(vm.address)
        self.vms[vm.name] = vm

    def size(self, offering: str) -> tuple[int, float]:
        """(cores, price per hour) of a size."""
        return self.settings.offerings.get(offering, (1, 0.0))

    def _count(self, vm: Vm, sign: int) -> None:
        cores, price = self.size(vm.offering)
        self.machines += sign
        self.cores += sign * cores
        self.money += sign * price
        self.zones[vm.zone] = self.zones.get(vm.zone, 0) + sign


@dataclass(frozen=True)
class Reply:
    """What a request gets, what it changes, what is counted, and how long it takes (virtual seconds)."""

    body: Mapping[str, Any] = field(default_factory=dict)
    changed: tuple[Vm, ...] = ()
    tally: Mapping[str, float] = field(default_factory=dict)
    took: float = 0.0
    allowed: float | None = None


def dump(vm: Vm) -> dict[str, Any]:
    """Plain data; times that never come are None."""
    return {key: None if value == NEVER else value for key, value in asdict(vm).items()}


def parse(data: Mapping[str, Any]) -> Vm:
    """The machine that ``dump`` wrote."""
    return Vm(
        **{key: NEVER if value is None else value for key, value in data.items()}
        | {"cut": tuple(data["cut"])}
    )


def address_of(number: int) -> str:
    """The address with that number, from 1: 10.0.0.1, …"""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def number_of(address: str) -> int:
    """The number of that address."""
    _, high, middle, low = (int(part) for part in address.split("."))
    return high << 16 | middle << 8 | low
