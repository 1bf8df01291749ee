"""WHAT is wanted: the site spec as frozen models, every field described with its unit. Pure.

``site.load`` makes a ``Site`` from a file and tells all that is wrong with it, with positions;
constructing ``Site`` directly checks the types only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from orchestrator.errors import NotFound, UserError
from orchestrator.site import order
from orchestrator.site.defaults import filled
from orchestrator.site.fields import Count, Model, Name, Positive, Text
from orchestrator.site.providers import (
    Ec2Provider,
    LibvirtProvider,
    LocalProvider,
    Provider,
    SimProvider,
    SshHost,
    SshProvider,
)
from orchestrator.site.services import (
    Archive,
    Budgets,
    ComputingElement,
    EnvReference,
    FileReference,
    ForkBatch,
    Method,
    Monitoring,
    Reference,
    Repository,
    Security,
    Software,
    StorageElement,
)
from orchestrator.site.virtual import VirtualSize

__all__ = [
    "Archive", "Budgets", "ComputingElement", "Ec2Provider", "EnvReference", "FileReference", "ForkBatch", "Group", "LibvirtProvider", "LocalProvider",
    "Method", "Monitoring", "Provider", "Reference", "Repository", "Role", "Security", "SimProvider", "Site", "Software",
    "SshHost", "SshProvider", "StorageElement", "VirtualSize",
]  # fmt: skip


class Role(StrEnum):
    """What a machine is configured to be."""

    CENTRAL = "central"
    VOBOX = "vobox"
    WORKER = "worker"


class Group(Model):
    """Machines of one role at one provider."""

    role: Role
    """What the machines are: central (the VO's central services), vobox (a site's services) or worker (runs agents)."""
    provider: Name = "local"
    """Name of the provider whose machines these are."""
    count: Count | None = None
    """How many machines, exactly; 1 when neither count nor min/max is given."""
    min: Count | None = None
    """Fewest machines, of a group that is scaled with the queue (0 when only max is given)."""
    max: Count | None = None
    """Most machines, of a group that is scaled with the queue."""
    fallback: tuple[Name, ...] = ()
    """Further providers, tried in this order for workers that the first one cannot make."""
    max_unavailable: Positive | None = None
    """Machines that an update may take away at the same time; a fifth of the group when absent."""
    needs: tuple[Name, ...] = ()
    """Groups that must be up before this one is started."""
    image: Text | None = None
    """Machine image, for providers that boot images."""
    offering: Text | None = None
    """Size of machine (flavor, instance type), for providers that offer sizes."""
    context: Text | None = None
    """Name of the boot context; that of the role when absent."""
    slots: Positive = 1
    """Agents that each worker machine runs at the same time."""

    @property
    def wanted(self) -> int:
        """Machines to have when nothing else is known: count, else min, else 1 (0 if only max is given)."""
        if self.count is not None:
            return self.count
        return self.limits[0]

    @property
    def limits(self) -> tuple[int, int]:
        """Fewest and most machines the group may ever have."""
        if self.min is None and self.max is None:
            fixed = 1 if self.count is None else self.count
            return fixed, fixed
        low = self.min or 0
        return low, low if self.max is None else self.max


class Site(Model):
    """Everything the admin wants of one site. Defaults are filled in: after validation the provider
    ``local``, at least one SE and one repository (when there is a VO box) are present."""

    vo: Name
    """Name of the virtual organisation."""
    site: Name
    """Name of the site; the file's name without .yaml when absent."""
    providers: Mapping[Name, Provider] = Field(default_factory=dict)
    """Where machines may live: name → kind and settings. `local` (this host) exists by itself."""
    groups: Mapping[Name, Group] = Field(min_length=1)
    """The machines: name → role, provider, how many, and what must be up before."""
    computing_elements: Mapping[Name, ComputingElement] = Field(default_factory=dict)
    """Batch slots that a VO box fills with agents: name → settings."""
    storage_elements: Mapping[Name, StorageElement] = Field(default_factory=dict)
    """Places for files: name → settings; default one SE `disk` on the first VO box."""
    software: Software = Software()
    """How software reaches the jobs: method and repositories."""
    security: Security = Security()
    """Lifetimes of tokens and certificates."""
    database: Reference | None = None
    """PostgreSQL of the central services, as URL without password, {env: NAME} or {file: PATH}; embedded when absent."""
    ledger: Reference | None = None
    """PostgreSQL of the deploy ledger, likewise; a SQLite file in the state directory when absent."""
    budgets: Budgets = Budgets()
    """What may be used at most."""
    archive: Archive = Archive()
    """What becomes of jobs that have ended: when they are archived, and how long they are kept."""
    monitoring: Monitoring = Monitoring()
    """What is measured and kept; nothing can be set yet."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        return filled(data) if isinstance(data, Mapping) else data

    def names(self, role: Role) -> tuple[str, ...]:
        """Groups of that role, in the order of the file."""
        return tuple(name for name, group in self.groups.items() if group.role is role)

    def group(self, name: str) -> Group:
        """That group; NotFound names those that exist."""
        if name not in self.groups:
            raise NotFound(
                f"site {self.site}: no group {name!r}; groups: {', '.join(self.groups)}", group=name
            )
        return self.groups[name]

    def vobox_of(self, name: str) -> str | None:
        """The VO-box group a group belongs to: itself, else the first among its needs (followed
        through), else the first of the site; None when there is none."""
        self.group(name)
        return order.vobox_of(name, *self._graph())

    def dependencies(self, name: str) -> tuple[str, ...]:
        """Groups that must be up before this one: its needs, and what its role always needs (a VO box
        the central services, a worker its VO box)."""
        self.group(name)
        return order.dependencies(name, *self._graph())

    def ordered_groups(self) -> tuple[str, ...]:
        """All groups, each after its dependencies."""
        return order.ordered(*self._graph())

    def _graph(self) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
        return (
            {name: group.role.value for name, group in self.groups.items()},
            {name: group.needs for name, group in self.groups.items()},
        )

    def machine_names(self, group: str, count: int | None = None) -> tuple[str, ...]:
        """``<site>-<group>-<n>``, n from 1 to count (the group's ``wanted`` when not given)."""
        total = self.group(group).wanted if count is None else count
        return tuple(f"{self.site}-{group}-{n}" for n in range(1, total + 1))

    def scaled(self, name: str, count: int) -> Site:
        """A copy in which that group has ``count`` machines; UserError when it may not have so many."""
        group = self.group(name)
        low, high = (0, count) if group.min is None and group.max is None else group.limits
        if group.role is not Role.WORKER:
            raise UserError(
                f"group {name} is a {group.role} and stays one machine; scale a group of workers"
                f" ({', '.join(self.names(Role.WORKER)) or 'there is none'})",
                group=name,
            )
        if not low <= count <= high:
            raise UserError(
                f"group {name} cannot have {count} machines: the site spec allows {low} to {high};"
                " choose within, or change min/max there",
                group=name,
            )
        changed = group.model_copy(update={"count": count, "min": None, "max": None})
        return self.model_copy(update={"groups": {**self.groups, name: changed}})
