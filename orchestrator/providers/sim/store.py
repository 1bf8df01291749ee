"""The simulated cloud's state on disk: one SQLite file. What was answered survives the process, not a power cut."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.providers.sim.model import NEVER, Cloud, Reply, Settings, dump, parse

FILE = "cloud.db"
_TICK = 0.1  # seconds that the clock may go back when the process is killed
_MOST = "most "  # tallies that are maxima, not sums


class Store:
    """Owned by the server; ``cloud`` is what the file says."""

    def __init__(self, directory: Path) -> None:
        """The file is made when it is missing."""
        self._db = sqlite3.connect(directory / FILE, isolation_level=None)
        # The cloud is simulated on this host: it needs to outlive a process, not the kernel.
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "busy_timeout=10000"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE IF NOT EXISTS vm (name TEXT PRIMARY KEY, facts TEXT NOT NULL)")
        self._db.execute("CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        facts = {key: json.loads(value) for key, value in self._db.execute("SELECT key, value FROM fact")}
        self.cloud = Cloud(settings(facts.get("settings", {})), clock=facts.get("clock", 0.0))
        self.cloud.tally = facts.get("tally", {})
        for (text,) in self._db.execute("SELECT facts FROM vm"):
            self.cloud.put(parse(json.loads(text)))
        self.cloud.free = facts.get("free", [])
        self.start = int(facts.get("start", 0)) + 1
        """How often the process was started: calls after that are other calls, and have other luck."""
        self._keep("start", self.start)
        self._saved = self.cloud.clock

    def adopt(self, found: Mapping[str, Any]) -> None:
        """The cloud behaves by those settings from now on."""
        old = self.cloud
        if old.settings == settings(found):
            return
        self._keep("settings", found)
        self.cloud = Cloud(settings(found), clock=old.clock, tally=old.tally, addresses=old.addresses)
        for vm in old.vms.values():
            self.cloud.put(vm)
        self.cloud.free = old.free

    def apply(self, reply: Reply, now: float) -> None:
        """What the reply changes is true, on disk before anybody hears of it."""
        cloud = self.cloud
        cloud.clock = now
        if reply.allowed is not None:
            cloud.allowed = reply.allowed
        for key, value in reply.tally.items():
            old = cloud.tally.get(key, 0.0)
            cloud.tally[key] = max(old, value) if key.startswith(_MOST) else old + value
        if not reply.changed:
            if now - self._saved > _TICK:
                self._keep("clock", now)
                self._saved = now
            return
        self._db.execute("BEGIN")
        for vm in reply.changed:
            cloud.put(vm)
            self._db.execute("REPLACE INTO vm VALUES (?, ?)", (vm.name, json.dumps(dump(vm))))
        self._keep("clock", now)
        self._saved = now
        self._keep("tally", cloud.tally)
        if cloud.settings.ip_reuse:
            self._keep("free", cloud.free)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Everything is on disk."""
        self._keep("clock", self.cloud.clock)
        self._keep("tally", self.cloud.tally)
        self._db.close()

    def _keep(self, key: str, value: Any) -> None:
        self._db.execute("REPLACE INTO fact VALUES (?, ?)", (key, json.dumps(value)))


def settings(facts: Mapping[str, Any]) -> Settings:
    """Settings from their JSON."""
    plain: dict[str, Any] = {key: NEVER if value is None else value for key, value in facts.items()}
    for key in ("latency", "boot", "configure", "job", "bad_images", "spot"):
        if key in plain:
            plain[key] = tuple(plain[key])
    if "offerings" in plain:
        plain["offerings"] = {name: tuple(size) for name, size in plain["offerings"].items()}
    return Settings(**plain)


def facts_of(found: Settings) -> dict[str, Any]:
    """Settings as JSON; no limit is None."""
    return {key: None if value == NEVER else value for key, value in asdict(found).items()}
