"""What the EC2 provider decides: names, user data that fits, the order of places, states. Pure."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.errors import PermanentError
from orchestrator.providers.base import MachineSpec, MachineState

USER_DATA = 16384  # bytes before base64 (RunInstances, Amazon EC2 API Reference)
STATES: Mapping[str, MachineState] = {
    "pending": MachineState.BOOTING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.STOPPED,
    "stopped": MachineState.STOPPED,
}  # the others, shutting-down and terminated, are surely going or gone

# Errors that say that one zone or subnet has no room; another one may.
FULL_PLACE = frozenset(
    {
        "InsufficientFreeAddressesInSubnet",
        "InsufficientInstanceCapacity",
        "Server.InsufficientInstanceCapacity",
    }
)

NAME, GROUP, ROLE = "orchestrate-machine", "orchestrate-group", "orchestrate-role"
VO, SITE, PROVIDER = "orchestrate-vo", "orchestrate-site", "orchestrate-provider"


class Place(NamedTuple):
    """Where a machine may be made: a zone, and a subnet in it when the site spec names subnets."""

    zone: str = ""
    subnet: str = ""
    network: str = ""  # VPC of the subnet


def tags_of(spec: MachineSpec, ours: Mapping[str, str]) -> dict[str, str]:
    """All tags of a machine and of its volumes; ``ours`` mark every resource of the site at this provider."""
    return {
        **spec.tags, **ours, "Name": spec.name, NAME: spec.name, GROUP: spec.group, ROLE: spec.role,
    }  # fmt: skip


def packed(spec: MachineSpec) -> str:
    """The user data as RunInstances takes it, compressed if it must be (cloud-init unpacks it).

    PermanentError when it is too long all the same.
    """
    plain = spec.user_data.encode()
    data = plain if len(plain) <= USER_DATA else gzip.compress(plain, mtime=0)
    if len(data) > USER_DATA:
        raise PermanentError(
            f"{spec.name}: its user data has {len(plain)} bytes, {len(data)} when compressed; EC2 takes"
            f" {USER_DATA}. Make the context of group {spec.group} shorter: have it fetch what is long",
            machine=spec.name,
        )
    return base64.b64encode(data).decode()


def ordered(places: Sequence[Place], name: str, avoid: Sequence[str]) -> list[Place]:
    """``places`` in the order in which they are tried for that machine: machines are spread over them, the
    same machine gets the same order, and those to ``avoid`` come last."""
    start = zlib.crc32(name.encode()) % max(1, len(places))
    turned = [*places[start:], *places[:start]]
    return sorted(turned, key=lambda place: place.zone in avoid)


def client_token(token: str, place: Place) -> str:
    """At most 64 letters; one for each place, since a token stands for one set of parameters."""
    return f"{token}-{zlib.crc32('/'.join(place).encode()):08x}"


def network(place: Place, shared: Mapping[str, str], public: bool) -> dict[str, str]:
    """Parameters of RunInstances: zone, subnet, security groups, key pair. A public address is asked for
    of the machine's interface, which then takes subnet and groups."""
    zone = {"Placement.AvailabilityZone": place.zone} if place.zone and not place.subnet else {}
    subnet = {"SubnetId": place.subnet} if place.subnet else {}
    if not public:
        return {**zone, **subnet, **shared}
    card = "NetworkInterface.1."
    inside = {key: value for key, value in {**subnet, **shared}.items() if key != "KeyName"}
    outside = {key: value for key, value in shared.items() if key == "KeyName"}
    wanted = {"DeviceIndex": "0", "AssociatePublicIpAddress": "true", "DeleteOnTermination": "true"}
    return {**zone, **outside, **{card + key: value for key, value in {**inside, **wanted}.items()}}
