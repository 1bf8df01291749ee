"""What jobs and transfers share: they are followed to their end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any


class Followed(ABC):
    """Something with events."""

    @abstractmethod
    def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Every event, as it happens, to its end."""

    async def wait(self, timeout: float | None = None) -> str:
        """The state that it ends in. TimeoutError when it has not after ``timeout`` seconds: it goes on all the same."""
        state = ""
        async with asyncio.timeout(timeout):
            async for event in self.follow():
                state = str(event["new"])
        return state
