"""Where a machine that should exist is made: at its group's provider, or elsewhere after it failed there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.deploy.model import Failure, World
from orchestrator.deploy.spec import Wanted, wanted
from orchestrator.site.schema import Site


def placed(site: Site, world: World) -> dict[str, Wanted]:
    """What is wanted, each machine with the provider it is or will be at."""
    there: dict[str, set[str]] = {}
    for machine in world.machines:
        there.setdefault(machine.name, set()).add(machine.provider)
    failures: dict[str, list[Failure]] = {}
    for failure in world.unmade:
        failures.setdefault(failure.object, []).append(failure)
    return {
        name: replace(
            want,
            provider=_choice(site, want, there.get(name, set()), failures.get(name, [])),
            avoid=tuple(dict.fromkeys(f.place for f in failures.get(name, ()) if f.place)),
        )
        for name, want in wanted(site, world.overrides).items()
    }


def _choice(site: Site, want: Wanted, there: set[str], failures: list[Failure]) -> str:
    allowed = (want.provider, *site.groups[want.spec.group].fallback)
    tried: Mapping[str, int] = {name: sum(f.provider == name for f in failures) for name in allowed}
    for name in allowed:
        if name in there and not tried[name]:
            return name
    return min(allowed, key=lambda name: (tried[name], allowed.index(name)))
