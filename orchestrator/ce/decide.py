"""How many agents a CE submits now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class End:
    """How one agent ended: when (seconds), how long it had lived, and its exit status (None: unknown)."""

    at: float
    lived: float
    status: int | None


@dataclass(frozen=True)
class Seen:
    """What the CE knows. ``waiting``: tasks its slots could run; ``idle`` and ``busy``: agents by the
    ClusterMonitor; ``queued`` and ``running``: agents by the batch system; ``ends``: lately ended ones."""

    now: float
    waiting: int
    idle: int
    busy: int
    queued: int
    running: int
    ends: Sequence[End] = ()


@dataclass(frozen=True)
class Policy:
    """``slots``: agents the batch system runs at once; times in seconds."""

    min_idle: int = 0
    max_agents: int = 1
    young: float = 20.0  # an agent that failed before this age is a bad sign
    back_off: float = 5.0  # doubled with each such agent in a row
    longest_back_off: float = 300.0
    burst: int = 20  # submitted in one round


@dataclass(frozen=True)
class Decision:
    """Submit so many; the reason is for the log."""

    submit: int
    why: str


def decide(seen: Seen, policy: Policy) -> Decision:
    """Agents for the tasks that wait and for ``min_idle``, less those that are idle or on their way.

    A task is counted once: an agent that is queued, starting or idle will take one.
    """
    alive = seen.queued + seen.running
    free = max(0, alive - min(seen.busy, seen.running))
    wanted = seen.waiting + policy.min_idle
    room = policy.max_agents - alive
    number = min(wanted - free, room, policy.burst)
    if wanted <= free:
        return Decision(0, f"{free} agents are free for {wanted}")
    if room <= 0:
        return Decision(0, f"all {policy.max_agents} agents are there")
    until = pause_until(seen.ends, policy)
    if seen.now < until:
        return Decision(0, f"agents die young: none before {until - seen.now:.0f} s have passed")
    return Decision(
        number, f"{seen.waiting} tasks wait, {policy.min_idle} to keep idle, {free} agents are free"
    )


def pause_until(ends: Sequence[End], policy: Policy) -> float:
    """Until when nothing is submitted, because the last agents failed young; 0 when they did not."""
    failed = 0
    last = 0.0
    for end in sorted(ends, key=lambda each: each.at, reverse=True):
        if end.status == 0 or end.lived >= policy.young:
            break
        last = last or end.at
        failed += 1
    if failed < 2:  # one may be bad luck
        return 0.0
    return last + float(min(policy.longest_back_off, policy.back_off * 2 ** (failed - 2)))
