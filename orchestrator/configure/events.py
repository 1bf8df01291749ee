"""What Ansible's events mean for each machine. Pure: events in, outcomes out, seconds are arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from orchestrator.configure.model import Outcome

LAST_TASK = "place files, run programs, record what was applied"
_FAILED = {"runner_on_failed": "failed", "runner_on_unreachable": "cannot be reached"}
_SHOWN = 4000


class Tally:
    """Collects the events of one run; says of each machine once how it ended."""

    def __init__(self, machines: Collection[str]) -> None:
        self._open = dict.fromkeys(machines)
        self._changed: dict[str, list[str]] = {name: [] for name in machines}

    def feed(self, event: Mapping[str, Any], seconds: float) -> Outcome | None:
        """The outcome of a machine, when this event is its last one that matters."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        host = data.get("remote_addr") or data.get("host", "")
        if host not in self._open:
            return None
        result = data.get("res") or {}
        if kind in _FAILED:
            if data.get("ignore_errors"):
                return None
            evidence = f"task '{data.get('task', '?')}' {_FAILED[kind]}: {_said(result)}"
            return self._close(host, False, seconds, evidence)
        if kind != "runner_on_ok":
            return None
        if result.get("changed"):
            self._changed[host] += [str(what) for what in result.get("what", [data.get("task", "?")])]
        if data.get("task") == LAST_TASK:
            return self._close(host, True, seconds, "")
        return None

    def end(self, seconds: float, evidence: str) -> Iterator[Outcome]:
        """The machines of which nothing was heard: they failed, because the run did."""
        for host in list(self._open):
            yield self._close(host, False, seconds, evidence)

    def _close(self, host: str, ok: bool, seconds: float, evidence: str) -> Outcome:
        del self._open[host]
        changed = tuple(what for what in self._changed[host] if what != "etc/applied.json")
        return Outcome(host, ok, round(seconds, 2), evidence[-_SHOWN:], changed)


def _said(result: Mapping[str, Any]) -> str:
    parts = [
        str(result[key]).strip() for key in ("msg", "stderr", "module_stderr", "reason") if result.get(key)
    ]
    return "\n".join(dict.fromkeys(part for part in parts if part)) or str(dict(result))[:500]


def task_of(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """(machine, task) when the event says that a machine begins a task; for the live view."""
    if event.get("event") != "runner_on_start":
        return None
    data = event.get("event_data", {})
    return str(data.get("host", "")), str(data.get("task", ""))
