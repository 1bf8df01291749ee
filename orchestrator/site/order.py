"""Which group waits for which. Works on names alone, so that a wrong file can be judged too. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

Roles = Mapping[str, str]
Needs = Mapping[str, Sequence[str]]


def vobox_of(name: str, roles: Roles, needs: Needs) -> str | None:
    """The VO-box group a group belongs to: itself, else the first among its needs (followed
    through, nearest first), else the first of the site; None when there is none."""
    queue = [name]
    for here in queue:  # grows while it is walked
        if roles.get(here) == "vobox":
            return here
        queue += [need for need in needs.get(here, ()) if need in roles and need not in queue]
    return next((other for other, role in roles.items() if role == "vobox"), None)


def dependencies(name: str, roles: Roles, needs: Needs) -> tuple[str, ...]:
    """Groups that must be up before this one: its needs, and what its role always needs (a VO box
    the central services, a worker its VO box)."""
    found = [need for need in needs.get(name, ()) if need in roles]
    if roles[name] == "vobox":
        found += [other for other, role in roles.items() if role == "central"]
    elif roles[name] == "worker" and (vobox := vobox_of(name, roles, needs)) is not None:
        found.append(vobox)
    return tuple(dict.fromkeys(found))


def ordered(roles: Roles, needs: Needs) -> tuple[str, ...]:
    """All groups, each after its dependencies; the order depends on nothing but the arguments.

    Raises graphlib.CycleError when there is none; a loaded site always has one.
    """
    return tuple(TopologicalSorter({name: dependencies(name, roles, needs) for name in roles}).static_order())


def cycles(roles: Roles, needs: Needs) -> list[tuple[tuple[str, str], list[str]]]:
    """Each cycle as ((group, need) that the file could drop to break it, groups around it)."""
    left = {name: [need for need in needs.get(name, ()) if need in roles] for name in roles}
    found: list[tuple[tuple[str, str], list[str]]] = []
    while True:
        try:
            ordered(roles, left)
        except CycleError as error:
            around = list(reversed(error.args[1]))  # "a needs b" reads from left to right
            edges = list(pairwise(around))
            # Of the written edges, the one that is not implied by the roles anyway is the mistake.
            written = [(a, b) for a, b in edges if b in left[a]]
            edge = next((e for e in written if e[1] not in dependencies(e[0], roles, {})), written[0])
            left[edge[0]] = [need for need in left[edge[0]] if need != edge[1]]
            found.append((edge, around))
        else:
            return found
