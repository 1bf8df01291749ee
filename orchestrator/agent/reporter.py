"""Reports of one job: sent in order, those that wait together in one call, until somebody has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from orchestrator.errors import GridError, TemporaryError
from orchestrator.tasks.model import Report, ReportResult

Send = Callable[[Sequence[Report]], Awaitable[Sequence[ReportResult]]]


class Reporter:
    """Sends what ``put`` gets; ``refused(why)`` is called when the manager does not accept a report."""

    def __init__(self, send: Send, refused: Callable[[str], None]) -> None:
        self._send = send
        self._refused = refused
        self._waiting: list[Report] = []
        self._task: asyncio.Task[None] | None = None
        self.stale = False

    def put(self, *reports: Report) -> None:
        """Send these after all earlier ones; returns at once."""
        self._waiting += reports
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def flush(self) -> None:
        """All reports are delivered, or refused."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def drop(self) -> None:
        """Nothing more is sent: the attempt is somebody else's."""
        self.stale = True
        self._waiting.clear()

    async def _run(self) -> None:
        pause = 0.5
        while self._waiting and not self.stale:
            batch = tuple(self._waiting)
            try:
                results = await self._send(batch)
            except TemporaryError as error:
                # Nobody else can tell how the job went, so there is no end to trying: the slot's is the limit.
                await asyncio.sleep(max(pause, min(error.retry_in, 10.0)))
                pause = min(10.0, pause * 2)
                continue
            except GridError as error:
                self._refuse(error.message)
                return
            pause = 0.5
            del self._waiting[: len(batch)]
            for result in results:
                if not result.accepted:
                    self._refuse(result.why)
                    return

    def _refuse(self, why: str) -> None:
        self.drop()
        self._refused(why)
