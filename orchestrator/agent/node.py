"""Measure the node: every figure has a fallback, since a bare chroot tells little."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from pathlib import Path

from orchestrator.agent.model import AgentConfig, Node

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def measure(config: AgentConfig) -> Node:
    """This node now. What the configuration sets (cores, memory) is believed, not measured."""
    return Node(
        host=config.host or socket.gethostname() or "unknown",
        cores=config.cores or cores(),
        memory=config.memory or memory(),
        disk=shutil.disk_usage(config.workdir).free,
        arch=platform.machine(),
        os=operating_system(),
        cvmfs=Path("/cvmfs").is_dir() and any(Path("/cvmfs").iterdir()),
    )


def cores() -> int:
    """Cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


def memory() -> int:
    """Bytes of memory that this process may use: the node's, or less by its control group."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CGROUP_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)


def operating_system() -> str:
    """``debian-12`` and the like from os-release(5); ``linux`` when the node does not tell."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return "linux"
    facts = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return "-".join(facts[key] for key in ("ID", "VERSION_ID") if facts.get(key)) or "linux"
