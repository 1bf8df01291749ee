"""The agent's own words: its configuration, the node it measured, what it offers, why a job ended. Pure.

No heavy imports: the agent file carries this, and the CE describes its slots with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from orchestrator.errors import UserError

# Why an attempt ended other than well: the first word of a report's reason, and its fact "code".
TTL_EXCEEDED: Final = "TTL_EXCEEDED"
MEMORY_EXCEEDED: Final = "MEMORY_EXCEEDED"
DISK_EXCEEDED: Final = "DISK_EXCEEDED"
NO_CPU: Final = "NO_CPU"
EXIT_CODE: Final = "EXIT_CODE"
SIGNAL: Final = "SIGNAL"
NOT_EXECUTABLE: Final = "NOT_EXECUTABLE"
GUARD_LOST: Final = "GUARD_LOST"
PACKAGE_MISSING: Final = "PACKAGE_MISSING"
INPUT_MISSING: Final = "INPUT_MISSING"
OUTPUT_MISSING: Final = "OUTPUT_MISSING"
OUTPUT_UNSAFE: Final = "OUTPUT_UNSAFE"
OUTPUT_NOT_STORED: Final = "OUTPUT_NOT_STORED"
FEWER_REPLICAS: Final = "FEWER_REPLICAS"
PREEMPTED: Final = "PREEMPTED"
AGENT_FAILED: Final = "AGENT_FAILED"


@dataclass(frozen=True)
class AgentConfig:
    """One agent's configuration file (JSON, 0600 while it holds ``token``). Sizes in bytes, times in seconds."""

    clustermonitor: str  # URL
    ca: str  # the VO's CA: PEM text or a path
    workdir: str  # jobs run below it
    site: str = ""
    ce: str = ""
    host: str = ""  # the machine's name; the node's own when empty
    token: str = ""  # enrolment token, single use
    token_file: str = ""  # file that holds it instead
    session_file: str = ""  # keeps the session token (0600), so that a restarted agent goes on
    cache: str = ""  # package cache, shared by the node's agents; below workdir when empty
    ttl: float = 12 * 3600.0  # the slot's length from the agent's start
    slots: int = 1  # jobs side by side
    cores: int = 0  # 0: all that were measured
    memory: int = 0  # 0: all that was measured
    listen: str = "0.0.0.0"  # address for the torrent session  # noqa: S104
    idle_timeout: float = 0.0  # without a job for so long the agent ends; 0: never
    margin: float = 120.0  # kept free at the slot's end for saving
    heartbeat: float = 3.0
    grace: float = 10.0  # from SIGTERM to SIGKILL of a payload
    methods: tuple[str, ...] = ("cvmfs", "torrent", "http")
    partitions: tuple[str, ...] = ()
    close_se: tuple[str, ...] = ()
    opportunistic: bool = False
    log: str = ""  # file; stderr when empty

    @classmethod
    def of(cls, data: Any) -> Self:
        """Read the configuration; UserError names every key that is missing, unknown or of a wrong type."""
        if not isinstance(data, Mapping):
            raise UserError("the agent's configuration must be a JSON object")
        known = {each.name: each for each in fields(cls)}
        wrong = [f"{key} is unknown" for key in data if key not in known]
        values: dict[str, Any] = {}
        for name in known:
            if name not in data:
                if name in ("clustermonitor", "ca", "workdir"):
                    wrong.append(f"{name} is missing")
                continue
            value, kind = data[name], _KINDS[str(known[name].type)]
            if kind is tuple and isinstance(value, list):
                value = tuple(str(each) for each in value)
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                wrong.append(f"{name} must be of type {'list' if kind is tuple else kind.__name__}")
            values[name] = value
        if wrong:
            raise UserError(f"the agent's configuration: {'; '.join(wrong)}")
        return cls(**values)


_KINDS: Mapping[str, type] = {
    "str": str,
    "float": float,
    "int": int,
    "bool": bool,
    "tuple[str, ...]": tuple,
}


@dataclass(frozen=True)
class Node:
    """What was measured. Memory and disk in bytes."""

    host: str
    cores: int
    memory: int
    disk: int
    arch: str
    os: str
    cvmfs: bool


def machine_ad(
    *,
    site: str,
    ce: str,
    host: str,
    cores: int,
    memory: int,
    disk: int,
    ttl: float,
    arch: str,
    os: str,
    cvmfs: bool = False,
    packages: Sequence[str] = (),
    methods: Sequence[str] = (),
    partitions: Sequence[str] = (),
    close_se: Sequence[str] = (),
    opportunistic: bool = False,
    isolation: str = "",
) -> dict[str, Any]:
    """What a slot offers: ``memory`` and ``disk`` in bytes, ``ttl`` in seconds left for a job.

    ``isolation``: "uid" when a job gets an account of its own, "agent" or "root: WHY" when not.
    """
    return {
        "Type": "machine",
        "Site": site,
        "CE": ce,
        "Host": host,
        "Cores": cores,
        "Memory": memory,
        "Disk": disk,
        "TTL": int(ttl),
        "Arch": arch,
        "OS": os,
        "CVMFS": cvmfs,
        "Packages": list(packages),
        "InstallMethods": list(methods),
        "GridPartitions": list(partitions),
        "CloseSE": list(close_se),
        "Opportunistic": opportunistic,
        "Isolation": isolation,
        "Requirements": 'other.Type == "job"',
    }
