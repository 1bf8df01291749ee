"""The agents of a simulated cloud's workers, all in one process beside it: they ask the real broker for work.

    python -m orchestrator.wiring.simagents DIRECTORY

DIRECTORY is the cloud's own. The context of each worker lies in ``contexts/NAME`` (0600): the agent's
configuration as JSON, with its enrolment token until that is spent. The process follows the cloud: the
agents of a machine run while it works, and are gone with it, or while its network is cut (its jobs are then
tried again elsewhere). One process serves a cloud; it ends when no machine is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import random
import secrets
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.agent.model import AgentConfig, machine_ad
from orchestrator.agent.session import Session
from orchestrator.agent.simulated import Slot
from orchestrator.errors import GridError, NotAllowed, TemporaryError
from orchestrator.providers.sim.cloud import drawn
from orchestrator.providers.sim.link import Link
from orchestrator.runtime import logs
from orchestrator.runtime.clock import SystemClock
from orchestrator.runtime.daemon import stop_on_signals, wait_any
from orchestrator.runtime.files import read_json, write_json
from orchestrator.runtime.http import Api

LOCK, CONTEXTS, LOG = "agents.lock", "contexts", "agents.log"
_LOOK = 0.5  # seconds between looks at the cloud
_PER_CORE = 4 << 30  # bytes of memory that a simulated machine offers for each core
_DISK = 100 << 30
_TTL = 12 * 3600.0


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[bool]:
    """Whether no process serves the agents of that cloud but the caller."""
    with (directory / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class Agents:
    """The agents of one cloud, as its machines come and go."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._link, self._clock = Link(directory, start=False), SystemClock()
        self._ahead: float | None = None
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._job: tuple[float, float] = (60.0, 60.0)  # how long jobs take, as the cloud is told
        self._trust: dict[str, ssl.SSLContext] = {}
        self._log = logs.get("simagents")
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Until the cloud has no machine any more, its directory is gone, or ``stop`` is set."""
        try:
            while self._link.exists and not self.stop.is_set():
                with contextlib.suppress(TemporaryError):  # its process was killed: the machines go on
                    seen = await asyncio.to_thread(self._seen)
                    if not seen["there"]:
                        break
                    self._follow(seen)
                await wait_any(_LOOK, self.stop)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            self._link.close()

    def _seen(self) -> dict[str, Any]:
        if self._ahead is None:
            met = float(self._link.call({"verb": "hello", "now": self._clock.now()})["now"])
            self._ahead = max(0.0, met - self._clock.now())
        return self._link.call({"verb": "agents", "now": self._clock.now() + self._ahead})

    def _follow(self, seen: Mapping[str, Any]) -> None:
        self._job = tuple(seen["job"])
        wanted = {(name, serial): cores for name, serial, cores in seen["agents"]}
        for key in [key for key in self._running if key not in wanted]:
            self._running.pop(key).cancel()
        for (name, serial), cores in wanted.items():
            if (name, serial) not in self._running and (self._directory / CONTEXTS / name).exists():
                self._running[name, serial] = asyncio.create_task(self._machine(name, serial, cores))

    async def _machine(self, name: str, serial: int, cores: int) -> None:
        """All agents of one machine; they share its session, as slots of one agent do."""
        file = self._directory / CONTEXTS / name
        try:
            config = AgentConfig.of(read_json(file))
            async with Api(config.clustermonitor, self._tls(config.ca), patience=20.0) as api:
                session = Session(api, config, config.host, self._clock)
                await self._enrol(session)
                write_json(file, {**read_json(file), "token": ""}, 0o600)  # it is spent
                each = max(1, cores // config.slots)
                ad = machine_ad(
                    site=config.site, ce=config.ce, host=config.host, cores=each, memory=each * _PER_CORE,
                    disk=_DISK, ttl=_TTL, arch="x86_64", os="simulated", methods=config.methods, isolation="uid",
                )  # fmt: skip

                def takes(task: int, attempt: int) -> float:
                    return drawn(self._job, random.Random(f"{name}/{serial}/{task}/{attempt}"))  # noqa: S311

                async with asyncio.TaskGroup() as group:
                    for number in range(config.slots):
                        slot = Slot(session, ad, f"{name}-{serial}-{number}-{secrets.token_hex(4)}", takes)
                        group.create_task(slot.run(config.heartbeat))
        except* (GridError, OSError, ValueError) as found:
            self._log.warning("an agent ended", machine=name, reason=str(found.exceptions[0]))

    async def _enrol(self, session: Session) -> None:
        while True:
            try:
                await session.token()
                return
            except NotAllowed:
                raise
            except TemporaryError as error:
                await asyncio.sleep(error.retry_in)

    def _tls(self, ca: str) -> ssl.SSLContext:
        if ca not in self._trust:
            self._trust[ca] = ssl.create_default_context(cadata=ca)
        return self._trust[ca]


async def _serve(directory: Path) -> None:
    agents = Agents(directory)
    stop_on_signals(agents.stop)
    await agents.run()


def main(directory: Path) -> None:
    """Serve that cloud, unless somebody does."""
    logs.configure(directory / LOG)
    with alone(directory) as mine:
        if mine:
            asyncio.run(_serve(directory))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
