"""What types cannot say of address ranges and of a pool of hypervisors. Pure; ``check`` calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.site.problem import Path, Problem, choose
from orchestrator.site.virtual import addresses_of

_RANGE = "write the first and the last address, as 10.1.0.10-10.1.0.99"


def problems(
    providers: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Mapping[str, Any]],
    most: Mapping[str, int],
) -> Iterator[Problem]:
    """``providers`` and ``groups`` are the file's plain data; ``most`` the machines that a group may have."""
    for name, provider in providers.items():
        users = {group: told for group, told in groups.items() if name in _providers(told)}
        if provider.get("kind") == "local":
            yield from _range(("providers", name, "addresses"), provider.get("addresses"), users, most)
        elif provider.get("kind") == "libvirt":
            network = provider.get("network")
            if isinstance(network, Mapping):
                yield from _network(("providers", name, "network"), network, users, most)
            yield from _twice(name, provider.get("hypervisors"))
            for group, told in users.items():
                yield from _group(name, provider, group, told)


def _providers(group: Mapping[str, Any]) -> list[Any]:
    further = group.get("fallback")
    return [group.get("provider", "local"), *(further if isinstance(further, list) else ())]


def _group(name: str, provider: Mapping[str, Any], group: str, told: Mapping[str, Any]) -> Iterator[Problem]:
    if told.get("role") in ("central", "vobox"):
        yield Problem(
            ("groups", group, "provider"),
            f"provider {name} (libvirt) has workers only, not {told['role']}",
            "put this group on a provider of kind ssh or local",
        )
    elif told.get("image") is None:
        hint = "add `image: …`, the name of a volume in its storage pool (images/README.md)"
        yield Problem(
            ("groups", group), f"machines of provider {name} boot an image, and none is named", hint, key=True
        )
    offering, offered = told.get("offering"), provider.get("offerings")
    known = [each for each in offered if isinstance(each, str)] if isinstance(offered, Mapping) else []
    if isinstance(offering, str) and offering not in known:
        path: Path = ("groups", group, "offering")
        yield Problem(
            path, f"provider {name} has no offering {offering!r}", choose(offering, known, "offering")
        )


def _network(
    path: Path, network: Mapping[str, Any], users: Mapping[str, Any], most: Mapping[str, int]
) -> Iterator[Problem]:
    links = [key for key in ("libvirt", "bridge") if network.get(key) is not None]
    if len(links) == 2:
        yield Problem((*path, "bridge"), "bridge beside libvirt", "name one of the two", key=True)
    for key in ("addresses", "gateway", "dns"):
        if not links and network.get(key) is not None:
            hint = "name a bridge, or a network of libvirt; or remove it"
            yield Problem((*path, key), f"{key} of a user-mode network cannot be chosen", hint, key=True)
            return
    yield from _range((*path, "addresses"), network.get("addresses"), users, most)


def _range(path: Path, text: Any, users: Mapping[str, Any], most: Mapping[str, int]) -> Iterator[Problem]:
    if not isinstance(text, str) or text.count("-") != 1:
        return
    try:
        given = len(addresses_of(text))
    except ValueError as error:
        yield Problem(path, f"{text!r} is not a range of addresses: {error}", _RANGE)
        return
    wanted = sum(most[group] for group in users)
    if wanted > given:
        yield Problem(
            path,
            f"its groups may need {wanted} addresses, and {given} are given",
            "give more, or want fewer machines",
        )


def _twice(provider: str, hypervisors: Any) -> Iterator[Problem]:
    """A hypervisor that is named twice would be filled twice."""
    for key in ("name", "uri"):
        seen = set()
        for n, told in enumerate(hypervisors if isinstance(hypervisors, list) else ()):
            value = told.get(key) if isinstance(told, Mapping) else None
            if isinstance(value, str) and value in seen:
                path: Path = ("providers", provider, "hypervisors", n, key)
                yield Problem(path, f"{key} {value!r} is given twice", "name each hypervisor once")
            seen.add(value if isinstance(value, str) else None)
