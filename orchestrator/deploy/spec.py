"""From the site spec to the machines that should exist. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.deploy.model import Override
from orchestrator.errors import UserError
from orchestrator.providers.base import MachineSpec
from orchestrator.site.schema import Group, Role, Site

# A difference in one of these tags means another machine, not another configuration.
REPLACING = ("image", "offering")
REPLACING_WORKER = (*REPLACING, "slots", "context")


@dataclass(frozen=True)
class Wanted:
    """A machine that should exist."""

    spec: MachineSpec
    provider: str
    avoid: tuple[str, ...] = ()  # places where it failed before


def is_pet(role: str) -> bool:
    """Pets are configured by Ansible and keep state; workers configure themselves and keep none."""
    return role != Role.WORKER


def counts(site: Site, overrides: Mapping[str, Override]) -> dict[str, int]:
    """Machines to have per group: what ``scale`` said last, unless the site spec was edited since."""
    wanted = {}
    for name, group in site.groups.items():
        override = overrides.get(name)
        wanted[name] = override.count if override and override.base == group.wanted else group.wanted
    return wanted


def checked_scale(site: Site, name: str, count: int) -> Override:
    """The override that ``scale name count`` writes; UserError when the site spec forbids that count."""
    if count < 0:
        raise UserError(f"group {name}: {count} machines cannot be; give 0 or more", group=name)
    site.scaled(name, count)  # refuses pets and counts outside min..max
    return Override(count, site.group(name).wanted)


def machine_spec(site: Site, group_name: str, name: str) -> MachineSpec:
    """What is wanted of the machine ``name``; its user data is made when it is really created."""
    group = site.group(group_name)
    tags = {"orchestrate-site": site.site, "orchestrate-vo": site.vo} | _traits(group)
    return MachineSpec(
        name=name,
        group=group_name,
        role=str(group.role),
        image=group.image or "",
        offering=group.offering or "",
        tags=tags,
    )


def _traits(group: Group) -> dict[str, str]:
    traits = {"image": group.image or "", "offering": group.offering or ""}
    if group.role is Role.WORKER:
        traits |= {"slots": str(group.slots), "context": group.context or ""}
    return traits


def wanted(site: Site, overrides: Mapping[str, Override]) -> dict[str, Wanted]:
    """Machine name → what is wanted of it, groups after those they need."""
    many = counts(site, overrides)
    return {
        name: Wanted(machine_spec(site, group, name), site.groups[group].provider)
        for group in site.ordered_groups()
        for name in site.machine_names(group, many[group])
    }


def with_context(spec: MachineSpec, user_data: str) -> MachineSpec:
    """``spec`` with the context it boots with."""
    return replace(spec, user_data=user_data)
