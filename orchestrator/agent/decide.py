"""What the agent does next: ask for a job, wait, or stop. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.units import Bytes


@dataclass(frozen=True)
class Use:
    """What one running job was promised. Memory in bytes."""

    cores: int
    memory: int


@dataclass(frozen=True)
class Seen:
    """The agent's state now (``now`` and the other times: seconds of one clock)."""

    now: float
    slot_end: float
    idle_since: float  # when the last job ended, or the agent started
    running: Sequence[Use] = ()
    draining: bool = False
    ask_after: float = 0.0  # the broker asked us not to come back before


@dataclass(frozen=True)
class Policy:
    """What the slot has, and how it is used. Memory in bytes, times in seconds."""

    cores: int
    memory: int
    slots: int = 1
    margin: float = 120.0  # kept free at the slot's end, for saving
    shortest: float = 30.0  # less time than that is not offered
    least_memory: int = Bytes(64 << 20)  # nor less memory than that
    idle_timeout: float = 0.0  # 0: never
    wait: float = 20.0  # longest wait at the broker


@dataclass(frozen=True)
class Ask:
    """Ask for one job with these resources; ``ttl`` seconds for it, at most ``wait`` seconds at the broker."""

    cores: int
    memory: int
    ttl: float
    wait: float


@dataclass(frozen=True)
class Wait:
    """Nothing to do for ``seconds``, unless something happens."""

    seconds: float
    why: str


@dataclass(frozen=True)
class Stop:
    """The agent's work is over."""

    why: str


Action = Ask | Wait | Stop


def decide(seen: Seen, policy: Policy) -> Action:
    """The next action. A job once begun is never left: Stop comes only when none is running."""
    if seen.draining:
        return Wait(60.0, "draining") if seen.running else Stop("drained")
    ttl = seen.slot_end - seen.now - policy.margin
    if ttl < policy.shortest:
        return Wait(60.0, "the slot ends") if seen.running else Stop("the slot ends")
    cores = policy.cores - sum(use.cores for use in seen.running)
    memory = policy.memory - sum(use.memory for use in seen.running)
    if len(seen.running) >= policy.slots or cores < 1 or memory < policy.least_memory:
        return Wait(60.0, "every slot is taken")
    patience = policy.wait
    if policy.idle_timeout and not seen.running:
        patience = seen.idle_since + policy.idle_timeout - seen.now
        if patience <= 0:
            return Stop("no work")
    if seen.ask_after > seen.now:
        return Wait(min(seen.ask_after - seen.now, patience), "the broker has nothing")
    return Ask(cores, memory, ttl, max(0.0, min(policy.wait, patience, ttl - policy.shortest)))
