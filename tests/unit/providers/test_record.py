"""What machines remember, and what a look at a host tells."""

from __future__ import annotations

import json

import pytest

from orchestrator.providers._record import Applied, Record, compare, parse_applied, parse_record
from orchestrator.providers._ssh_probe import parse

_RECORD = Record("try-w-1", "w", "worker", "alice", "try", "10.0.0.1", {"a": "b"})


def test_record_survives_its_text() -> None:
    assert parse_record(_RECORD.dump()) == _RECORD


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"name": "x"}', '{"name": 1}', json.dumps({"name": "x"} | {"tags": 3})]
)
def test_damaged_record_is_no_record(text: str) -> None:
    assert parse_record(text) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"digest": "x"}', '{"digest": "x", "files": 3}'])
def test_damaged_manifest_is_no_manifest(text: str) -> None:
    assert parse_applied(text) is None


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        ({"a": "1", "b": "2"}, ("d", ())),
        ({"a": "1", "b": "2", "c": "3"}, ("d", ())),
        ({"a": "1", "b": "9"}, ("", ("b",))),
        ({"b": "2"}, ("", ("a",))),
        ({}, ("", ("a", "b"))),
    ],
)
def test_drift(sums: dict[str, str], expected: tuple[str, tuple[str, ...]]) -> None:
    assert compare(Applied("d", {"a": "1", "b": "2"}), sums) == expected


def test_probe_of_a_machine() -> None:
    text = "\n".join(
        [
            "=== record",
            _RECORD.dump(),
            "=== facts",
            "manager systemd",
            "context waiting",
            "=== applied",
            '{"digest": "d", "files": {"etc/a": "1", "/etc/systemd/system/orchestrate-x.service": "2"}}',
            "=== sums",
            "1  /opt/orchestrate/try/etc/a",
            "2  /etc/systemd/system/orchestrate-x.service",
            "=== end",
        ]
    )
    probe = parse(text, "/opt/orchestrate/try")
    assert probe.record == _RECORD
    assert probe.facts == {"manager": "systemd", "context": "waiting"}
    assert compare(probe.applied, probe.sums) == ("d", ())


def test_probe_of_a_free_host() -> None:
    probe = parse("=== record\n\n=== facts\nmanager supervisor\n=== applied\n\n=== sums\n=== end\n", "/r")
    assert (probe.record, probe.applied, dict(probe.sums)) == (None, None, {})
