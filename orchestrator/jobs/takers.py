"""Which resources would take a class of waiting jobs as it is, if its data were near, or if its packages were there.

A few resources of each site stand for the others, and verdicts are remembered by what the ads say, so that a round
costs a few questions to the ClassAd library for each class and site.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.classads import Ad, Expression, matches
from orchestrator.jobs import model, store
from orchestrator.jobs.requirements import equipped
from orchestrator.jobs.suggest import Look, Stuck
from orchestrator.runtime.sql import Connection, rows
from orchestrator.tasks.matching import Memory

Json = dict[str, Any]
OF_SITE = 4  # resources of each site that stand for the others
MOST_LOOKS = 1000
KNOWN_FOR = 600.0  # seconds since a resource's last question in which it counts as known
_NAMES = ("Name", "Host", "VOBox")  # what makes every resource an ad of its own
_CHANGING = {"TTL": 600, "Disk": 2**30}  # of those alike the most counts, rounded down: seconds, bytes
Numbered = tuple[int, Ad]


class Takers:
    """Verdicts of this process. ``learn`` the resources, then ``judge`` classes."""

    def __init__(self) -> None:
        self._verdicts: Memory[bool] = Memory(200_000)
        self._near: Memory[bool] = Memory(50_000)  # by the condition and the CloseSE of a resource
        self._ads: Memory[Numbered] = Memory(5000)  # by their text, with a number that is never used again
        self._numbers = itertools.count()
        self.looks: list[Look] = []
        self._offers: list[Numbered] = []

    def _ad(self, values: Json) -> Numbered:
        text = json.dumps(values, sort_keys=True)
        return self._ads.get(text) or self._ads.keep(text, (next(self._numbers), Ad.restore(text)))

    async def learn(self, connection: Connection) -> None:
        """``looks`` are resources that stand for those of their sites now, the free ones first."""
        found = await rows(
            connection,
            store.SQL["seen_lately"],
            within=KNOWN_FOR,
            active=sorted(model.ACTIVE),
            each=OF_SITE,
            most=MOST_LOOKS,
        )
        alike: dict[str, tuple[Json, int]] = {}
        for each in found:
            values = {name: value for name, value in json.loads(each["ad"]).items() if name not in _NAMES}
            if values.get("Type") != "machine":
                continue
            free = int(each["all_free"]) if each["free"] else 0
            key = json.dumps([free > 0, {**values, **dict.fromkeys(_CHANGING)}], sort_keys=True)
            known = alike.get(key)
            alike[key] = (_most(values, known[0]) if known else _most(values, {}), free)
        told = [(_look(values, free), self._ad(values)) for values, free in alike.values()]
        told.sort(key=lambda pair: -pair[0].free)
        self.looks, self._offers = [look for look, _ in told], [ad for _, ad in told]

    def judge(self, each: Mapping[str, Any], patience: float) -> Stuck:
        """The class (a row of ``waiting_classes``) with the looks that would take it; of each site one, a free one if
        there is any. Where else its data would help is asked once it has waited ``patience`` seconds."""
        values = json.loads(each["ad"])
        told = [str(one["expression"]) for one in each["conditions"] or ()]
        near = str(each["near"]) if each["near"] in told else ""
        packages = tuple(map(str, values.get("Packages") or ()))
        number, waiting, waited = int(each["id"]), int(each["waiting"]), float(each["waited"])
        # Where the data is, is asked apart from all else: few conditions on few places, against many on all.
        anywhere = _without(values, told, {near}) if near else values
        able = self._takers(anywhere, near)
        elsewhere = self._takers(anywhere) if near and waited >= patience else ()
        unequipped: tuple[int, ...] = ()
        if packages and not able:
            needed = {equipped(name).expression for name in packages} | {near}
            unequipped = self._takers(_without(values, told, needed), near)
        return Stuck(number, waiting, waited, packages, able, elsewhere, unequipped)

    def _is_near(self, condition: str, look: Look) -> bool:
        known = self._near.get((condition, look.close))
        if known is None:
            asks = Ad({"Requirements": Expression(condition)})
            known = self._near.keep((condition, look.close), asks.accepts(Ad({"CloseSE": list(look.close)})))
        return known

    def _takers(self, values: Json, near: str = "") -> tuple[int, ...]:
        """Of each site the first look that takes jobs of this ad, among those for which the condition ``near`` holds."""
        mine, wanted = self._ad(values)
        found: dict[str, int] = {}
        for place, look in enumerate(self.looks):
            if look.site in found or (near and not self._is_near(near, look)):
                continue
            theirs, offered = self._offers[place]
            verdict = self._verdicts.get((mine, theirs))
            if verdict is None:
                verdict = self._verdicts.keep((mine, theirs), matches(wanted, offered))
            if verdict:
                found[look.site] = place
        return tuple(found.values())


def _most(values: Json, other: Json) -> Json:
    """A resource's ad with the most of what changes all the time, of it and another one."""
    found = dict(values)
    for name, unit in _CHANGING.items():
        amounts = [int(each[name]) for each in (values, other) if isinstance(each.get(name), int | float)]
        if amounts:
            found[name] = max(amounts) - (max(amounts) % unit if max(amounts) >= unit else 0)
    return found


def _look(values: Json, free: int) -> Look:
    fetches = {"torrent", "http"} & set(_texts(values, "InstallMethods")) and not values.get("CVMFS")
    close, have = tuple(_texts(values, "CloseSE")), frozenset(_texts(values, "Packages"))
    return Look(str(values.get("Site", "")), close, have, bool(fetches), free)


def _without(values: Json, told: Sequence[str], dropped: set[str]) -> Json:
    """A class's ad without some of its conditions, in the form of ``Ad.canonical``."""
    kept = [each for each in told if each not in dropped]
    return values | {"Requirements": {"expr": " && ".join(f"({each})" for each in kept) or "true"}}


def _texts(values: Json, name: str) -> list[str]:
    found = values.get(name)
    return [str(each) for each in found] if isinstance(found, list) else []
