"""The services of a site and the site-wide settings, as frozen models. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from orchestrator.site.fields import VARIABLE, Count, Duration, Fqrn, Model, Name, Positive, Size, Text
from orchestrator.units import Bytes, Seconds


class Method(StrEnum):
    """How software reaches the worker nodes."""

    CVMFS = "cvmfs"
    TORRENT = "torrent"
    HTTP = "http"


class ForkBatch(Model):
    """Agents are processes on the VO box itself."""

    kind: Literal["fork"]
    """The batch system: fork."""
    slots: Positive = 1
    """Agents that run at the same time; more wait in the adapter's queue."""


class ComputingElement(Model):
    """A queue of batch slots that a VO box fills with agents."""

    vobox: Name
    """Group of the VO box that serves this CE."""
    batch: ForkBatch
    """The batch system behind the CE."""
    min_idle: Count = 0
    """Agents kept waiting for work even when no task waits (a job then starts at once)."""
    max_agents: Positive | None = None
    """Most agents, queued and running; the batch slots when absent."""
    ttl: Duration = Seconds(12 * 3600.0)
    """Longest life of an agent, hence of a job: a duration, in seconds when a plain number."""
    partitions: tuple[Text, ...] = ()
    """Partitions of jobs this CE takes part in; jobs that ask for another one do not come here."""
    close_se: tuple[Name, ...] = ()
    """Storage elements near this CE, closest first."""

    @property
    def agent_limit(self) -> int:
        """Most agents, queued and running."""
        return self.batch.slots if self.max_agents is None else self.max_agents


class StorageElement(Model):
    """A place for files, served by a VO box from its local disk."""

    vobox: Name
    """Group of the VO box that serves this SE."""
    capacity: Size = Bytes(100 * 10**9)
    """Most that is stored: a size, in bytes when a plain number."""


class Repository(Model):
    """A software repository that this site publishes."""

    server: Name
    """Group of the VO box that serves the repository."""


class Software(Model):
    """How software reaches the jobs."""

    method: Method = Method.TORRENT
    """What agents try first: a mounted CernVM-FS (cvmfs), BitTorrent (torrent) or the archive (http)."""
    repositories: Mapping[Fqrn, Repository] = Field(default_factory=dict)
    """Fully qualified repository name (FQRN) → where it is served; default <vo>.example.org on the first VO box."""


class Security(Model):
    """Lifetimes of what the VO issues."""

    token_lifetime: Duration = Seconds(3600.0)
    """Life of the tokens of users, hosts and agents: a duration, in seconds when a plain number."""
    certificate_lifetime: Duration = Seconds(30 * 86400.0)
    """Life of host and user certificates: a duration, in seconds when a plain number."""


class Budgets(Model):
    """What may be used at most, over all groups."""

    machines: Count | None = None
    """Machines that exist at the same time."""
    cores: Count | None = None
    """Cores of all machines together."""
    money_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Price of all machines together, in the providers' currency per hour."""
    replication: Size | None = None
    """Copies of input data that the job optimizer may have under way by itself, near free resources; it only suggests them when absent."""
    removal: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of a group's machines that `up` removes or replaces without being told the number by --yes-remove."""


class Archive(Model):
    """What becomes of jobs that have ended."""

    after: Annotated[Duration, Field(ge=86400)] = Seconds(7 * 86400.0)
    """How long a job is kept with those that wait and run, at least a day: a duration, in seconds when a plain number."""
    keep: Annotated[Duration, Field(ge=86400)] | None = None
    """How long after its submission it can still be looked at in the archive, likewise; for ever when absent."""


class Monitoring(Model):
    """Nothing can be set yet."""


class EnvReference(Model):
    """A value that is kept outside the file, in an environment variable."""

    env: Annotated[str, Field(pattern=VARIABLE)]
    """Name of the environment variable that holds the URL."""


class FileReference(Model):
    """A value that is kept outside this file, in another one."""

    file: Text
    """Path of the file that holds the URL; relative to the site spec."""


def _reference_kind(value: Any) -> str:
    if isinstance(value, str):
        return "url"
    if isinstance(value, EnvReference) or (isinstance(value, Mapping) and "env" in value):
        return "env"
    return "file"


PostgresUrl = Annotated[str, Field(pattern=r"^postgres(ql)?://\S+$")]
Reference = Annotated[
    Annotated[PostgresUrl, Tag("url")]
    | Annotated[EnvReference, Tag("env")]
    | Annotated[FileReference, Tag("file")],
    Discriminator(_reference_kind),
]
