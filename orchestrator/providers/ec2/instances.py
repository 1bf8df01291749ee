"""What EC2 says of our instances."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.providers.base import MachineState
from orchestrator.providers.ec2 import rules
from orchestrator.providers.ec2.api import Api, filters, tags, text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_FEW = 5  # the least that may be asked for
_INSTANCES = "reservationSet/item/instancesSet/item"


@dataclass(frozen=True)
class Instance:
    """One instance as EC2 describes it."""

    id: str
    state: MachineState | None  # None when it is gone, or surely going
    addresses: tuple[str, str]  # public, private
    zone: str
    born: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the machine."""
        return self.tags.get(rules.NAME, "")


class Instances:
    """Those of one site at one provider. ``ours`` mark them; ``others`` are the site's other providers."""

    def __init__(self, api: Api, ours: Mapping[str, str], others: Collection[str]) -> None:
        self._api, self._ours, self._others = api, ours, others

    def listed(self) -> list[Instance]:
        """All that are not gone or going, the oldest first: one call for each thousand."""
        return self._asked({"instance-state-name": [*rules.STATES]})

    def called(self, name: str) -> list[Instance]:
        """Of that machine, also those that are gone, as long as EC2 knows them."""
        return self._asked({f"tag:{rules.NAME}": [name]})

    def none_but(self, going: Collection[str]) -> bool:
        """No instance of ours is there but those that are going. Costs one short answer."""
        only = {f"tag:{key}": [value] for key, value in self._ours.items()}
        asked = filters(only | {"instance-state-name": [*rules.STATES]})
        pages = self._api.pages("DescribeInstances", asked, _INSTANCES, size=_FEW)
        return all(text(item, "instanceId") in going for item in pages)

    def _asked(self, wanted: Mapping[str, Sequence[str]]) -> list[Instance]:
        only = {f"tag:{key}": [self._ours[key]] for key in (rules.VO, rules.SITE)} | dict(wanted)
        found = map(instance, self._api.pages("DescribeInstances", filters(only), _INSTANCES))
        ours = (each for each in found if each.tags.get(rules.PROVIDER) not in self._others)
        return sorted(ours, key=lambda each: (each.born, each.id))


def firsts(found: Iterable[Instance]) -> list[Instance]:
    """The oldest of each machine, of those that are there."""
    once: dict[str, Instance] = {}
    for each in found:
        if each.state is not None and each.name:
            once.setdefault(each.name, each)
    return [*once.values()]


def instance(item: Element) -> Instance:
    """The instance that an element of an answer describes."""
    return Instance(
        id=text(item, "instanceId"),
        state=rules.STATES.get(text(item, "instanceState/name")),
        addresses=(text(item, "ipAddress"), text(item, "privateIpAddress")),
        zone=text(item, "placement/availabilityZone"),
        born=text(item, "launchTime"),
        tags=tags(item),
    )
