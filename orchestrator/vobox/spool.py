"""Reports that central could not take: on disk before they are answered for, delivered in order later."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.runtime.files import write_atomic
from orchestrator.tasks.model import Report


class Spool:
    """One file for each call's reports, numbered. Blocking; ``append`` and ``remove`` are durable.

    A file that cannot be read (a disk error) is moved aside as ``*.broken``, so that it does not hold
    up the others.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._numbers = sorted(int(file.stem) for file in folder.glob("*.json") if file.stem.isdigit())
        self._next = self._numbers[-1] + 1 if self._numbers else 1

    def __len__(self) -> int:
        return len(self._numbers)

    def append(self, reports: Sequence[Report]) -> None:
        """The reports are on disk, behind all earlier ones."""
        number = self._next
        self._next += 1
        write_atomic(self._file(number), json.dumps([report.to_json() for report in reports]), 0o600)
        self._sync()
        self._numbers.append(number)

    def first(self) -> list[Report] | None:
        """The oldest reports, or None when the spool is empty."""
        while self._numbers:
            file = self._file(self._numbers[0])
            try:
                return [Report.from_json(each) for each in json.loads(file.read_text())]
            except FileNotFoundError:
                self._numbers.pop(0)
            except (ValueError, UserError):
                file.replace(file.with_suffix(".broken"))
                self._numbers.pop(0)
        return None

    def remove(self) -> None:
        """The oldest reports were delivered."""
        self._file(self._numbers.pop(0)).unlink(missing_ok=True)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:010d}.json"

    def _sync(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Held:
    """A spool used by one event loop: its disk work happens off the loop."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.filled = asyncio.Event()  # set by each ``append``; whoever delivers clears it

    def __len__(self) -> int:
        return len(self._spool)

    async def append(self, reports: Sequence[Report]) -> None:
        """As Spool's; wakes whoever delivers."""
        await asyncio.to_thread(self._spool.append, reports)
        self.filled.set()

    async def first(self) -> list[Report] | None:
        """As Spool's."""
        return await asyncio.to_thread(self._spool.first)

    async def remove(self) -> None:
        """As Spool's."""
        await asyncio.to_thread(self._spool.remove)
