"""Fair share among users. Pure."""

from __future__ import annotations

from collections.abc import Mapping

LOWEST = 0.01


def factors(running: Mapping[str, int], waiting: Mapping[str, int]) -> dict[str, float]:
    """What to multiply the priority of each waiting user's jobs with, between LOWEST and 1.

    1 for somebody who runs nothing; it falls with the share of the running jobs that is theirs, to a
    half at an equal share. Equal share: all running jobs over the number of users who want to run.
    """
    users = {name for name, count in (*running.items(), *waiting.items()) if count > 0}
    total = sum(running.values())
    found = {}
    for user in users:
        used = running.get(user, 0) * len(users) / total if total else 0.0
        found[user] = max(LOWEST, 1.0 / (1.0 + used))
    return found
