"""WHERE machines may live: the settings of each kind of provider. Pure.

A new kind is one class with a ``kind`` literal, added to ``Provider``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.site.fields import HostName, Model, Port, Positive, Text
from orchestrator.site.simulated import SimSettings


class Allowed(Model):
    """What may be asked of any provider."""

    parallel: Positive = 8
    """How many machines are made or destroyed at the same time."""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Calls per second to the infrastructure, on average; as fast as it answers when absent."""
    burst: Positive = 10
    """Calls that may be made at once before the rate holds."""
    machines: Positive | None = None
    """Machines that may exist there at the same time; as many as it gives when absent."""
    cores: Positive | None = None
    """Cores of all machines there, where the infrastructure tells its sizes."""


class LocalProvider(Allowed):
    """Machines are directories on this host, each with a loopback address and a supervisor."""

    kind: Literal["local"]
    """Supervised processes on this host."""
    parallel: Positive = 4
    """How many machines are made or destroyed at the same time."""


class SshHost(Model):
    """One host that exists already and is reached by ssh."""

    name: HostName
    """How we call the host; unique within the provider."""
    address: HostName
    """DNS name or IPv4 address that ssh connects to, and that the other machines reach."""
    user: Text = "root"
    """Login name; must be able to write /opt/orchestrate."""
    port: Port = 22
    """TCP port of the ssh server."""
    key: Text | None = None
    """Path of the private key file (a reference, never the key itself); ssh's own choice when absent."""


class SshProvider(Allowed):
    """Hosts that exist: farm nodes, bare metal, rented servers."""

    kind: Literal["ssh"]
    """Hosts that exist, reached by ssh."""
    hosts: tuple[SshHost, ...] = Field(min_length=1)
    """The hosts, taken by machines in this order."""
    parallel: Positive = 20
    """How many hosts are worked on at the same time."""


class SimProvider(Allowed, SimSettings):
    """A simulated cloud: rehearse a site without a machine."""

    kind: Literal["sim"]
    """A cloud simulated by a process on this host."""
    parallel: Positive = 32
    """How many machines are made or destroyed at the same time."""


Provider = Annotated[LocalProvider | SimProvider | SshProvider, Field(discriminator="kind")]
