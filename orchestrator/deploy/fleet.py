"""The machines as last seen. Configuring one needs the addresses of others; listing again would cost a call each."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from orchestrator.providers.base import Machine


class Fleet:
    """Safe for several threads. The composition root gives it to the configurator as its ``machines``."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self._mutex = threading.Lock()

    def __call__(self) -> Sequence[Machine]:
        """All machines that are known to exist, by name."""
        with self._mutex:
            return sorted(self._machines.values(), key=lambda machine: machine.name)

    def remember(self, machines: Iterable[Machine]) -> None:
        """These exist, and no others."""
        with self._mutex:
            self._machines = {machine.name: machine for machine in machines}

    def put(self, machine: Machine) -> None:
        """That machine exists, and looks like this now."""
        with self._mutex:
            self._machines[machine.name] = machine

    def drop(self, name: str) -> None:
        """That machine is gone."""
        with self._mutex:
            self._machines.pop(name, None)
