"""The port to an infrastructure: three verbs. Waiting, retrying and rate limits are the caller's job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from orchestrator.errors import TemporaryError


class QuotaExceeded(TemporaryError):
    """The infrastructure has no room for another machine; another provider or a later time may."""


class MachineState(StrEnum):
    """What the infrastructure says of a machine."""

    BOOTING = "booting"
    RUNNING = "running"
    STOPPED = "stopped"  # exists, does not run (its supervisor is gone, the VM is shut off)
    UNREACHABLE = "unreachable"  # cannot be asked; unreachable is not dead
    FAILED = "failed"  # will never run


@dataclass(frozen=True)
class MachineSpec:
    """What is wanted. ``name`` is the idempotency key; ``tags`` mark the machine as ours."""

    name: str
    group: str
    role: str
    image: str = ""
    offering: str = ""
    user_data: str = ""  # a script, run once at first boot (the context of a worker); "" for pets
    tags: Mapping[str, str] = field(default_factory=dict)
    avoid: tuple[str, ...] = ()  # places (zone, host) where it failed before: taken only if there is no other


@dataclass(frozen=True)
class Machine:
    """What there is."""

    name: str
    group: str
    role: str
    provider: str  # the site spec's name of the provider
    state: MachineState
    address: str = ""  # where its services listen
    root: str = ""  # its root directory, as the machine sees it
    tags: Mapping[str, str] = field(default_factory=dict)
    connection: Mapping[str, str] = field(default_factory=dict)  # Ansible variables that reach it
    applied: str = ""  # digest in ROOT/etc/applied.json when its managed files are untouched, else ""
    drift: Sequence[str] = ()  # managed files edited by hand
    place: str = ""  # zone or host it is in, "" when the infrastructure does not tell


@dataclass(frozen=True)
class Offering:
    """A size of machine. ``price`` is in the provider's currency per hour, None when it is not known."""

    cores: int = 1
    memory: int = 0  # bytes, 0 when it is not known
    price: float | None = None


class Provider(Protocol):
    """``list`` shows all machines that carry our tag, in any state, so orphans are seen.

    ``create`` is idempotent by name and returns at once, with the machine as far as it is known.
    ``destroy`` returns when the machine and all its resources are gone or surely going; silent if
    it is gone already. All raise TemporaryError or PermanentError, never a vendor's error.
    """

    name: str

    def list(self) -> Sequence[Machine]: ...
    def create(self, spec: MachineSpec) -> Machine: ...
    def destroy(self, name: str, *, keep_data: bool = False) -> None: ...


@runtime_checkable
class HasSome(Protocol):
    """A provider whose list costs a call for each machine: it is asked for a few alone where these will do."""

    def some(self, names: Collection[str]) -> Sequence[Machine]:
        """What ``list`` would show of the machines of those names."""
        ...


@runtime_checkable
class HasConnections(Protocol):
    """A provider that keeps something open between its calls."""

    def leave(self) -> None:
        """Nothing is open, and no file that served it is left; a later call opens it again."""
        ...


@runtime_checkable
class HasConsole(Protocol):
    """A provider that can show what a machine printed while it booted (evidence)."""

    def console(self, name: str) -> str: ...


@runtime_checkable
class HasShell(Protocol):
    """A provider whose machines can be entered."""

    def shell(self, name: str, command: Sequence[str]) -> list[str]:
        """The argument vector that runs ``command`` (or a login shell when empty) on the machine."""
        ...


@dataclass(frozen=True)
class Object:
    """Something that carries our tag and is not a machine: a volume, a key, a security group."""

    kind: str
    id: str
    machine: str = ""  # the machine it was made for; "" when it serves all


@runtime_checkable
class HasObjects(Protocol):
    """A provider where machines have parts that can outlive them."""

    def objects(self) -> Sequence[Object]:
        """All that carry our tag."""
        ...

    def remove(self, thing: Object) -> None:
        """It is gone; silent if it is gone already."""
        ...


@runtime_checkable
class HasOfferings(Protocol):
    """A provider that tells its sizes of machines."""

    def offerings(self) -> Mapping[str, Offering]: ...


def bare(provider: object) -> object:
    """The adapter itself, whatever is wrapped around it: whether it has an optional port is asked of it."""
    while (inner := getattr(provider, "inner", None)) is not None:
        provider = inner
    return provider
