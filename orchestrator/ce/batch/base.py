"""The port to a batch system. Adapters pass tests/contract/test_batch.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class SlotState(StrEnum):
    """As the batch system sees it."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class SlotSpec:
    """What to run in one slot: ``command`` with these arguments; ``files``: name → content (0600) put beside it.

    ``name`` is unique; in ``command`` the text ``@SLOT@`` stands for the slot's own directory.
    """

    name: str
    command: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True)
class Slot:
    """One slot of ours. Times in seconds since the epoch, None when not (yet) known."""

    id: str
    name: str
    state: SlotState
    submitted: float
    started: float | None = None
    ended: float | None = None
    status: int | None = None  # the command's exit status


class Batch(Protocol):
    """Every verb may block for seconds and raises TemporaryError when the batch system does not answer."""

    def submit(self, spec: SlotSpec) -> str:
        """Queue the slot; returns its id. Idempotent by ``spec.name``: a second call returns the first's id."""
        ...

    def list(self) -> Sequence[Slot]:
        """Every slot of ours, whoever submitted it, ended ones until they are forgotten."""
        ...

    def cancel(self, slot: str) -> None:
        """The slot ends soon: SIGTERM first, SIGKILL when called again a minute later. Silent if it is gone."""
        ...

    def forget(self, slot: str) -> None:
        """An ended slot's files are gone and it is no longer listed. Silent if it is gone."""
        ...
