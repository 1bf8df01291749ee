"""Central's operations as their callers see them."""

from __future__ import annotations

from orchestrator.operations.model import Mode
from orchestrator.runtime.http import Api


async def look(central: Api) -> Mode:
    """Whether central is read-only."""
    return Mode(**await central.get("/v1/maintenance", timeout=2.0))


async def change(central: Api, on: bool, reason: str = "") -> Mode:
    """Central is read-only, for ``reason``, or takes writes again; nothing that was being written is cut off."""
    return Mode(**await central.post("/v1/maintenance", {"on": on, "reason": reason}, timeout=60.0))
