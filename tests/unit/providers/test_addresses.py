"""Loopback addresses of local machines."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from pathlib import Path

import pytest

from orchestrator.errors import PermanentError
from orchestrator.providers._addresses import busy_port, candidates, choose


def test_candidates_are_distinct_loopback_addresses_that_nobody_else_uses() -> None:
    found = list(itertools.islice(candidates(Path("/some/state")), 1000))
    assert len(set(found)) == 1000
    assert all(ipaddress.ip_address(address).is_loopback for address in found)
    assert not any(address.startswith(("127.0.", "127.255.")) for address in found)


def test_a_state_directory_keeps_its_addresses() -> None:
    path = Path("/some/state")
    assert next(candidates(path)) == next(candidates(path))
    assert len({next(candidates(Path(f"/state/{number}"))) for number in range(50)}) > 45


def test_taken_addresses_are_passed_over(tmp_path: Path) -> None:
    first = choose(candidates(tmp_path), ())
    assert choose(candidates(tmp_path), {first}) != first


def test_a_listener_makes_an_address_busy(tmp_path: Path) -> None:
    address = choose(candidates(tmp_path), ())
    assert busy_port(address) is None
    with socket.create_server((address, 8446)):
        assert busy_port(address) == 8446
        assert choose(candidates(tmp_path), ()) != address


def test_a_range_that_is_taken_is_said() -> None:
    with pytest.raises(PermanentError, match="all 2 addresses are taken"):
        choose(["127.9.9.1", "127.9.9.2"], {"127.9.9.1", "127.9.9.2"})
