"""HOW virtual machines are made on hypervisors: the settings of a libvirt pool. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.site.fields import Addresses, Count, HostName, Ipv4, Model, Positive, Size, Text
from orchestrator.units import Bytes


def addresses_of(text: Addresses) -> list[str]:
    """All addresses of a range that is written ``FIRST-LAST``. ValueError when it is none."""
    first, last = (IPv4Address(end.strip()) for end in text.split("-"))
    if last < first:
        raise ValueError("the last address is before the first")
    return [str(first + step) for step in range(int(last) - int(first) + 1)]


class Hypervisor(Model):
    """One host with libvirt."""

    name: HostName
    """How we call the hypervisor; unique within the provider."""
    uri: Text
    """libvirt's URI of it, as qemu:///system or qemu+ssh://root@node7/system."""
    cores: Positive | None = None
    """Cores that its virtual machines may use together; all that it has when absent."""
    memory: Size | None = None
    """Memory that its virtual machines may use together, in bytes; all that it has when absent."""


class VirtualSize(Model):
    """A size of virtual machine."""

    cores: Positive = 1
    """Virtual cores."""
    memory: Size = Bytes(3 << 30)
    """Memory, in bytes; a job that asks for none has 2 GiB, the system takes some too."""
    disk: Size | None = None
    """Size of the disk, in bytes; that of the image when it is larger, or when absent."""


class VirtualNetwork(Model):
    """How virtual machines reach the others. With neither `libvirt` nor `bridge`, QEMU's user-mode network."""

    libvirt: Text | None = None
    """Name of a network that libvirt has on every hypervisor."""
    bridge: Text | None = None
    """Name of a bridge interface of every hypervisor."""
    addresses: Addresses | None = None
    """First and last of the addresses that we give to machines; they ask by DHCP when absent."""
    prefix: Annotated[Count, Field(le=32)] = 24
    """Length of the network part of the addresses, in bits."""
    gateway: Ipv4 | None = None
    """The machines' way to other networks; none when absent."""
    dns: tuple[Ipv4, ...] = ()
    """Name servers of machines with an address of ours."""


class LibvirtSettings(Model):
    """What can be set of a pool of hypervisors."""

    hypervisors: tuple[Hypervisor, ...] = Field(min_length=1)
    """The hosts with libvirt, used as one pool: each new machine goes where most cores are free."""
    type: Literal["kvm", "qemu"] = "kvm"
    """How machines run: kvm on the processor itself, or qemu by emulation, which works everywhere and is slow."""
    pool: Text = "default"
    """Name of the storage pool (of files) of every hypervisor that holds the images; disks are made there."""
    network: VirtualNetwork = VirtualNetwork()
    """How the machines reach the others."""
    offerings: Mapping[Text, VirtualSize] = Field(default_factory=dict)
    """Sizes of machines: name → cores, memory, disk. A group without offering has one core and 3 GiB."""
