"""The blast-radius guard: an edit that would take many machines away must say how many. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.deploy.model import World
from orchestrator.deploy.plan import Plan
from orchestrator.errors import UserError
from orchestrator.site.schema import Site

_FEW = 5  # fewer machines than that may always go


@dataclass(frozen=True)
class Removal:
    """Machines of one group that may work, and go at once."""

    group: str
    gone: int
    of: int

    def __str__(self) -> str:
        return f"{self.gone} of the {self.of} machines of group {self.group}"


def removals(site: Site, world: World, plan: Plan) -> tuple[Removal, ...]:
    """Groups that lose more than the set share (``budgets.removal``). Updates in waves are not among
    them: each wave waits until the one before works; nor machines that were made and never worked."""
    idle = {failure.object for failure in world.unmade}
    there = Counter(machine.group for machine in world.machines)
    gone = Counter(change.group for change in plan.changes if change.removes and change.object not in idle)
    return tuple(
        Removal(group, many, there[group])
        for group, many in gone.items()
        if many >= _FEW and many > site.budgets.removal * there[group]
    )


def check(site: Site, world: World, plan: Plan, allowed: int) -> None:
    """UserError unless all that the guard sees is within the number that the user gave."""
    found = removals(site, world, plan)
    many = sum(removal.gone for removal in found)
    if many > allowed:
        raise UserError(
            f"site {site.site}: this removes {', '.join(map(str, found))}; if that is meant, add --yes-remove {many}",
            groups=[removal.group for removal in found], machines=many,
        )  # fmt: skip
