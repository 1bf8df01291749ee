"""What the EC2 provider decides by itself."""

from __future__ import annotations

import base64
import gzip
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PermanentError
from orchestrator.providers.base import MachineSpec
from orchestrator.providers.ec2 import rules

_ZONES = [rules.Place(zone) for zone in ("a", "b", "c")]


def _with(user_data: str) -> MachineSpec:
    return MachineSpec("try-w-1", "w", "worker", user_data=user_data)


@given(st.text(max_size=40_000))
def test_user_data_fits_and_is_what_it_was_or_is_refused(text: str) -> None:
    try:
        sent = base64.b64decode(rules.packed(_with(text)))
    except PermanentError:
        assert len(gzip.compress(text.encode())) > rules.USER_DATA
        return
    assert len(sent) <= rules.USER_DATA
    assert (gzip.decompress(sent) if sent[:2] == b"\x1f\x8b" else sent) == text.encode()


def test_user_data_at_the_limit_goes_as_it_is() -> None:
    text = "x" * rules.USER_DATA
    assert base64.b64decode(rules.packed(_with(text))) == text.encode()
    assert base64.b64decode(rules.packed(_with(text + "x")))[:2] == b"\x1f\x8b"


def test_the_same_user_data_is_packed_the_same_way() -> None:
    """A client token stands for one set of parameters."""
    spec = _with("a line of a context\n" * 2000)
    assert rules.packed(spec) == rules.packed(spec)


def test_what_cannot_fit_names_the_group() -> None:
    with pytest.raises(PermanentError, match="context of group w shorter"):
        rules.packed(_with(secrets.token_hex(30_000)))


def test_places_are_spread_and_stay() -> None:
    first = [rules.ordered(_ZONES, f"try-w-{n}", ())[0].zone for n in range(60)]
    assert {zone: first.count(zone) >= 10 for zone in "abc"} == {"a": True, "b": True, "c": True}
    assert first == [rules.ordered(_ZONES, f"try-w-{n}", ())[0].zone for n in range(60)]


def test_places_to_avoid_come_last() -> None:
    for number in range(20):
        tried = [place.zone for place in rules.ordered(_ZONES, f"try-w-{number}", ("b",))]
        assert tried[-1] == "b"
        assert sorted(tried) == ["a", "b", "c"]


def test_client_tokens_are_short_and_differ_by_place() -> None:
    places = [*_ZONES, rules.Place("a", "subnet-0123456789abcdef0"), rules.Place()]
    tokens = {rules.client_token("f" * 32, place) for place in places}
    assert len(tokens) == 5
    assert all(len(token) <= 64 and token.isascii() for token in tokens)


def test_a_public_address_takes_groups_and_subnet_along() -> None:
    place, shared = rules.Place("a", "subnet-1", "vpc-1"), {"SecurityGroupId.1": "sg-1", "KeyName": "k"}
    assert rules.network(place, shared, False) == {"SubnetId": "subnet-1", **shared}
    assert rules.network(place, shared, True) == {
        "KeyName": "k",
        "NetworkInterface.1.SubnetId": "subnet-1",
        "NetworkInterface.1.SecurityGroupId.1": "sg-1",
        "NetworkInterface.1.DeviceIndex": "0",
        "NetworkInterface.1.AssociatePublicIpAddress": "true",
        "NetworkInterface.1.DeleteOnTermination": "true",
    }
