"""The site's budgets: what is made within them, what is not, and why. Pure.

Machines that exist count until they are gone. Central and the VO boxes are made in any case (without them
the others are worth nothing) and count first; then workers, in the order of the plan. What does not fit
stays in the plan as a change that is told and not done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.deploy.leaving import price
from orchestrator.deploy.model import Action, Override, World
from orchestrator.deploy.plan import Change
from orchestrator.deploy.spec import is_pet, wanted
from orchestrator.errors import UserError
from orchestrator.providers.base import Machine
from orchestrator.site.schema import Budgets, Site

_SLACK = 1e-9  # sums of prices are not exact


@dataclass(frozen=True)
class Use:
    """What machines take. ``money`` is per hour."""

    machines: int = 0
    cores: int = 0
    money: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(self.machines + other.machines, self.cores + other.cores, self.money + other.money)

    def __sub__(self, other: Use) -> Use:
        return Use(self.machines - other.machines, self.cores - other.cores, self.money - other.money)


def use(world: World, provider: str, offering: str) -> Use:
    """Of one machine; a size that the provider does not tell has one core and costs nothing."""
    size = world.offerings.get(provider, {}).get(offering)
    return Use(1, size.cores if size else 1, price(world, provider, offering) or 0.0)


def used(world: World, machines: Iterable[Machine]) -> Use:
    """Of all those machines."""
    return sum((use(world, m.provider, m.tags.get("offering", "")) for m in machines), Use())


def exceeded(budgets: Budgets, by: Use) -> str:
    """The first budget that ``by`` is more than, in words; "" when there is none."""
    if budgets.machines is not None and by.machines > budgets.machines:
        return f"the budget of {budgets.machines} machines"
    if budgets.cores is not None and by.cores > budgets.cores:
        return f"the budget of {budgets.cores} cores"
    if budgets.money_per_hour is not None and by.money > budgets.money_per_hour + _SLACK:
        return f"the budget of {budgets.money_per_hour:.2f} per hour"
    return ""


def within(site: Site, world: World, changes: Sequence[Change], gone: Sequence[Change]) -> list[Change]:
    """``changes``, what would go over a budget withheld; what only fits when those ``gone`` have left waits."""
    if not _limited(site.budgets):
        return list(changes)
    sizes = {(m.provider, m.name): used(world, [m]) for m in world.machines}
    leaving = [change for change in gone if change.action is Action.DESTROY]
    now = sum(sizes.values(), Use())
    later = now - sum((sizes.pop((change.provider, change.object), Use()) for change in leaving), Use())
    there = {machine.name: machine for machine in world.machines}
    room = _Room(site.budgets, world, there, leaving)
    verdicts: dict[str, Change] = {}
    for change in sorted(changes, key=lambda change: not is_pet(change.role)):
        more = _more(site, world, change, there)
        why = exceeded(site.budgets, later + more)
        if more == Use():
            pass  # it takes nothing
        elif why and _grows(more, site.budgets) and not is_pet(change.role):
            verdicts[change.id] = _withheld(change, why)
            continue
        else:
            later, now = later + more, now + more
            now, waits = room.made(now)
            change = replace(change, needs=(*change.needs, *waits))
        verdicts[change.id] = change
    return [verdicts[change.id] for change in changes]


class _Room:
    """Hands out what leaving machines free, one after the other."""

    def __init__(
        self, budgets: Budgets, world: World, there: Mapping[str, Machine], leaving: Sequence[Change]
    ) -> None:
        self._budgets, self._world, self._there = budgets, world, there
        self._left, self._last = deque(leaving), ""

    def made(self, now: Use) -> tuple[Use, tuple[str, ...]]:
        """(what is used once enough have left, ids of the changes that must be done for that)."""
        waits = [self._last] if self._last else []  # some of its room may be left
        while self._left and exceeded(self._budgets, now):
            gone = self._left.popleft()
            machine = self._there.get(gone.object)
            now = now - used(self._world, [machine] if machine else [])
            self._last = gone.id
            waits.append(gone.id)
        return now, tuple(waits)


def unpriced(site: Site, world: World) -> list[str]:
    """Notes on machines whose price nobody knows, where money is limited."""
    if site.budgets.money_per_hour is None:
        return []
    named = {(group.provider, group.offering) for group in site.groups.values() if group.offering}
    return [
        f"the price of {offering} at {provider} is not known: it counts as nothing in the budget (money_per_hour)"
        for provider, offering in sorted(named)
        if price(world, provider, offering) is None
    ]


def check_scale(site: Site, world: World, overrides: Mapping[str, Override], group: str) -> None:
    """UserError when the site with those counts would be more than its budgets allow."""
    if not _limited(site.budgets):
        return
    all_of_it = wanted(site, overrides).values()
    total = sum((use(world, want.provider, want.spec.offering) for want in all_of_it), Use())
    before = sum(
        (use(world, w.provider, w.spec.offering) for w in wanted(site, world.overrides).values()), Use()
    )
    why = exceeded(site.budgets, total)
    if why and _grows(total - before, site.budgets):
        raise UserError(
            f"group {group}: {overrides[group].count} machines make {total.machines} machines with {total.cores} cores"
            f" for {total.money:.2f} per hour; that is over {why}; want fewer, or raise `budgets` in the site spec",
            group=group,
        )  # fmt: skip


def _more(site: Site, world: World, change: Change, there: Mapping[str, Machine]) -> Use:
    if change.action not in (Action.CREATE, Action.REPLACE):
        return Use()
    old = there.get(change.object)
    if change.action is Action.CREATE and old is not None:
        return Use()  # it is started again
    new = use(world, change.provider, site.groups[change.group].offering or "")
    return new if old is None else new - use(world, old.provider, old.tags.get("offering", ""))


def _grows(more: Use, budgets: Budgets) -> bool:
    """It takes more of something that is limited: what only replaces like by like is never withheld."""
    return (
        (budgets.machines is not None and more.machines > 0)
        or (budgets.cores is not None and more.cores > 0)
        or (budgets.money_per_hour is not None and more.money > _SLACK)
    )


def _withheld(change: Change, why: str) -> Change:
    told = f"not made: it would go over {why}" if change.action is Action.CREATE else f"left as it is: {why}"
    return replace(
        change, id=f"{Action.NONE}:{change.object}", action=Action.NONE, reason=told, fields=(), needs=(), cost=None,
        jobs=(), removes=False, withheld=True,
    )  # fmt: skip


def _limited(budgets: Budgets) -> bool:
    return (budgets.machines, budgets.cores, budgets.money_per_hour) != (None, None, None)


def absent(changes: Iterable[Change], world: World) -> Collection[str]:
    """Machines that do not exist, and are not made."""
    there = {machine.name for machine in world.machines}
    return {change.object for change in changes if change.withheld and change.object not in there}
