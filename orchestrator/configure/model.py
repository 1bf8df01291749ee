"""The words of configuring: what is asked, what came of it, and what others must provide. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator.providers.base import Machine


class TargetLike(Protocol):
    """A machine to be configured, as anybody's dataclass."""

    @property
    def machine(self) -> Machine: ...
    @property
    def role(self) -> str: ...
    @property
    def group(self) -> str: ...


@dataclass(frozen=True)
class Target:
    """A machine to be configured."""

    machine: Machine
    role: str
    group: str


@dataclass(frozen=True)
class Outcome:
    """How configuring one machine ended, ``seconds`` after the run began.

    ``evidence`` is text (the failed task, its output); ``changed`` the managed files and programs that
    were not as they should be.
    """

    machine: str
    ok: bool
    seconds: float
    evidence: str = ""
    changed: tuple[str, ...] = ()


class HostFiles(Protocol):
    """Where the certificate and keys of one host lie on this side."""

    @property
    def ca(self) -> Path: ...
    @property
    def certificate(self) -> Path: ...
    @property
    def key(self) -> Path: ...
    @property
    def token_keys(self) -> Path: ...
    @property
    def token_signing(self) -> Path | None: ...


class Trust(Protocol):
    """Whoever issues certificates and tokens; wired by the composition root."""

    def host_files(self, machine_name: str, address: str, role: str) -> HostFiles:
        """Of a host with that name and address; the same files again until they must be renewed."""
        ...

    def enrolment(self, machine: str) -> str:
        """A single-use, short-lived token for the agents of a new worker machine."""
        ...

    @property
    def ca(self) -> Path:
        """The certificate of the VO's CA."""
        ...


class AgentFile(Protocol):
    """The self-contained job agent: a file, and the hex SHA-256 of its content."""

    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...


class Runtime(Protocol):
    """What a host needs to run the services of a role that has nothing of ours: a tar.gz with bin/python3 in it."""

    @property
    def digest(self) -> str:
        """Of everything that goes into it; known without building it."""
        ...

    def path(self) -> Path:
        """The archive on this side, built when it is not there yet."""
        ...


class Configurator(Protocol):
    """HOW machines are set up."""

    def digest(self, target: TargetLike) -> str:
        """Of everything that configures this pet: roles, variables, certificates. No time in it."""
        ...

    def user_data(self, name: str, group: str) -> str:
        """The context of the new worker ``name``, a /bin/sh script with a single-use token in it."""
        ...

    def configure(self, targets: Sequence[TargetLike]) -> Iterator[Outcome]:
        """One run over many machines; yields each machine's outcome as soon as it is known."""
        ...


@runtime_checkable
class Renders(Protocol):
    """A configurator that can tell what it would write."""

    def rendered(self, target: TargetLike) -> Mapping[str, str]:
        """Path below the machine's root → content, of its configuration files. No key is among them, and
        passwords are masked."""
        ...


Machines = Callable[[], Sequence[Machine]]
Runtimes = Callable[[str], Runtime]  # of a role; the same one again for the same role
