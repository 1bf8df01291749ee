"""What was asked of EC2 and may not be listed yet: one small file for each machine, written before the call.

EC2 makes one machine for one client token, however often it is asked, and its lists lag behind by seconds.
So a lost reply or a killed process cannot double a machine, nor hide one that is to be destroyed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from orchestrator.runtime.files import read_json, write_json


@dataclass(frozen=True)
class Intent:
    """A machine was asked for."""

    token: str
    at: float  # when, by the wall clock
    id: str = ""  # of the instance; "" when no answer came


class Intents:
    """Those of one provider. One machine is the matter of one thread at a time."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._directory, self._now = directory, now

    def get(self, name: str) -> Intent | None:
        """What is known of that machine."""
        try:
            return Intent(**read_json(self._directory / name))
        except FileNotFoundError:
            return None

    def begin(self, name: str) -> Intent:
        """The intent of that machine, on disk; with the old token if there is one."""
        old = self.get(name)
        return self._write(name, Intent(old.token if old else uuid.uuid4().hex, self._now()))

    def made(self, name: str, intent: Intent, instance: str) -> None:
        """EC2 answered."""
        self._write(name, replace(intent, id=instance, at=self._now()))

    def drop(self, name: str) -> None:
        """Nothing is known any more of that machine."""
        (self._directory / name).unlink(missing_ok=True)

    def age(self, intent: Intent) -> float:
        """Seconds since it was written."""
        return max(0.0, self._now() - intent.at)

    def _write(self, name: str, intent: Intent) -> Intent:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(self._directory / name, asdict(intent), 0o600)
        return intent
