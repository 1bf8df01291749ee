"""Which agents of the site live, and what each runs. Pure: the time is an argument (seconds of one clock)."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.jobs.model import FINAL, WAITING

Key = tuple[int, int]  # (task, attempt)
SILENT = 60.0  # seconds after which an agent or a job that was not heard of is forgotten


@dataclass(frozen=True)
class Counts:
    """Agents of one CE that wait for a job, and that have one."""

    idle: int
    busy: int


@dataclass
class _Agent:
    ce: str
    seen: float
    asking: int = 0


@dataclass
class Registry:
    """Not persistent: after a restart the next claims and heartbeats fill it again."""

    _agents: dict[str, _Agent] = field(default_factory=dict)
    _owner: dict[Key, str] = field(default_factory=dict)
    _heard: dict[Key, float] = field(default_factory=dict)

    def asks(self, agent: str, ce: str, now: float) -> None:
        """The agent waits for a job."""
        self._seen(agent, ce, now).asking += 1

    def answered(self, agent: str, ce: str, tasks: list[Key], now: float) -> None:
        """Its question was answered, with these tasks."""
        found = self._seen(agent, ce, now)
        found.asking = max(0, found.asking - 1)
        for key in tasks:
            self._owner[key], self._heard[key] = agent, now

    def left(self, agent: str) -> None:
        """The agent hung up while it asked."""
        self._agents.pop(agent, None)

    def beats(self, key: Key, agent: str, ce: str, now: float) -> None:
        """The agent lives and runs that job."""
        self._seen(agent, ce, now)
        self._owner[key], self._heard[key] = agent, now

    def reported(self, key: Key, to: str, now: float) -> None:
        """The job moved to the state ``to``; with a final one it is the agent's no longer."""
        if to in FINAL or to == WAITING:
            self._owner.pop(key, None)
            self._heard.pop(key, None)
        elif key in self._owner:
            self._heard[key] = now

    def owner(self, key: Key) -> str | None:
        """The agent that runs it, as far as known."""
        return self._owner.get(key)

    def tasks(self, agent: str) -> set[Key]:
        """What the agent runs."""
        return {key for key, owner in self._owner.items() if owner == agent}

    def counts(self, ce: str, now: float) -> Counts:
        """Agents of that CE now; those not heard of for a while are forgotten."""
        self._forget(now)
        busy = set(self._owner.values())
        mine = [name for name, agent in self._agents.items() if agent.ce == ce]
        return Counts(sum(name not in busy for name in mine), sum(name in busy for name in mine))

    def _seen(self, agent: str, ce: str, now: float) -> _Agent:
        found = self._agents.setdefault(agent, _Agent(ce, now))
        found.seen = now
        return found

    def _forget(self, now: float) -> None:
        for key in [key for key, heard in self._heard.items() if now - heard > SILENT]:
            del self._heard[key]
            self._owner.pop(key, None)
        busy = set(self._owner.values())
        for name, agent in list(self._agents.items()):
            if not agent.asking and name not in busy and now - agent.seen > SILENT / 4:
                del self._agents[name]
