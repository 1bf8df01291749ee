"""Package entries: what is accepted, what is refused, and that JSON keeps everything."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.software.model import Package, PackageName, parse_spelling

PACKAGE = Package(
    name="AliRoot",
    version="v5-09-01",
    fqrn="alice.example.org",
    path="AliRoot/v5-09-01",
    revision=7,
    size=123,
    sha256="ab" * 32,
    info_hash="cd" * 20,
    torrent=b"d4:infode\xff",
)


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("AliRoot::v5-09-01", "AliRoot", "v5-09-01"),
        ("VO_ALICE@ROOT::6.32", "VO_ALICE@ROOT", "6.32"),
        ("g++::1", "g++", "1"),
    ],
)
def test_spelling_is_parsed_and_printed(text: str, name: str, version: str) -> None:
    assert parse_spelling(text) == PackageName(name, version)
    assert str(parse_spelling(text)) == text


@pytest.mark.parametrize(
    "text", ["", "AliRoot", "AliRoot::", "::1", "a::b::c", "../x::1", "a/b::1", "a::..", "a b::1"]
)
def test_wrong_spelling_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="package"):
        parse_spelling(text)


def test_json_keeps_everything_and_other_keys_are_left_alone() -> None:
    document = json.loads(json.dumps(PACKAGE.to_json())) | {"urls": ["http://x"], "made": 1}
    assert Package.from_json(document) == PACKAGE


def test_revision_may_be_missing() -> None:
    document = PACKAGE.to_json()
    del document["revision"]
    assert Package.from_json(document) == dataclasses.replace(PACKAGE, revision=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../etc"),
        ("name", None),
        ("version", "a/b"),
        ("fqrn", "../x"),
        ("fqrn", "/"),
        ("path", "/abs"),
        ("path", "a/../../b"),
        ("size", "12"),
        ("size", -1),
        ("size", True),
        ("size", None),
        ("revision", 1.5),
        ("sha256", "AB" * 32),
        ("sha256", ""),
        ("info_hash", "cd"),
        ("torrent", "not base64!"),
        ("torrent", 7),
    ],
)
def test_a_wrong_field_is_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError):
        Package.from_json(PACKAGE.to_json() | {key: value})
