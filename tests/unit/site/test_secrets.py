"""Secrets are found, and never shown."""

from __future__ import annotations

import pytest

from orchestrator.site.secrets import hidden, secrets


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "db_password",
        "Token",
        "api-key",
        "apikey",
        "client_secret",
        "private_key",
        "aws.secret_key",
    ],
)
def test_telling_keys(key: str) -> None:
    assert [found.path for found in secrets({"a": [{key: "geheim"}]})] == [("a", 0, key)]
    assert list(secrets({key: {"env": "NAME"}})) == []
    assert list(secrets({key: None})) == []


@pytest.mark.parametrize("key", ["token_lifetime", "key", "keys", "secretary", "monkey", "tokens_per_hour"])
def test_innocent_keys(key: str) -> None:
    assert list(secrets({key: "12 h"})) == []


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  password: geheim", "  password: ******"),
        ("{token: geheim, count: 3}", "{token: ******, count: 3}"),
        ('db_secret: "geheim, too"', "db_secret: *************"),
        ('"secret": \'geheim', '"secret": *******'),
        ("url: postgresql://me:ge@h/eim@db/x", "url: postgresql://me:********@db/x"),
        ("url: postgresql://db/x?password=geheim&a=b", "url: postgresql://db/x?password=******&a=b"),
        ("  Z2VoZWltZ2VoZWltZ2VoZWltZ2VoZWltZ2VoZWltZ2VoZWlt", "*" * 50),
        ("security: {token_lifetime: 1 h}", "security: {token_lifetime: 1 h}"),
        ("  password: {env: NAME}", "  password: {env: NAME}"),
        ("key: ~/.ssh/id", "key: ~/.ssh/id"),
    ],
)
def test_hidden(line: str, shown: str) -> None:
    assert hidden(line) == shown
    assert len(hidden(line)) == len(line)  # the caret below still points right
