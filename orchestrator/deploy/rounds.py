"""What is made again within one ``up``: workers that did not come up, elsewhere if there is an elsewhere. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from orchestrator.deploy.decide import only
from orchestrator.deploy.model import Action
from orchestrator.deploy.plan import Change, Plan
from orchestrator.deploy.report import Ended, Report
from orchestrator.providers.breaker import TRIP

_MAKING = (Action.CREATE, Action.REPLACE, Action.ADOPT)


def again(plan: Plan, report: Report) -> Plan | None:
    """What of the plan of now makes failures of ``report`` good; None when nothing does.

    A configuration that failed fails again, and a storm is over when somebody has mended its cause:
    these, and what depends on them, are left to the next ``up``.
    """
    hopeless = {r.change.id for r in report.of(Ended.FAILED) if not _worth_it(r.change)}
    hopeless |= {
        change.id for change in plan.changes if change.removes and change.group in _hollow(plan, report)
    }
    stormed = {result.change.group for result in report.results if result.storm}
    blocked: set[str] = set()
    for change in plan.changes:  # a change comes after those it needs, or depends on none of them
        if change.id in hopeless or change.group in stormed or not blocked.isdisjoint(change.needs):
            blocked.add(change.id)
    left = {change.id for change in plan.changes} - blocked
    failed = {r.change.object for r in report.of(Ended.FAILED)} | {
        name
        for r in report.of(Ended.FAILED)
        if r.change.action is Action.VERIFY
        for name in _group(plan, r.change)
    }
    made = [c for c in plan.changes if c.id in left and c.action in _MAKING and c.object in failed]
    # What they waited for has come up after all: now they can begin.
    waited = {r.change.object for r in report.of(Ended.SKIPPED) if not r.storm}
    free = [c for c in plan.work if c.id in left and c.action is not Action.VERIFY and c.object in waited]
    cut = any(
        c.action is Action.NONE and not c.withheld for c in plan.changes
    )  # unreachable: waited for once more
    if not made and not free and not cut:
        return None
    return replace(plan, changes=tuple(only(plan.changes, left)))


def _worth_it(change: Change) -> bool:
    return change.action in _MAKING or (change.action is Action.VERIFY and change.role == "worker")


def _hollow(plan: Plan, report: Report) -> set[str]:
    """Groups in which many machines run and none works: others like them would not either."""
    ill = Counter(change.group for change in plan.changes if change.removes)
    alive = {name.rpartition("-")[0] for name in report.well}
    return {group for group, many in ill.items() if many >= TRIP and f"{plan.site}-{group}" not in alive}


def _group(plan: Plan, verify: Change) -> set[str]:
    return {change.object for change in plan.changes if change.group == verify.group}
