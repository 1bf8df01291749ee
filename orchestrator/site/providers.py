"""WHERE machines may live: the settings of each kind of provider. Pure.

A new kind is one class with a ``kind`` literal, added to ``Provider``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.site.fields import Addresses, Endpoint, HostName, Model, Port, Positive, Text
from orchestrator.site.simulated import SimSettings
from orchestrator.site.virtual import LibvirtSettings


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
    addresses: Addresses | None = None
    """First and last of addresses that this host has (on a bridge, say), for machines that other hosts or virtual
    machines must reach; loopback addresses when absent."""


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


class LibvirtProvider(Allowed, LibvirtSettings):
    """Virtual machines on hypervisors with libvirt. Its groups are workers, and name an image."""

    kind: Literal["libvirt"]
    """Virtual machines of one or many hypervisors with libvirt: an HLT farm, a rack, this host."""


class SimProvider(Allowed, SimSettings):
    """A simulated cloud: rehearse a site without a machine."""

    kind: Literal["sim"]
    """A cloud simulated by a process on this host."""
    parallel: Positive = 32
    """How many machines are made or destroyed at the same time."""


class Ec2Provider(Allowed):
    """Instances of Amazon EC2, or of another cloud with its API. Its groups are workers, and name image and offering."""

    kind: Literal["ec2"]
    """A cloud with the API of Amazon EC2."""
    region: Text
    """Region of the cloud, as eu-central-1."""
    endpoint: Endpoint | None = None
    """URL of the API, for other clouds than Amazon's: https, or http on this host."""
    credentials_file: Text | None = None
    """Path of a credentials file as the AWS command line keeps it, relative to the site spec; when absent the
    environment is asked for AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."""
    profile: Text = "default"
    """Section of the credentials file."""
    zones: tuple[Text, ...] = ()
    """Availability zones that machines are spread over; the cloud chooses when absent."""
    subnets: tuple[Text, ...] = ()
    """Ids of subnets (of one VPC) that machines are spread over, instead of zones."""
    security_groups: tuple[Text, ...] = ()
    """Ids of security groups of the machines; when absent, one is made that lets nothing in."""
    public_address: bool = False
    """Machines get a public address, which they need in a subnet without any other way out."""
    public_key: Text | None = None
    """Path of an ssh public key file that lets one into the machines, relative to the site spec."""
    ssh_from: tuple[Text, ...] = ()
    """Networks (CIDR) from which the security group that is made lets ssh in; none when absent."""


Provider = Annotated[
    Ec2Provider | LibvirtProvider | LocalProvider | SimProvider | SshProvider, Field(discriminator="kind")
]
