"""Who holds a lease: enough to tell a dead process of this host from a live one."""

from __future__ import annotations

import getpass
import json
import os
import socket
from pathlib import Path


def myself() -> str:
    """This process, as the text that the lease stores (JSON)."""
    return json.dumps(
        {
            "user": _user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": _start(os.getpid()),
            "boot": _boot(),
        }
    )


def told(holder: str) -> str:
    """A holder as people read it: ``ada@pc1, process 4711``."""
    try:
        data = json.loads(holder)
        return f"{data['user']}@{data['host']}, process {data['pid']}"
    except (ValueError, KeyError, TypeError):
        return holder


def surely_dead(holder: str) -> bool:
    """The holder was a process of this very host (same boot, same process namespace) and is gone.

    False whenever that cannot be known: its lease then has to expire.
    """
    try:
        data = json.loads(holder)
        pid, start, boot = int(data["pid"]), data["start"], data["boot"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(boot) and boot == _boot() and _start(pid) != start


def _boot() -> str:
    """Names this boot of this host and this process namespace; "" where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start(pid: int) -> str:
    """When the process started, in clock ticks since boot (proc(5), field 22); "" when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
