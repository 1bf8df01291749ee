"""Wait for a condition in a test of asyncio code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of ``true()`` (or of what it awaits); AssertionError after so many seconds."""
    give_up = time.monotonic() + seconds
    while True:
        found = true()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        assert time.monotonic() < give_up, f"nothing within {seconds} s"
        await asyncio.sleep(0.05)
