"""What the transfer optimizer decides: which copy, which way, when. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.transfers.model import CLEAN, FETCH, STAGE

SMALL = 16 << 20  # bytes; files up to this size travel in groups
GROUP = 32  # small files that one FTD takes at once: together they count as one transfer
MOST_LINKS = 4  # of a route
FULL = 1e-6  # weights are sums of 1/32: what is left of rounding


@dataclass(frozen=True)
class Policy:
    """How patient transfers are. Times in seconds."""

    persevere: int = 5  # attempts
    lasts: float = 86400.0  # after which a transfer that is not with an FTD is given up
    first: float = 30.0  # before the second attempt; twice as long before each further one
    longest: float = 3600.0
    throttled: float = 2.0  # until one that found its ways full is looked at again
    absent: float = 30.0  # until one whose storage elements are silent or full is looked at again
    most_out: int = 20  # transfers at once from a storage element that has no limit of its own
    most_in: int = 20
    most_link: int = 20


def retry_delay(policy: Policy, failed: int) -> float:
    """Seconds from the end of attempt number ``failed`` to the next one."""
    return min(policy.longest, policy.first * 2.0 ** min(failed - 1, 30))


def weight(size: int) -> float:
    """How much a file of ``size`` bytes counts against the limits."""
    return 1 / GROUP if size <= SMALL else 1.0


@dataclass(frozen=True)
class Storage:
    """A storage element. ``buffer``: it is mass storage, staged to that other one; ``free`` in bytes."""

    name: str
    site: str
    url: str
    free: int
    alive: bool = True
    buffer: str = ""
    most_out: int | None = None
    most_in: int | None = None


@dataclass(frozen=True)
class Network:
    """All storage elements, and the links that have a limit of their own (0: there is no such link)."""

    storage: Mapping[str, Storage]
    links: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def exit(self, name: str) -> str:
        """Where the files of a storage element are fetched from: mass storage has its buffer."""
        return self.storage[name].buffer or name

    def linked(self, source: str, target: str) -> bool:
        """Whether files may go from one to the other directly."""
        return source != target and self.links.get((source, target), 1) > 0


class Load:
    """What is under way: how many transfers (small files count less) at each end and on each link."""

    def __init__(self, legs: Iterable[tuple[str, str, float]] = ()) -> None:
        self.out: Counter[str] = Counter()
        self.into: Counter[str] = Counter()
        self.link: Counter[tuple[str, str]] = Counter()
        for source, target, much in legs:
            self.add(source, target, much)

    def add(self, source: str, target: str, much: float) -> None:
        """One more (counters hold any number)."""
        self.out[source] += much  # type: ignore[assignment]
        self.into[target] += much  # type: ignore[assignment]
        self.link[source, target] += much  # type: ignore[assignment]

    def hindrance(self, network: Network, policy: Policy, source: str, target: str, much: float) -> str:
        """Which limit one more would break, in words; "" when there is room."""
        giver, taker = network.storage[source], network.storage[target]
        most_out = policy.most_out if giver.most_out is None else giver.most_out
        most_in = policy.most_in if taker.most_in is None else taker.most_in
        most = network.links.get((source, target), policy.most_link)
        if self.out[source] + much > most_out + FULL:
            return f"{source} gives {most_out} transfers at once, and no more"
        if self.into[target] + much > most_in + FULL:
            return f"{target} takes {most_in} transfers at once, and no more"
        if self.link[source, target] + much > most + FULL:
            return f"{most} transfers at once go from {source} to {target}, and no more"
        return ""

    def full(self, network: Network, policy: Policy) -> list[str]:
        """Storage elements to which nothing more may go now."""
        small = weight(0)
        return [
            name
            for name, each in network.storage.items()
            if self.into[name] + small > (policy.most_in if each.most_in is None else each.most_in) + FULL
        ]


@dataclass(frozen=True)
class Wanted:
    """A file of ``size`` bytes with copies on ``copies`` is wanted at ``destination``; ``tried`` were bad."""

    size: int
    copies: Sequence[str]
    destination: str
    tried: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """One leg: ``role`` is stage, fetch or clean (of ``target``; ``source`` is the same then)."""

    role: str
    source: str
    target: str

    @property
    def at(self) -> str:
        """The storage element whose FTD does it."""
        return self.source if self.role == STAGE else self.target


@dataclass(frozen=True)
class Route:
    """The steps, in order. One fetch alone needs no tasks of its own."""

    steps: tuple[Step, ...]

    @property
    def direct(self) -> bool:
        return len(self.steps) == 1


@dataclass(frozen=True)
class Later:
    """Not now: look again in ``seconds``."""

    reason: str
    seconds: float


@dataclass(frozen=True)
class Never:
    """It cannot be done."""

    reason: str


def choose(wanted: Wanted, network: Network, load: Load, policy: Policy) -> Route | Later | Never:
    """The way for one file: the fewest links, then the least loaded source; within all limits.

    Copies that were bad are used again only when there is no other. A route is taken where there is no
    direct link; it may pass storage elements that live and have room.
    """
    there = network.storage.get(wanted.destination)
    if there is None:
        return Never(f"there is no storage element {wanted.destination}")
    if not wanted.copies:
        return Never("the file has no replica left")
    if not there.alive:
        return Later(f"{there.name} has not been heard of for a while", policy.absent)
    if there.free < wanted.size:
        return Later(f"{there.name} has {there.free} bytes free, {wanted.size} are wanted", policy.absent)
    alive = [name for name in wanted.copies if _gives(network, name)]
    if not alive:
        names = ", ".join(sorted(wanted.copies))
        return Later(f"none of the storage elements with a replica lives: {names}", policy.absent)
    ways = _ways(network, wanted, alive)
    if not ways:
        return Later(f"no link leads to {there.name} from {', '.join(sorted(alive))}", policy.absent)
    fresh = {source: way for source, way in ways.items() if source not in wanted.tried} or ways
    return _within_limits(network, load, policy, fresh, weight(wanted.size))


def _gives(network: Network, name: str) -> bool:
    """Whether files can be had from a storage element: it lives, and so does its buffer."""
    known = network.storage.get(name)
    if known is None or not known.alive:
        return False
    return not known.buffer or (known.buffer in network.storage and network.storage[known.buffer].alive)


def _ways(network: Network, wanted: Wanted, sources: Sequence[str]) -> dict[str, list[str]]:
    """For each source the shortest way, as the storage elements that it passes, both ends included.

    Breadth first from the destination: what is found first is nearest.
    """
    passable = {
        name
        for name, each in network.storage.items()
        if each.alive and not each.buffer and each.free >= wanted.size
    }
    wanting: dict[str, list[str]] = {}
    for source in sources:
        wanting.setdefault(network.exit(source), []).append(source)
    found: dict[str, list[str]] = {}
    seen, edge = {wanted.destination}, [[wanted.destination]]
    for _ in range(MOST_LINKS):
        further = []
        for way in edge:
            for name in sorted((passable | wanting.keys()) - seen):
                if not network.linked(name, way[0]):
                    continue
                seen.add(name)
                for source in wanting.get(name, ()):
                    found[source] = [name, *way]
                if name in passable:
                    further.append([name, *way])
        edge = further
    # A mass storage whose buffer is the destination needs no more than staging.
    found |= {source: [wanted.destination] for source in wanting.get(wanted.destination, ())}
    return found


def _within_limits(
    network: Network, load: Load, policy: Policy, ways: Mapping[str, list[str]], much: float
) -> Route | Later:
    def key(source: str) -> tuple[int, float, str]:
        most = network.storage[source].most_out
        share = load.out[source] / max(1, policy.most_out if most is None else most)
        return (
            len(ways[source]) + bool(network.storage[source].buffer),
            share,
            source,
        )  # staging is a link, too

    hindrances = []
    for source in sorted(ways, key=key):
        steps = _steps(network, source, ways[source])
        moves = [step for step in steps if step.role != CLEAN]
        why = next(
            (
                text
                for step in moves
                if (text := load.hindrance(network, policy, step.source, step.target, much))
            ),
            "",
        )
        if not why:
            return Route(steps)
        hindrances.append(why)
    return Later("; ".join(dict.fromkeys(hindrances)), policy.throttled)


def _steps(network: Network, source: str, way: Sequence[str]) -> tuple[Step, ...]:
    """Staging where the source is mass storage, a fetch for each link, and the cleaning of what was between."""
    staged = bool(network.storage[source].buffer)
    steps = [Step(STAGE, source, way[0])] if staged else []
    steps += [Step(FETCH, one, other) for one, other in itertools.pairwise(way)]
    between = way[0 if staged else 1 : -1]
    return (*steps, *(Step(CLEAN, name, name) for name in between))
