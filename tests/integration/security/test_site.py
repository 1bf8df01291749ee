"""What an attacker with this or that token gets from a site's ClusterMonitor: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.auth import model
from orchestrator.errors import NotAllowed
from orchestrator.runtime.clock import SystemClock

from ..vobox.conftest import central, machine

__all__ = ["central", "machine"]


async def test_tokens_of_another_site_are_refused(machine: Any, central: Any) -> None:
    machine.start("clustermonitor")
    await machine.ready()

    def sign(claims: dict[str, Any]) -> str:
        return str(central.signer.sign(claims, SystemClock().now(), 600))

    agent = sign(model.agent_claims("a1", "evil", "ce", "h"))
    job = sign(model.job_claims(7, 1, "ada", "evil"))
    enrol = sign(model.enrolment_claims("n1", "evil", "ce"))
    report = {"task": 7, "attempt": 1, "to": "DONE", "reason": "", "facts": {}, "outputs": []}
    beat = {"task": 7, "attempt": 1, "usage": {}}
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("/v1/claim", {"ad": {}}, agent),
        ("/v1/renew", {}, agent),
        ("/v1/commands/1", {"answer": {}}, agent),
        ("/v1/redeem", {"host": "h"}, enrol),
        ("/v1/reports", {"reports": [report]}, job),
        ("/v1/beats", {"beats": [beat], "agent": agent}, job),
        ("/v1/beats", {"beats": [beat], "agent": agent}, central.job_token(7)),
        ("/v1/reports", {"reports": [{**report, "attempt": 2}]}, central.job_token(7)),
        ("/v1/enrolments", {"ce": "x"}, agent),
        ("/v1/demand", {"ad": {}}, central.job_token(7)),
        ("/v1/catalogue/rm", {"path": "/"}, agent),
    ]
    async with machine.api() as api:
        for path, body, token in calls:
            with pytest.raises(NotAllowed):
                await api.post(path, body, token=token)
        for path in ("/v1/commands", "/v1/packages", "/v1/packages/A/1", "/v1/catalogue/ls"):
            with pytest.raises(NotAllowed):
                await api.get(path, token="x")
    assert central.states(7) == []
