"""Which task classes and resources accept each other, found out once for all resources that look alike.

Two resources look alike when they agree on every attribute that the requirements of some class, or their own,
speak of (HTCondor calls that an autocluster): the host's name, for one, does not make an ad its own.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestrator.classads import Ad, Expression, matches

V = TypeVar("V")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
# What is rounded down, so that a resource looks alike again a little later: seconds and bytes.
_ROUNDED = {"TTL": 60, "Disk": 2**28, "Memory": 2**20}
_NEEDS = {"Cores": "CPUCores", "Memory": "MemorySize", "Disk": "WorkDirectorySize"}


class Memory(OrderedDict[object, V], Generic[V]):
    """A dictionary that forgets its oldest entries beyond ``most``."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def keep(self, key: object, value: V) -> V:
        self[key] = value
        while len(self) > self.most:
            self.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class Resource:
    """An ad to match, the place of its own in a broker's memory, and what it has free."""

    ad: Ad
    digest: str
    words: frozenset[str]  # of its own Requirements
    free: Mapping[str, float]


def resource_ad(given: Mapping[str, object], site: str) -> Ad:
    """The ad to match: the caller's site is certain, changing amounts are rounded down."""
    values = {"Type": "machine"} | dict(given) | {"Site": site}
    for name, unit in _ROUNDED.items():
        amount = values.get(name)
        if isinstance(amount, int | float) and not isinstance(amount, bool) and amount >= unit:
            values[name] = int(amount // unit) * unit
    return Ad(values)


def words(expression: object) -> frozenset[str]:
    """The names that may be attributes in an expression, in lower case (too many do no harm)."""
    text = _TEXT.sub('""', expression.text) if isinstance(expression, Expression) else ""
    return frozenset(word.lower() for word in _WORD.findall(text))


class Verdicts(dict[int, bool]):
    """Which classes accept resources of one look and are accepted: found out when it is first asked for."""

    __slots__ = ("_ad", "_ads")

    def __init__(self, ads: Mapping[object, Ad], ad: Ad) -> None:
        super().__init__()
        self._ads, self._ad = ads, ad

    def __missing__(self, number: int) -> bool:
        if number not in self._ads:
            return False
        return self.setdefault(number, matches(self._ads[number], self._ad))


class Matcher:
    """Verdicts of this process. ``know`` a class before asking about it."""

    def __init__(self, most: int = 200_000) -> None:
        self._most = most
        self._ads: Memory[Ad] = Memory(most)
        self._needs: dict[int, Mapping[str, float]] = {}
        self._resources: Memory[Resource] = Memory(20_000)
        self._looks: Memory[tuple[int, str]] = Memory(20_000)
        self._verdicts: Memory[Verdicts] = Memory(most)  # by look
        self._words: frozenset[str] = frozenset()  # that the requirements of some class speak of

    def unknown(self, classes: list[int]) -> list[int]:
        """Those whose ads must be read first."""
        return [number for number in classes if number not in self._ads]

    def know(self, number: int, canonical: str) -> None:
        """The class has this ad."""
        ad = self._ads.keep(number, Ad.restore(canonical))
        self._needs[number] = {key: float(ad.values.get(name, 0)) for key, name in _NEEDS.items()}
        self._words |= words(ad.values["Requirements"])
        if len(self._needs) > 2 * self._ads.most:
            self._needs = {each: self._needs[each] for each in self._needs if each in self._ads}

    def needs(self, number: int) -> Mapping[str, float]:
        """Cores, memory and disk (bytes) of one member of a class."""
        return self._needs[number]

    def resource(self, given: Mapping[str, object], site: str) -> Resource:
        """The resource that asks with the ad ``given``; UserError when that is none."""
        key = (site, repr(given))
        if known := self._resources.get(key):
            return known
        ad = resource_ad(given, site)
        free = {name: float(ad.values[name]) for name in _NEEDS if name in ad.values}
        made = Resource(ad, ad.digest(), words(ad.values["Requirements"]), free)
        return self._resources.keep(key, made)

    def judge(self, resource: Resource) -> Callable[[int], bool]:
        """A function that tells whether a class and the resource accept each other."""
        look = self._look(resource)
        verdicts = self._verdicts.get(look)
        if verdicts is None:
            self._verdicts.most = max(16, self._most // max(1, len(self._ads)))
            verdicts = self._verdicts.keep(look, Verdicts(self._ads, resource.ad))
        return verdicts.__getitem__

    def _look(self, resource: Resource) -> str:
        """Equal for resources that no class can tell from each other."""
        known = self._looks.get(resource.digest)
        if known is not None and known[0] == len(self._words):
            return known[1]
        told = self._words | resource.words
        values = {
            name: value.text if isinstance(value, Expression) else value
            for name, value in resource.ad.values.items()
            if name.lower() in told or name == "Requirements"
        }
        look = json.dumps(values, sort_keys=True)
        self._looks.keep(resource.digest, (len(self._words), look))
        return look
