"""After a crash: what became of the intents that were left open. Pure.

The provider is asked by name (``World.machines`` is its answer), never trusted to have failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.deploy.model import PROGRESS, Action, Intent, IntentState, Stage, World
from orchestrator.providers.base import Machine


@dataclass(frozen=True)
class Settled:
    """How an open intent is closed, and the stage its machine has then (None: leave it)."""

    intent: Intent
    state: IntentState
    note: str
    stage: Stage | None


def settle(world: World) -> tuple[Settled, ...]:
    """A verdict for each open intent. What is left to do is then the matter of ``decide``.

    Two kinds stay open, and the next intent on the same machine closes them, so that no crash in
    between can hide them: a destruction that was cut short while its machine exists, and a creation
    whose machine is not listed (yet): it may be half made, or its call still on the way.
    """
    there = {(machine.provider, machine.name): machine for machine in world.machines}
    later = {intent.id for intent in (*half_gone(world).values(), *half_made(world).values())}
    return tuple(
        _verdict(intent, there.get((intent.provider, intent.object)), world)
        for intent in world.open
        if intent.id not in later
    )


def _verdict(intent: Intent, machine: Machine | None, world: World) -> Settled:
    done, cut = IntentState.DONE, IntentState.INTERRUPTED
    if intent.action is Action.VERIFY:
        return Settled(intent, cut, "interrupted; looked at again", None)
    if intent.action is Action.DESTROY:
        return Settled(intent, done, "interrupted after it was gone", Stage.GONE)
    if machine is None:
        return Settled(intent, cut, "interrupted; the provider does not know the machine", Stage.GONE)
    if intent.action in (Action.CREATE, Action.ADOPT):
        return Settled(
            intent, done, "interrupted after it was made; found by name", PROGRESS[intent.action][1]
        )
    if (
        intent.action is Action.CONFIGURE
        and machine.applied
        and machine.applied == world.digests.get(machine.name)
    ):
        return Settled(
            intent, done, "interrupted after the machine had its digest", PROGRESS[intent.action][1]
        )
    return Settled(intent, cut, "interrupted; its state is read from the machine", None)


def half_gone(world: World) -> Mapping[str, Intent]:
    """Machines that exist although their destruction had begun: they cannot be trusted to be whole."""
    there = {(machine.provider, machine.name) for machine in world.machines}
    return {i.object: i for i in world.open if i.action in _ENDING and (i.provider, i.object) in there}


def half_made(world: World) -> Mapping[str, Intent]:
    """Machines whose making had begun and that nobody lists: parts of them may exist."""
    there = {machine.name for machine in world.machines}
    return {i.object: i for i in world.open if i.action in _MAKING and i.object not in there}


_ENDING = frozenset({Action.DESTROY, Action.REPLACE})
_MAKING = frozenset({Action.CREATE, Action.REPLACE})
