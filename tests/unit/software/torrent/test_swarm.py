"""The tracker's answers, as tables: who is told of whom, who is forgotten when."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest

from orchestrator.errors import TemporaryError
from orchestrator.software.torrent.swarm import Announce, Answer, Count, Peer, Policy, Seeder, Swarms

NET = ipaddress.ip_network
POLICY = Policy(
    default_site="HOME",
    sites=(
        (NET("10.1.0.0/16"), "A"),
        (NET("10.2.0.0/16"), "B"),
        (NET("10.2.9.0/24"), "C"),
        (NET("fd00::/64"), "A"),
    ),
    seeders=(Seeder(NET("10.3.0.1/32")), Seeder(NET("10.2.0.1/32"), frozenset({"A"}))),
    interval=100,
    most_peers=3,
    most_torrents=2,
    most_peers_of_torrent=20,
)
HASH = b"h" * 20


def first(peers: Sequence[Peer], count: int) -> Sequence[Peer]:
    return peers[:count]


def ask(
    swarms: Swarms,
    address: str,
    now: float = 0.0,
    *,
    left: int = 5,
    event: str = "",
    site: str | None = None,
    wanted: int = 50,
    info_hash: bytes = HASH,
) -> Answer:
    return swarms.announce(
        Announce(info_hash, b"p" * 20, address, 6881, left, event, wanted, site), now, first
    )


def told(answer: Answer) -> set[str]:
    return {peer.address for peer in answer.peers}


@pytest.mark.parametrize(
    ("address", "site"),
    [("10.1.2.3", "A"), ("10.2.3.4", "B"), ("10.2.9.9", "C"), ("192.168.1.1", "HOME"), ("fd00::5", "A")],
)
def test_the_longest_network_names_the_site(address: str, site: str) -> None:
    assert POLICY.site_of(address) == site


@pytest.mark.parametrize(
    ("asker", "expected"),
    [
        (
            "10.1.0.9",
            {"10.1.0.5", "10.3.0.1", "10.2.0.1"},
        ),  # own site, the regional seeder, B's that serves A
        ("10.2.0.9", {"10.2.0.5", "10.3.0.1", "10.2.0.1"}),
        ("10.2.9.9", {"10.3.0.1"}),  # 10.2.0.1 serves A and its own site only
        ("172.16.0.1", {"10.3.0.1"}),
    ],
)
def test_a_node_is_told_of_its_site_and_of_seeders_that_serve_it(asker: str, expected: set[str]) -> None:
    swarms = Swarms(POLICY)
    for address in ("10.1.0.5", "10.2.0.5", "10.3.0.1", "10.2.0.1"):
        ask(swarms, address, left=0 if address.endswith(".1") else 5)
    assert told(ask(swarms, asker)) == expected


def test_a_token_s_site_beats_the_address() -> None:
    swarms = Swarms(POLICY)
    ask(swarms, "10.1.0.5")
    assert told(ask(swarms, "10.2.0.7", site="A")) == {"10.1.0.5"}
    assert told(ask(swarms, "10.1.0.8")) == {"10.1.0.5", "10.2.0.7"}


def test_nobody_is_told_of_itself_and_complete_ones_not_of_complete_ones() -> None:
    swarms = Swarms(POLICY)
    assert told(ask(swarms, "10.1.0.1", left=0)) == set()
    assert told(ask(swarms, "10.1.0.2", left=0)) == set()
    answer = ask(swarms, "10.1.0.3", left=9)
    assert told(answer) == {"10.1.0.1", "10.1.0.2"}
    assert (answer.complete, answer.incomplete) == (2, 1)
    assert told(ask(swarms, "10.1.0.1", left=0)) == {"10.1.0.3"}


def test_a_first_request_gets_everybody_since_left_may_be_unknown() -> None:
    swarms = Swarms(POLICY)
    ask(swarms, "10.1.0.1", left=0)
    assert told(ask(swarms, "10.1.0.2", left=0, event="started")) == {"10.1.0.1"}
    assert told(ask(swarms, "10.1.0.2", left=0)) == set()


def test_number_of_peers_is_what_was_wanted_but_never_above_the_limit() -> None:
    swarms = Swarms(POLICY)
    for last in range(1, 10):
        ask(swarms, f"10.1.0.{last}")
    assert len(ask(swarms, "10.1.1.1").peers) == 3
    assert len(ask(swarms, "10.1.1.1", wanted=2).peers) == 2
    assert len(ask(swarms, "10.1.1.1", wanted=0).peers) == 0
    assert len(ask(swarms, "10.1.1.1", wanted=-1).peers) == 0


def test_stopped_and_silent_peers_are_forgotten() -> None:
    swarms = Swarms(POLICY)
    ask(swarms, "10.1.0.1", 0)
    ask(swarms, "10.1.0.2", 0)
    assert told(ask(swarms, "10.1.0.2", 1, event="stopped")) == set()
    assert told(ask(swarms, "10.1.0.3", 2)) == {"10.1.0.1"}
    ask(swarms, "10.1.0.3", 200)
    assert told(ask(swarms, "10.1.0.4", 260)) == {"10.1.0.3"}


def test_a_restarted_client_is_one_peer_not_two() -> None:
    swarms = Swarms(POLICY)
    ask(swarms, "10.1.0.1", left=0)
    swarms.announce(Announce(HASH, b"q" * 20, "10.1.0.1", 6881, 0), 1.0, first)
    answer = ask(swarms, "10.1.0.2")
    assert [peer.peer_id for peer in answer.peers] == [b"q" * 20]


def test_scrape_counts_over_all_sites() -> None:
    swarms = Swarms(POLICY)
    assert swarms.scrape(HASH, 0) == Count()
    ask(swarms, "10.1.0.1", left=0)
    ask(swarms, "10.2.0.5", left=7, event="started")
    ask(swarms, "10.2.0.6", left=0, event="completed")
    assert swarms.scrape(HASH, 1) == Count(complete=2, downloaded=1, incomplete=1)
    assert swarms.scrape(HASH, 1000) == Count(downloaded=1)


def test_a_full_tracker_refuses_and_forgets_dead_torrents() -> None:
    swarms = Swarms(POLICY)
    ask(swarms, "10.1.0.1", info_hash=b"1" * 20)
    ask(swarms, "10.1.0.1", info_hash=b"2" * 20)
    with pytest.raises(TemporaryError, match="too many torrents"):
        ask(swarms, "10.1.0.1", info_hash=b"3" * 20)
    ask(swarms, "10.1.0.1", 400, info_hash=b"3" * 20)
    assert swarms.torrents() == 1


def test_a_torrent_with_too_many_peers_refuses_new_ones_only() -> None:
    swarms = Swarms(POLICY)
    for last in range(1, 21):
        ask(swarms, f"10.1.0.{last}")
    with pytest.raises(TemporaryError, match="too many peers"):
        ask(swarms, "10.1.1.1")
    ask(swarms, "10.1.0.5")
