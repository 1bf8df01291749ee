"""What a site leaves on this host, read from /proc alone: processes with its mark, listeners on its addresses."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

_LISTENING = "0A"  # include/net/tcp_states.h


def processes(site: Path) -> dict[int, str]:
    """Process id → command line, of every process that belongs to a machine below the directory ``site``."""
    mark = b"ORCHESTRATE_MACHINE=" + os.fsencode(site.resolve())
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path("/proc", name, "environ").read_bytes().split(b"\0")
            if any(each.startswith(mark) for each in environment):
                found[int(name)] = _command(int(name))
        except OSError:  # it has just ended
            continue
    return found


def machine(pid: int) -> Path | None:
    """The root directory of the machine that the process belongs to."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    marks = [each.partition(b"=")[2] for each in environment if each.startswith(b"ORCHESTRATE_MACHINE=")]
    return Path(os.fsdecode(marks[0])) if marks else None


def parent(pid: int) -> int:
    """The parent's process id; 0 when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def listeners(addresses: set[str]) -> set[str]:
    """TCP listeners and UDP sockets of this host on any of ``addresses``, as ``tcp 127.1.2.3:8443``."""
    found = set()
    for kind in ("tcp", "udp"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            host, port = words[1].split(":")
            address = socket.inet_ntoa(struct.pack("=I", int(host, 16)))
            if address in addresses and (kind == "udp" or words[3] == _LISTENING):
                found.add(f"{kind} {address}:{int(port, 16)}")
    return found


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
