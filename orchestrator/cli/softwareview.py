"""How software looks on a terminal: the steps of a publication, packages."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.units import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import TaskID

    from orchestrator.software.publish import Published
    from orchestrator.software.steps import Progress, Sink

Json = dict[str, Any]
_WORDS = {
    "check": "looking at the directory",
    "archive": "packing the archive",
    "repository": "new revision",
    "torrent": "hashing the torrent",
    "upload": "uploading the archive",
    "entry": "package entry",
    "seed": "seeding",
}


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


@contextmanager
def steps(*, quiet: bool = False) -> Iterator[Sink]:
    """A sink for progress: a live bar on a terminal, a line for each step that ended otherwise; on stderr."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _live() as sink:
            yield sink
    else:
        yield lambda progress: _line(_console(stderr=True), progress)


def _line(console: Console, progress: Progress) -> None:
    if progress.ended:
        amount = ""
        if progress.total:
            amount = f"{format_size(progress.total)} in {format_duration(progress.seconds)}, {format_size(progress.rate)}/s  "
        console.print(f"[green]✓[/] {progress.step.value:<10}  {amount}[dim]{escape(progress.note)}[/]")


@contextmanager
def _live() -> Iterator[Sink]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bars

    console = _console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(30),
        TextColumn("{task.fields[amount]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        shown: dict[str, TaskID] = {}

        def sink(progress: Progress) -> None:
            step = progress.step.value
            if step not in shown:
                shown[step] = bars.add_task(_WORDS[step], total=None, amount="")
            if progress.ended:
                bars.remove_task(shown.pop(step))
                _line(bars.console, progress)
                return
            if progress.total:
                bars.update(
                    shown[step],
                    completed=progress.done,
                    total=progress.total,
                    amount=f"{format_size(progress.done)} of {format_size(progress.total)}, {format_size(progress.rate)}/s",
                )

        yield sink


def published(made: Published) -> None:
    """The one line that says what is true now, and how a job asks for it."""
    package = made.package
    size = f"{made.files} files, {format_size(made.size)}, archive {format_size(package.size)}"
    verb = "[green]published[/]" if made.new else "already published"
    console = _console()
    console.print(
        f"{package.spelling} {verb}: {size}, in {package.fqrn} revision {package.revision}, "
        f"{format_duration(made.seconds)}"
    )
    if made.new:
        console.print(f'[dim]a job asks for it with[/] Packages = {{"{package.spelling}"}};')
    if made.warning:
        _console(stderr=True).print(f"[yellow]{escape(made.warning)}[/]")


def listing(found: list[Json]) -> None:
    """A table of packages."""
    if not found:
        _console().print(
            "nothing is published; publish with `orchestrate software publish FQRN NAME VERSION DIR`"
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("PACKAGE", "VERSION", "ARCHIVE", "REPOSITORY", "REVISION", "PUBLISHED", "BY"):
        table.add_column(name, justify="right" if name in ("ARCHIVE", "REVISION") else "left", no_wrap=True)
    for each in found:
        table.add_row(
            each["name"],
            each["version"],
            format_size(each["size"]),
            each["fqrn"],
            str(each["revision"]),
            _when(each["made"]),
            escape(each["by"]),
        )
    _console().print(table)


def package(found: Json, others: list[str]) -> None:
    """Everything about one package."""
    spelling = f"{found['name']}::{found['version']}"
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("package", spelling)
    facts.add_row("published", f"{_when(found['made'])} by {escape(found['by'])}")
    facts.add_row("archive", f"{format_size(found['size'])}, sha256 {found['sha256']}")
    facts.add_row("torrent", f"info-hash {found['info_hash']}")
    if found["fqrn"]:
        facts.add_row("mounted", f"/cvmfs/{found['fqrn']}/{found['path']} since revision {found['revision']}")
    facts.add_row("in a JDL", f'Packages = {{"{spelling}"}};')
    if others:
        facts.add_row("others", ", ".join(others))
    _console().print(facts)


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
