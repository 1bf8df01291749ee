"""``orchestrate central backup|restore|maintenance``: what keeps the central services' data.

Heavy modules are imported inside the verbs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.common import HERE, Json, SiteOption, on_grid, reading, show_as
from orchestrator.errors import UserError
from orchestrator.units import format_duration, format_size

if TYPE_CHECKING:
    from orchestrator.operations.model import Header, Mode

_EVERY = 5.0  # seconds between two lines on how far it is, in a pipe
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.", dir_okay=False)]


class Switch(StrEnum):
    ON = "on"
    OFF = "off"
    STATUS = "status"


def register(app: typer.Typer) -> None:
    """``orchestrate central …`` is in ``app``."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Back up and restore the central services' database; make central read-only.",
    )
    for verb in (backup, restore, maintenance):
        group.command(verb.__name__)(verb)
    app.add_typer(group, name="central", rich_help_panel="Machines")


def backup(file: File, site: SiteOption = HERE, as_json: Json = False) -> None:
    """Write central's database to FILE: all of one moment, while everybody works on.

    FILE (0600; an older one is replaced in one step when the new one is whole and was read back) holds all jobs with
    their JDLs, the catalogue, the transfers, the packages and the members. It holds no keys and no tokens: those of
    the VO are in the state directory beside the site spec, `.orchestrate/SITE/keys`, which wants a copy of its own,
    and without which nobody can log in to a restored central. The content of files is not in it, nor the software
    repositories: storage elements and PackMan have those.

    Examples: `orchestrate central backup central-1.backup`,
    `orchestrate central backup "/backup/$(date +%F).backup" --site site.yaml --json`.
    """
    from orchestrator.wiring import operations

    if not file.parent.is_dir():
        raise UserError(f"{file.parent} is no directory; make it, or write the backup elsewhere")
    command = _on_central(site, "backup")
    begun = time.monotonic()
    with _progress() as tell:
        made = operations.save(command, file, tell)
    told: dict[str, Any] = {"file": str(file), "seconds": round(time.monotonic() - begun, 3)}
    told |= {key: made[key] for key in ("vo", "made", "size", "rows", "migrations")}

    def lines() -> Iterator[str]:
        took = format_duration(told["seconds"])
        yield f"{file}: {format_size(told['size'])} in {took}, as of {_at(told['made'])}"
        yield f"  {_content(told['rows'])}"

    show_as(as_json, told, lines)


def restore(
    file: File,
    site: SiteOption = HERE,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before central's data is replaced.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put central's database back to what FILE holds. What was done since is lost; the grid converges by itself.

    FILE is read to its end before anything is touched; one of another VO, of a newer version or a damaged one is
    refused. Central is read-only meanwhile. It is all or nothing: after an interruption the database is as it was, and
    read-only until the same command is repeated, or `orchestrate central maintenance off`.

    Jobs that ran at the time of the backup and still run go on; all others run again, under attempt numbers that
    nobody had before. New jobs get numbers that no job had before.

    Where central's machine was lost, bring it up again first: `orchestrate up`, then this. The new central is empty
    until then and tells agents that it does not know their jobs, so all of these run again.

    Examples: `orchestrate central restore central-1.backup`, `orchestrate central restore central-1.backup --yes`.
    """
    from orchestrator.wiring import operations

    header, rows = _verified(file)
    with reading(site) as ctx:
        vo = ctx.site.vo
    _check(file, header, vo)
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"this replaces all data of VO {vo}'s central; add --yes if you mean it")
        typer.echo(f"{file}: central of VO {vo} as of {_at(header.made)}", err=True)
        typer.echo(f"  {_content(rows)}", err=True)
        if not typer.confirm("Replace what central has now?", err=True):
            raise UserError("nothing was changed")
    command = _on_central(site, "restore")
    begun = time.monotonic()
    with _progress(file.stat().st_size) as tell:
        done = operations.put_back(command, file, tell, tell.step)
    done |= {"file": str(file), "seconds": round(time.monotonic() - begun, 3)}

    def lines() -> Iterator[str]:
        yield f"central is as of {_at(done['taken'])} again, in {format_duration(done['seconds'])}"
        yield f"  {_content(done['rows'])}"
        yield f"  {done['running']} tasks were with a resource and go on if they still are; {done['waiting']} wait"
        if done["migrated"]:
            yield f"  brought to this version by {', '.join(done['migrated'])}"
        if done["read_only"]:
            yield "  central is still read-only: `orchestrate central maintenance off`"

    show_as(as_json, done, lines)


def maintenance(
    switch: Annotated[Switch, typer.Argument(metavar="on|off|status", help="What to do.")],
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Everybody whose request is refused gets to read this.")
    ] = "",
    site: SiteOption = HERE,
    as_json: Json = False,
) -> None:
    """Make central read-only, or let it take writes again.

    When `on` returns, nothing writes any more, in any process. Who submits is told the reason, and to try again; who
    looks is answered; agents go on with the jobs they have, get no new ones, and their reports are kept by their site.

    Examples: `orchestrate central maintenance on --reason "new disks until 14:00"`,
    `orchestrate central maintenance off`.
    """
    from orchestrator.operations import client

    if switch is Switch.ON and not reason.strip():
        raise UserError(
            "say why: `orchestrate central maintenance on --reason TEXT`; everybody gets to read it"
        )
    if switch is Switch.STATUS:
        mode = on_grid(site, lambda grid: client.look(grid.central))
    else:
        mode = on_grid(site, lambda grid: client.change(grid.central, switch is Switch.ON, reason))
    show_as(as_json, mode.to_json(), lambda: [_mode(mode)])


def _mode(mode: Mode) -> str:
    if not mode.on:
        return "central takes writes"
    return f"central is read-only since {_at(mode.since)}, by {mode.by}: {mode.reason}"


def _verified(file: Path) -> tuple[Header, dict[str, int]]:
    from orchestrator.operations.backup import verify

    try:
        with file.open("rb") as stream:
            return verify(stream)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{file}: {error.message}; nothing was touched") from error


def _check(file: Path, header: Header, vo: str) -> None:
    from orchestrator.operations.model import check
    from orchestrator.runtime.sql import migration_names
    from orchestrator.wiring.central import COMPONENTS

    try:
        check(header, vo, migration_names(COMPONENTS))
    except UserError as error:
        raise UserError(f"{file}: {error.message}; nothing was touched") from error


def _on_central(site: Path, program: str) -> list[str]:
    """The command that runs a program of central's machine, wherever that is."""
    from orchestrator.cli.look import shell
    from orchestrator.deploy import commands
    from orchestrator.site.schema import Role
    from orchestrator.wiring import operations

    with reading(site) as ctx:
        found = [machine for machine in commands.fleet(ctx) if machine.role == Role.CENTRAL]
        if not found:
            raise UserError(f"site {ctx.site.site} has no central machine; run `orchestrate up` first")
        return shell(ctx, found[0].name, lambda _: operations.program(program))


class _Told:
    """How far it is, on standard error: a line that changes on a terminal, one now and then in a pipe."""

    def __init__(self, total: int) -> None:
        self._total, self._sent = total, 0
        self._next = time.monotonic() + (0.2 if sys.stderr.isatty() else _EVERY)

    def step(self, sent: int) -> None:
        self._sent += sent

    def __call__(self, table: str, rows: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        live = sys.stderr.isatty()
        self._next = now + (0.2 if live else _EVERY)
        share = f", {100 * self._sent // self._total} % read" if self._total else ""
        line = f"{table}: {rows} rows{share}"
        sys.stderr.write(f"\r\x1b[2K{line}" if live else f"{line}\n")
        sys.stderr.flush()

    def over(self) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()


@contextmanager
def _progress(total: int = 0) -> Iterator[_Told]:
    told = _Told(total)
    try:
        yield told
    finally:
        told.over()


def _content(rows: dict[str, Any]) -> str:
    rows = rows | {"task": rows["task"] + rows.get("task_archive", 0)}
    names = {
        "task": "tasks",
        "entry": "catalogue entries",
        "replica": "replicas",
        "package": "packages",
        "person": "members",
    }
    return ", ".join(f"{rows[table]} {name}" for table, name in names.items() if table in rows)


def _at(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
