"""Process trees and directory sizes of a Linux node, as far as it tells (a chroot may lack /proc)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat (proc(5)): cpu in seconds with that of its waited-for children, rss in bytes."""

    pid: int
    parent: int
    state: str
    cpu: float
    rss: int
    started: int  # clock ticks after boot: with the pid it names a process for ever


def process(pid: int) -> Process | None:
    """That process, or None when it is gone or the node does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The command's name stands in brackets and may itself hold brackets and blanks.
    words = text[text.rindex(b")") + 2 :].split()
    ticks = sum(int(word) for word in words[11:15])
    return Process(
        pid,
        int(words[1]),
        words[0].decode(),
        ticks / _TICK,
        max(0, int(words[21])) * _PAGE,
        int(words[19]),
    )


def known() -> bool:
    """Whether this node tells of its processes."""
    return process(os.getpid()) is not None


def descendants(ancestor: int) -> list[Process]:
    """Every process below ``ancestor``, without itself; [] when the node does not tell."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    found: Mapping[int, Process] = {one.pid: one for pid in pids if (one := process(pid)) is not None}
    children: dict[int, list[Process]] = {}
    for one in found.values():
        children.setdefault(one.parent, []).append(one)
    below: list[Process] = []
    frontier = [ancestor]
    while frontier:
        next_ones = children.pop(frontier.pop(), [])
        below += next_ones
        frontier += [one.pid for one in next_ones]
    return below


def disk_use(directory: str) -> int:
    """Bytes that the directory's files take on disk; what vanishes meanwhile is not counted."""
    total = 0
    stack = [directory]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    try:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                    except OSError:
                        continue
        except OSError:
            continue
    return total
