"""The computing element: asks what waits for it, and submits agents to its batch system."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.agent.model import Node, machine_ad
from orchestrator.ce.batch.base import Batch, Slot, SlotSpec, SlotState
from orchestrator.ce.decide import End, Policy, Seen, decide
from orchestrator.ce.model import CeConfig
from orchestrator.runtime import logs
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.http import Api

_ROUND = 1.0  # seconds between two looks
_KEPT = 600.0  # seconds an ended slot's files stay for whoever wants to know why it ended
_MARGIN = 900.0  # seconds an enrolment holds beyond the time an agent may be queued


@dataclass(frozen=True)
class Site:
    """What every agent of this CE gets: where it calls, whom it trusts (path of the CA), what it may use."""

    site: str
    clustermonitor: str
    ca: str
    agent_file: tuple[str, ...]  # the command that starts an agent
    address: str  # where its torrent session listens
    cache: str  # package cache of the machine
    methods: tuple[str, ...]
    node: Node  # a slot's share of the machine


class ComputingElement:
    """One CE. ``name`` gives names that no slot had before."""

    def __init__(
        self,
        config: CeConfig,
        site: Site,
        batch: Batch,
        clustermonitor: Api,
        clock: Clock,
        name: Callable[[], str],
    ) -> None:
        self._config, self._site, self._batch = config, site, batch
        self._api, self._clock, self._name = clustermonitor, clock, name
        self._policy = Policy(config.min_idle, config.max_agents)
        self._log = logs.get(f"ce {config.name}")
        self._said = ""

    async def step(self) -> float:
        """Observe, decide, perform once; returns seconds until the next time."""
        slots = await asyncio.to_thread(self._batch.list)
        told = await self._api.post("/v1/demand", {"ad": self.ad()})
        decision = decide(self._seen(slots, told), self._policy)
        if decision.why != self._said or decision.submit:
            self._said = decision.why
            self._log.info("decided", submit=decision.submit, why=decision.why)
        for _ in range(decision.submit):
            await self._submit()
        await self._tidy(slots)
        return _ROUND

    def ad(self) -> dict[str, Any]:
        """What one slot of this CE offers."""
        node = self._site.node
        return machine_ad(
            site=self._site.site,
            ce=self._config.name,
            host=node.host,
            cores=node.cores,
            memory=node.memory,
            disk=node.disk,
            ttl=self._config.ttl,
            arch=node.arch,
            os=node.os,
            cvmfs=node.cvmfs,
            methods=self._site.methods,
            partitions=self._config.partitions,
            close_se=self._config.close_se,
        )

    def _seen(self, slots: Sequence[Slot], told: dict[str, Any]) -> Seen:
        ends = [
            End(slot.ended, slot.ended - (slot.started or slot.ended), slot.status)
            for slot in slots
            if slot.state is SlotState.ENDED and slot.ended is not None
        ]
        return Seen(
            self._clock.now(),
            int(told["waiting"]),
            int(told["idle"]),
            int(told["busy"]),
            sum(slot.state is SlotState.QUEUED for slot in slots),
            sum(slot.state is SlotState.RUNNING for slot in slots),
            ends,
        )

    async def _submit(self) -> None:
        asked = {"ce": self._config.name, "lifetime": self._config.ttl + _MARGIN}
        token = str((await self._api.post("/v1/enrolments", asked))["token"])
        command = (*self._site.agent_file, "--config", "@SLOT@/agent.json")
        spec = SlotSpec(self._name(), command, {"agent.json": json.dumps(self._agent(token), indent=1)})
        slot = await asyncio.to_thread(self._batch.submit, spec)
        self._log.info("submitted an agent", slot=slot)

    def _agent(self, token: str) -> dict[str, Any]:
        """The agent's configuration; it is written 0600, since the token is a secret until it is spent."""
        return {
            "clustermonitor": self._site.clustermonitor,
            "ca": self._site.ca,
            "token": token,
            "site": self._site.site,
            "ce": self._config.name,
            "host": self._site.node.host,
            "workdir": "@SLOT@/work",
            "cache": self._site.cache,
            "log": "@SLOT@/agent.log",
            "ttl": self._config.ttl,
            "cores": self._site.node.cores,
            "memory": self._site.node.memory,
            "listen": self._site.address,
            "idle_timeout": self._config.idle_timeout,
            "methods": list(self._site.methods),
            "partitions": list(self._config.partitions),
            "close_se": list(self._config.close_se),
        }

    async def _tidy(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            if slot.state is SlotState.ENDED and self._clock.now() - (slot.ended or 0.0) > _KEPT:
                await asyncio.to_thread(self._batch.forget, slot.id)
