"""How files of the catalogue look on a terminal."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from orchestrator.catalogue.model import Entry, Quota, Value, may_write
from orchestrator.units import format_size

BIG = 8 << 20  # bytes from which on a transfer shows its progress


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def names(found: Sequence[Entry], *, full: bool = False) -> None:
    """One name a line; directories end with /."""
    for entry in found:
        text = escape((entry.path if full else entry.name) or "/")
        _console().print(f"[bold blue]{text}/[/]" if entry.is_directory and text != "/" else text)


def table(found: Sequence[Entry], *, full: bool = False) -> None:
    """Mode, owner, size, time and name of each."""
    if not found:
        _console().print("nothing in there")
        return
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("MODE", "OWNER", "SIZE", "MADE", "NAME"):
        rows.add_column(name, justify="right" if name == "SIZE" else "left", no_wrap=True, overflow="fold")
    for entry in found:
        size = "" if entry.is_directory else format_size(entry.size)
        text = escape(entry.path if full else entry.name)
        name = f"[bold blue]{text}/[/]" if entry.is_directory else text
        rows.add_row(_mode(entry), escape(entry.owner), size, _when(entry.made), name)
    _console().print(rows)


def entry(found: Entry, user: str) -> None:
    """All that the catalogue knows of one entry."""
    rows = Table(box=None, pad_edge=False, show_header=False)
    rows.add_column(style="bold")
    rows.add_column(overflow="fold")
    writable = "yes" if may_write(found, user, False) else "no"
    facts: dict[str, str] = {"path": found.path or "/", "kind": "directory" if found.is_directory else "file"}
    facts |= {"owner": found.owner, "mode": _mode(found), "writable": writable, "made": _when(found.made)}
    if not found.is_directory:
        facts |= {"size": f"{format_size(found.size)} ({found.size} bytes)", "md5": found.md5}
        facts |= {"adler32": found.adler32, "guid": found.guid}
    if found.tags:
        facts |= {"tags": "\n".join(tag_lines(found.tags))}
    for name, value in facts.items():
        rows.add_row(name, escape(value))
    _console().print(rows)


def copies(found: Sequence[dict[str, Any]]) -> None:
    """Where the copies of a file are."""
    if not found:
        _console().print("no copy: its storage elements are gone")
        return
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SE", "SITE", "PFN"):
        rows.add_column(name, overflow="fold")
    for each in found:
        rows.add_row(*(escape(str(each[key])) for key in ("se", "site", "pfn")))
    _console().print(rows)


def tag_lines(tags: Mapping[str, Value]) -> list[str]:
    """NAME=VALUE of each, as `orchestrate file tag` reads it."""
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(tags.items())]


def quota(found: Quota) -> None:
    """What a user has and may have."""
    most = "as many as they like" if found.most_files is None else f"of {found.most_files}"
    room = "as much as they like" if found.most_bytes is None else f"of {format_size(found.most_bytes)}"
    _console().print(f"[bold]{escape(found.user)}[/] has {found.files} files ({most})")
    _console().print(f"with {format_size(found.bytes)} ({room})")


def distances(found: Sequence[dict[str, Any]]) -> None:
    """Storage elements and how far they are."""
    if not found:
        _console().print("no storage element has announced itself")
        return
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SE", "SITE", "DISTANCE", "FREE", "STATE"):
        rows.add_column(name, overflow="fold")
    for each in found:
        alive = "up" if each["alive"] else "silent"
        facts = (each["se"], each["site"], f"{each['distance']:g}", format_size(each["free"]), alive)
        rows.add_row(*(escape(str(fact)) for fact in facts))
    _console().print(rows)


def line(text: str) -> None:
    """One line of what was done."""
    _console().print(escape(text))


@contextlib.contextmanager
def progress(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while ``size`` bytes go; call the value with the bytes that went. Small ones show none."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    console = Console(stderr=True)
    hidden = size < BIG or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(escape(what), total=size)
        yield lambda count: bar.advance(task, count)


def _mode(entry: Entry) -> str:
    letters = "".join(
        letter if entry.mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx")
    )
    return ("d" if entry.is_directory else "-") + letters


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
