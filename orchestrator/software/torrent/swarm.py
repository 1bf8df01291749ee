"""The tracker's memory and its answers: who has or wants which torrent, and who may know of whom.

Pure: time and the choice among many peers are arguments. A node is told of peers of its own site
and of the seeders that serve its site, because worker nodes of different sites are firewalled from
each other. Announce and scrape are BEP 3, BEP 23 and BEP 48.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import TemporaryError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Choose = Callable[[Sequence["Peer"], int], Sequence["Peer"]]


@dataclass(frozen=True, slots=True)
class Seeder:
    """A network whose peers are told to other sites too: a VO box, a regional seeder.

    ``sites`` are those it serves; none named means every site.
    """

    network: Network
    sites: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Policy:
    """Which address belongs to which site, and how long an announce is believed.

    ``sites``: the longest matching network decides, else ``default_site``. ``interval`` seconds
    stand between two announces of a client; after two and a half of them it is forgotten.
    """

    default_site: str = ""
    sites: tuple[tuple[Network, str], ...] = ()
    seeders: tuple[Seeder, ...] = ()
    interval: int = 120
    min_interval: int = 10
    most_peers: int = 50
    most_torrents: int = 20_000
    most_peers_of_torrent: int = 20_000

    def site_of(self, address: str) -> str:
        """The site an address belongs to."""
        ip = ipaddress.ip_address(address)
        matching = [(network.prefixlen, site) for network, site in self.sites if ip in network]
        return max(matching)[1] if matching else self.default_site

    def serves(self, address: str) -> frozenset[str] | None:
        """The sites this address seeds for (empty: all), or None for an ordinary peer."""
        ip = ipaddress.ip_address(address)
        return next((seeder.sites for seeder in self.seeders if ip in seeder.network), None)


@dataclass(frozen=True, slots=True)
class Peer:
    """One client of one torrent; ``left`` bytes are missing to it; ``serves`` as in Policy."""

    address: str
    port: int
    peer_id: bytes
    site: str
    left: int
    seen: float
    serves: frozenset[str] | None = None

    def known_to(self, site: str) -> bool:
        """Whether a node of ``site`` may be told of this peer."""
        return self.site == site or (self.serves is not None and (not self.serves or site in self.serves))


@dataclass(frozen=True, slots=True)
class Announce:
    """One request, already taken apart. ``site`` when a token tells it, else None."""

    info_hash: bytes
    peer_id: bytes
    address: str
    port: int
    left: int
    event: str = ""
    wanted: int = 50
    site: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the asker is told: the peers it may know, and how many of them are complete or not."""

    peers: tuple[Peer, ...]
    complete: int
    incomplete: int
    interval: int
    min_interval: int


@dataclass(frozen=True, slots=True)
class Count:
    """A scrape's row (BEP 48)."""

    complete: int = 0
    downloaded: int = 0
    incomplete: int = 0


@dataclass(slots=True)
class _Swarm:
    peers: dict[tuple[str, int], Peer] = field(default_factory=dict)
    downloaded: int = 0
    swept: float = 0.0


@dataclass(slots=True)
class Swarms:
    """Every torrent this tracker knows. Not persistent: clients announce again by themselves."""

    policy: Policy = field(default_factory=Policy)
    _swarms: dict[bytes, _Swarm] = field(default_factory=dict)
    _swept: float = 0.0

    def announce(self, asked: Announce, now: float, choose: Choose) -> Answer:
        """The asker is remembered (or forgotten, if it stopped) and told of its peers.

        A complete asker that goes on is not told of other complete ones. TemporaryError when the tracker is full.
        """
        self._sweep(now)
        swarm = self._swarm(asked.info_hash, now)
        site = asked.site if asked.site is not None else self.policy.site_of(asked.address)
        key = (asked.address, asked.port)
        if asked.event == "stopped":
            swarm.peers.pop(key, None)
            return self._answer((), [])
        if key not in swarm.peers and len(swarm.peers) >= self.policy.most_peers_of_torrent:
            raise TemporaryError("this torrent has too many peers", retry_in=self.policy.interval)
        if asked.event == "completed":
            swarm.downloaded += 1
        me = Peer(*key, asked.peer_id, site, asked.left, now, self.policy.serves(asked.address))
        swarm.peers[key] = me
        visible = [peer for peer in swarm.peers.values() if peer.known_to(site)]
        # aria2 says left=0 as long as it has a magnet link only: a first request gets everything.
        all_useful = asked.left > 0 or asked.event == "started"
        useful = [peer for peer in visible if peer is not me and (all_useful or peer.left > 0)]
        limit = max(0, min(asked.wanted, self.policy.most_peers))
        return self._answer(useful if len(useful) <= limit else choose(useful, limit), visible)

    def scrape(self, info_hash: bytes, now: float) -> Count:
        """Counts over all sites; zeros for a torrent nobody announced."""
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return Count()
        self._forget(swarm, now)
        complete = sum(peer.left == 0 for peer in swarm.peers.values())
        return Count(complete, swarm.downloaded, len(swarm.peers) - complete)

    def torrents(self) -> int:
        """How many torrents have been announced and not yet been forgotten."""
        return len(self._swarms)

    def _answer(self, peers: Sequence[Peer], visible: Sequence[Peer]) -> Answer:
        complete = sum(peer.left == 0 for peer in visible)
        return Answer(
            tuple(peers), complete, len(visible) - complete, self.policy.interval, self.policy.min_interval
        )

    def _swarm(self, info_hash: bytes, now: float) -> _Swarm:
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            if len(self._swarms) >= self.policy.most_torrents:
                raise TemporaryError("the tracker knows too many torrents", retry_in=self.policy.interval)
            swarm = self._swarms[info_hash] = _Swarm(swept=now)
        self._forget(swarm, now)
        return swarm

    def _forget(self, swarm: _Swarm, now: float) -> None:
        # A pass over all peers once an interval, not once a request.
        if now - swarm.swept >= self.policy.interval / 2:
            oldest = now - 2.5 * self.policy.interval
            swarm.peers = {key: peer for key, peer in swarm.peers.items() if peer.seen >= oldest}
            swarm.swept = now

    def _sweep(self, now: float) -> None:
        if now - self._swept >= self.policy.interval:
            for info_hash, swarm in list(self._swarms.items()):
                self._forget(swarm, now)
                if not swarm.peers:
                    del self._swarms[info_hash]
            self._swept = now
