"""Who has how many jobs in which state, and how long states last: what ``job top`` shows."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

from orchestrator.jobs import store
from orchestrator.runtime.sql import Database

Json = dict[str, Any]
KEPT: Final = 20.0  # seconds that the look at past events is good for: it reads all events of its time


class Overview:
    """One of a process; many who look at the same time cost one look."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lately: dict[float, tuple[float, Json]] = {}  # within → until when it is good, what was seen
        self._looking = asyncio.Lock()

    async def now(self, within: float) -> Json:
        """{users: {owner: {state: open jobs}}, ended: {owner: {state: jobs}}, median: {state: {jobs, seconds}}, within}.

        ``ended`` and ``median`` are of the last ``within`` seconds.
        """
        async with self.database.transaction() as connection:
            found = await store.open_counts(connection)
        users: dict[str, dict[str, int]] = defaultdict(dict)
        for each in found:
            users[each["owner"]][each["state"]] = int(each["count"])
        return {"users": users, **await self._of_late(within), "within": within}

    async def _of_late(self, within: float) -> Json:
        clock = asyncio.get_running_loop().time
        async with self._looking:
            good, seen = self._lately.get(within, (0.0, {}))
            if good > clock():
                return seen
            async with self.database.transaction() as connection:
                ended, left = await store.lately(connection, within)
            users: dict[str, dict[str, int]] = defaultdict(dict)
            for each in ended:
                users[each["owner"]][each["state"]] = int(each["count"])
            median = {
                str(each["state"]): {"jobs": int(each["count"]), "seconds": round(float(each["median"]), 3)}
                for each in left
            }
            seen = {"ended": users, "median": median}
            self._lately = {within: (clock() + KEPT, seen)}
            return seen
