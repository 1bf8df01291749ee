"""Where a new machine goes: the hypervisor with the most free cores, if one has room. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Size:
    """Of a machine, or of all that a hypervisor may give."""

    cores: int
    memory: int  # bytes


@dataclass(frozen=True)
class Room:
    """What a hypervisor may give, and what its machines (anybody's) were promised."""

    limit: Size
    used: Mapping[str, Size] = field(default_factory=dict)

    @property
    def free(self) -> Size:
        """What is left."""
        return Size(
            self.limit.cores - sum(size.cores for size in self.used.values()),
            self.limit.memory - sum(size.memory for size in self.used.values()),
        )


def choose(rooms: Mapping[str, Room], wanted: Size, avoid: Collection[str]) -> str | None:
    """The name of the hypervisor; one in ``avoid`` only if there is no other; None if nobody has room."""
    fits = [
        name
        for name, room in rooms.items()
        if room.free.cores >= wanted.cores and room.free.memory >= wanted.memory
    ]
    return max(fits, key=lambda name: (name not in avoid, rooms[name].free.cores), default=None)
