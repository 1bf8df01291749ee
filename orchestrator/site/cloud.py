"""What types cannot say of clouds whose machines boot an image of a size. Pure; ``check`` calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.site.problem import Problem

_EXAMPLES = {"image": "ami-0123456789abcdef0", "offering": "m5.large"}


def problems(
    providers: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """``providers`` and ``groups`` are the file's plain data."""
    clouds = {name: told for name, told in providers.items() if told.get("kind") == "ec2"}
    for name, told in clouds.items():
        if told.get("zones") and told.get("subnets"):
            hint = "remove zones: each subnet is in one"
            yield Problem(("providers", name, "zones"), "zones beside subnets", hint, key=True)
        if told.get("ssh_from") and told.get("security_groups"):
            hint = "remove it, or allow ssh in those groups"
            message = "ssh_from is for the security group that is made when none is named"
            yield Problem(("providers", name, "ssh_from"), message, hint, key=True)
    for group, told in groups.items():
        yield from _group(group, told, clouds)


def _group(group: str, told: Mapping[str, Any], clouds: Mapping[str, object]) -> Iterator[Problem]:
    first, others = told.get("provider", "local"), told.get("fallback")
    used = [name for name in (first, *(others if isinstance(others, list) else ())) if name in clouds]
    if first in clouds and told.get("role") in ("central", "vobox"):
        yield Problem(
            ("groups", group, "provider"),
            f"provider {first} (ec2) has workers only, not {told['role']}",
            "put this group on a provider of kind ssh or local",
        )
    elif used:
        for key, example in _EXAMPLES.items():
            if told.get(key) is None:
                message = f"provider {used[0]} (ec2) needs the {key} of its machines"
                yield Problem(("groups", group), message, f"add for example `{key}: {example}`", key=True)
