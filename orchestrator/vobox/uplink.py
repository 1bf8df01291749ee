"""The site's line to central: reports stored and forwarded, heartbeats batched, commands fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.errors import NotFound, TemporaryError
from orchestrator.runtime import logs
from orchestrator.runtime.daemon import wait_any
from orchestrator.runtime.http import Api
from orchestrator.tasks import client
from orchestrator.tasks.model import Report, ReportResult
from orchestrator.vobox.mailbox import Beats, Mailbox
from orchestrator.vobox.registry import Registry
from orchestrator.vobox.spool import Held

BATCH = 2.0  # seconds between two batches of heartbeats
# Seconds until central is tried again. Constant: jobs are given up when their heartbeats stay away long.
_AGAIN = 1.0
_POLL = 25.0
_UNKNOWN_AFTER = 20.0  # seconds in which agents' heartbeats have told us who runs what


class Uplink:
    """What goes between this site and central. ``central`` has little patience: what cannot wait is spooled."""

    def __init__(self, central: Api, spool: Held, mailbox: Mailbox, beats: Beats, registry: Registry) -> None:
        self.central = central
        self.spool = spool
        self._mailbox, self._beats, self._registry = mailbox, beats, registry
        self._log = logs.get("clustermonitor")
        self._began = asyncio.get_running_loop().time()

    async def report(self, reports: Sequence[Report]) -> list[ReportResult]:
        """Central's verdicts; when it is away the reports are safe on disk and taken as accepted.

        Reports never overtake earlier ones that are still on disk.
        """
        if not len(self.spool):
            try:
                return await client.report(self.central, reports)
            except TemporaryError as error:
                self._log.warning(
                    "central is away: reports are kept", reason=error.message, count=len(reports)
                )
        await self.spool.append(reports)
        return [ReportResult(report.task, True, "", report.to) for report in reports]

    async def replay(self) -> float:
        """Deliver what is on disk, oldest first, each exactly as it came; central refuses what is stale.

        Central may have got a report whose answer was lost: it takes the same move twice as one.
        """
        while (reports := await self.spool.first()) is not None:
            try:
                results = await client.report(self.central, reports)
            except TemporaryError:
                return _AGAIN
            await self.spool.remove()
            self._log.info("delivered kept reports", count=len(reports))
            refused = [
                (r.task, r.attempt) for r, told in zip(reports, results, strict=True) if not told.accepted
            ]
            self._mailbox.stale(refused)
        return 3600.0

    async def beat(self) -> float:
        """Deliver the heartbeats since the last time; attempts that central has given up are marked stale."""
        beats = self._beats.take()
        if beats:
            try:
                self._mailbox.stale(await client.beat(self.central, beats))
            except TemporaryError as error:
                self._beats.restore(beats)
                self._log.warning("central is away: heartbeats wait", reason=error.message)
        return BATCH

    async def fetch_commands(self, stop: asyncio.Event) -> float:
        """One long poll at central for the whole site."""
        polling = asyncio.ensure_future(client.commands(self.central, wait=_POLL))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({polling, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                return 0.0
            commands = polling.result()
        except TemporaryError:
            return _AGAIN
        finally:
            polling.cancel()
            stopping.cancel()
        new = self._mailbox.put(commands)
        if asyncio.get_running_loop().time() - self._began > _UNKNOWN_AFTER:
            for command in self._mailbox.unclaimed(lambda key: self._registry.owner(key) is not None):
                await self.answer(command.id, {"gone": True})
        if commands and not new:  # the same come again until they are answered: do not spin
            await wait_any(0.5, stop)
        return 0.0

    async def answer(self, number: int, value: object) -> None:
        """Central has the answer of a command."""
        try:
            await client.answer(self.central, number, value)
        except NotFound:
            self._log.info("a command was answered already", command=number)
        self._mailbox.drop(number)
