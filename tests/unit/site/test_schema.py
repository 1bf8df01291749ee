"""The models: defaults, helpers, JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.cli.site import json_schema
from orchestrator.errors import NotFound, UserError
from orchestrator.site.schema import EnvReference, FileReference, LocalProvider, Role, Site

GROUPS = {
    "workers": {"role": "worker", "count": 2, "needs": ["vobox"]},
    "vobox": {"role": "vobox"},
    "central": {"role": "central"},
}


def site(**more: Any) -> Site:
    return Site.model_validate({"vo": "alice", "site": "one-box", "groups": GROUPS, **more})


def test_defaults_are_filled_in() -> None:
    made = site(software=None)
    assert made.providers == {"local": LocalProvider(kind="local")}
    assert [(name, se.vobox, se.capacity) for name, se in made.storage_elements.items()] == [
        ("disk", "vobox", 100 * 10**9)
    ]
    assert made.software.repositories["alice.example.org"].server == "vobox"
    assert made.software.method == "torrent"
    assert (made.security.token_lifetime, made.security.certificate_lifetime) == (3600, 30 * 86400)
    assert (made.archive.after, made.archive.keep) == (7 * 86400, None)


def test_what_the_file_says_is_kept() -> None:
    made = site(
        providers={"local": {"kind": "local", "parallel": 1}},
        storage_elements={"tape": {"vobox": "vobox", "capacity": "2 TiB"}},
        software={"method": "http", "repositories": {"sw.alice.cern.ch": {"server": "vobox"}}},
    )
    assert made.providers["local"].parallel == 1
    assert {name: se.capacity for name, se in made.storage_elements.items()} == {"tape": 2 * 1024**4}
    assert list(made.software.repositories) == ["sw.alice.cern.ch"]


def test_a_site_survives_its_own_json() -> None:
    made = site(database={"env": "DB"}, ledger={"file": "~/url"}, budgets={"money_per_hour": 2.5})
    assert isinstance(made.database, EnvReference)
    assert isinstance(made.ledger, FileReference)
    assert Site.model_validate_json(made.model_dump_json()) == made


def test_models_are_frozen_and_groups_hashable() -> None:
    made = site()
    with pytest.raises(ValidationError, match="frozen"):
        made.groups["vobox"].count = 3  # type: ignore[misc]
    assert len({*made.groups.values(), made.groups["vobox"]}) == 3


def test_groups_in_dependency_order() -> None:
    made = site()
    assert made.ordered_groups() == ("central", "vobox", "workers")
    assert made.dependencies("vobox") == ("central",)  # though the file does not say so
    assert made.dependencies("workers") == ("vobox",)
    assert made.names(Role.WORKER) == ("workers",)


def test_a_worker_belongs_to_the_vo_box_it_needs() -> None:
    groups = {
        **GROUPS,
        "second": {"role": "vobox"},
        "far": {"role": "worker", "needs": ["other"]},
        "other": {"role": "worker", "needs": ["second"]},
        "free": {"role": "worker"},
    }
    made = site(groups=groups)
    assert [made.vobox_of(name) for name in ("workers", "far", "free", "second")] == [
        "vobox",
        "second",
        "vobox",
        "second",
    ]
    assert site(groups={"central": {"role": "central"}}).vobox_of("central") is None


def test_machine_names() -> None:
    made = site()
    assert made.machine_names("workers") == ("one-box-workers-1", "one-box-workers-2")
    assert made.machine_names("workers", 1) == ("one-box-workers-1",)
    with pytest.raises(NotFound, match="groups: workers, vobox, central"):
        made.machine_names("worker")


@pytest.mark.parametrize(
    ("settings", "wanted", "limits"),
    [
        ({}, 1, (1, 1)),
        ({"count": 0}, 0, (0, 0)),
        ({"count": 7}, 7, (7, 7)),
        ({"min": 2, "max": 5}, 2, (2, 5)),
        ({"max": 5}, 0, (0, 5)),
    ],
)
def test_how_many(settings: dict[str, int], wanted: int, limits: tuple[int, int]) -> None:
    group = site(groups={"w": {"role": "worker", **settings}}).groups["w"]
    assert (group.wanted, group.limits) == (wanted, limits)


def test_scaling_keeps_to_the_limits() -> None:
    made = site(groups={**GROUPS, "cloud": {"role": "worker", "min": 1, "max": 3}})
    assert made.scaled("workers", 9).groups["workers"].wanted == 9
    assert made.scaled("cloud", 3).machine_names("cloud")[-1] == "one-box-cloud-3"
    assert made.groups["workers"].wanted == 2
    for group, count, reason in (
        ("cloud", 4, "allows 1 to 3"),
        ("cloud", 0, "1 to 3"),
        ("vobox", 2, "one machine"),
    ):
        with pytest.raises(UserError, match=reason):
            made.scaled(group, count)


def test_agent_limit_is_the_slots_unless_told() -> None:
    batch = {"kind": "fork", "slots": 4}
    elements = {
        "a": {"vobox": "vobox", "batch": batch},
        "b": {"vobox": "vobox", "batch": batch, "max_agents": 9},
    }
    made = site(computing_elements=elements)
    assert [ce.agent_limit for ce in made.computing_elements.values()] == [4, 9]
    assert made.computing_elements["a"].ttl == 12 * 3600


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, found in schema.get("properties", {}).items():
        yield f"{path}.{name}", found
    for name, found in schema.get("$defs", {}).items():
        yield from properties(found, name)


def test_every_key_of_the_json_schema_is_described() -> None:
    found = dict(properties(json_schema()))
    assert {"Group.slots", "ComputingElement.ttl", "SshHost.key", ".vo"} <= set(found)
    assert [name for name, schema in found.items() if not schema.get("description")] == []


def test_json_schema_takes_quantities_as_text_and_number() -> None:
    found = dict(properties(json_schema()))
    for name in ("ComputingElement.ttl", "StorageElement.capacity"):
        assert {option["type"] for option in found[name]["anyOf"]} == {"string", "number"}
    assert json_schema()["required"] == ["vo", "groups"]
