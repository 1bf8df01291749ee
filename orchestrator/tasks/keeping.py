"""What goes to the archive of tasks, and when: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

DAY = 86400.0


@dataclass(frozen=True)
class Keeping:
    """How long ended tasks stay where they are, in seconds."""

    after: float = 7 * DAY  # since a family's last move: then it goes to the archive
    keep: float | None = None  # since a task was submitted: then it is dropped from the archive; None: never
    period: float = 7 * DAY  # of one part of the archive; its tasks stay live until it is over
    most: int = 10_000_000  # tasks of one part


def end_of_part(first: int, following: int, since: float, now: float, keeping: Keeping) -> int | None:
    """Where the part of the archive that begins with task ``first`` ends (the next begins there); None: not yet.

    ``following``: the number of the next new task; ``since``: when the last part ended.
    """
    if following - first >= keeping.most:
        return first + keeping.most
    return following if following > first and now - since >= keeping.period else None


def whole(families: Mapping[int, Sequence[int]], ended: Collection[int], top: int) -> list[int]:
    """The members of those families of which every one has ended and belongs to a part (is below ``top``), in order."""
    ready = (
        members for members in families.values() if all(each in ended and each < top for each in members)
    )
    return sorted(each for members in ready for each in members)
