"""When a payload has used too much. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.agent.model import DISK_EXCEEDED, MEMORY_EXCEEDED, NO_CPU, TTL_EXCEEDED
from orchestrator.units import format_duration, format_size


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes; ``idle``: longest time in which no CPU is used."""

    wall: float
    memory: int
    disk: int
    idle: float = 900.0


@dataclass(frozen=True)
class Usage:
    """What a payload uses now; None where the node does not tell (no /proc)."""

    wall: float
    cpu: float | None = None  # seconds, all processes, also ended ones
    memory: int | None = None  # bytes resident
    disk: int | None = None  # bytes in its work directory


@dataclass(frozen=True)
class Activity:
    """The CPU time at the last moment when it had clearly grown."""

    cpu: float = 0.0
    at: float = 0.0  # seconds of wall time

    def after(self, usage: Usage) -> Activity:
        """The activity when ``usage`` is seen; less than half a second of CPU is noise."""
        if usage.cpu is None or usage.cpu - self.cpu >= 0.5:
            return Activity(usage.cpu or 0.0, usage.wall)
        return self


@dataclass(frozen=True)
class Excess:
    """The limit that was broken: its code, and the text for the user."""

    code: str
    text: str


def judge(usage: Usage, limits: Limits, activity: Activity) -> Excess | None:
    """The limit that ``usage`` breaks, or None. ``activity`` is that of this usage."""
    if usage.wall > limits.wall:
        return Excess(
            TTL_EXCEEDED, f"ran {format_duration(usage.wall)}; its TTL is {format_duration(limits.wall)}"
        )
    if usage.memory is not None and usage.memory > limits.memory:
        used, most = format_size(usage.memory), format_size(limits.memory)
        return Excess(MEMORY_EXCEEDED, f"used {used} of memory; its MemorySize is {most}")
    if usage.disk is not None and usage.disk > limits.disk:
        used, most = format_size(usage.disk), format_size(limits.disk)
        return Excess(DISK_EXCEEDED, f"wrote {used}; its WorkDirectorySize is {most}")
    if usage.cpu is not None and usage.wall - activity.at > limits.idle:
        return Excess(NO_CPU, f"used no CPU for {format_duration(usage.wall - activity.at)}")
    return None
