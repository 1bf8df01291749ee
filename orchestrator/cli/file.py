"""``orchestrate file …``: the file catalogue and what it holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import filefacts
from orchestrator.cli.filegrid import Json, Lfn, Lfns, Named, SiteOption, on_files, print_json
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.wiring.grid import Connection


def register(app: typer.Typer) -> None:
    """``orchestrate file …`` is in ``app``."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Files of the grid. Names that do not begin with / start at your home, /VO/user/L/LOGIN.",
    )
    verbs = (("ls", ls), ("cat", cat), ("get", get), ("put", put), ("rm", rm), ("mkdir", mkdir), ("mv", mv))
    for name, verb in (*verbs, ("stat", stat), ("whereis", whereis), ("find", find)):
        group.command(name)(verb)
    filefacts.register(group)
    app.add_typer(group, name="file", rich_help_panel="Files")


def ls(
    lfn: Annotated[str, typer.Argument(metavar="LFN", help="A directory or file; default your home.")] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="Mode, owner, size and time too.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """List a directory.

    Examples: `orchestrate file ls`, `orchestrate file ls -l results`, `orchestrate file ls /`.
    """
    from orchestrator.catalogue import client
    from orchestrator.cli import fileview

    found = on_files(site, lambda grid, path: client.ls(grid.central, path(lfn)))
    if as_json:
        print_json([each.to_json() for each in found])
    elif long:
        fileview.table(found)
    else:
        fileview.names(found)


def cat(lfns: Lfns, site: SiteOption = None) -> None:
    """Print files. Example: `orchestrate file cat results/stdout`."""
    import shutil
    import sys
    import tempfile

    from orchestrator.catalogue import client

    async def act(grid: Connection, path: Named) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "content"
            for lfn in lfns:
                await client.get(grid.central, path(lfn), target)
                with target.open("rb") as source:
                    shutil.copyfileobj(source, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    on_files(site, act)


def get(
    lfn: Lfn,
    to: Annotated[Path, typer.Argument(metavar="TO", help="A file or directory here.")] = Path(),
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Copy a file, or a directory with all in it, to this computer.

    Examples: `orchestrate file get results/histos.json`, `orchestrate file get results /tmp`.
    """
    from orchestrator.cli import fileview
    from orchestrator.client import Grid, copying

    async def act(grid: Connection, _: Named) -> list[dict[str, Any]]:
        mine = Grid.over(grid).files
        entry = await mine.stat(lfn)
        files = await copying.tree(grid.central, entry)
        with fileview.progress(entry.name, sum(file.size for file in files)) as step:
            return await mine.fetch(entry, files, to, step)

    done = on_files(site, act)
    if as_json:
        print_json(done)
    for each in () if as_json else done:
        fileview.line(f"{each['lfn']} -> {each['path']}")


def put(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A file or directory here.")],
    lfn: Annotated[
        str,
        typer.Argument(metavar="LFN", help="Its new name, or a directory to put it in; default your home."),
    ] = "~",
    se: Annotated[str, typer.Option(help="The storage element to use; default the best one.")] = "",
    copies: Annotated[int, typer.Option(min=1, max=10, help="On how many storage elements.")] = 1,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Copy a file, or a directory with all in it, to the grid. What is there already is passed over.

    Examples: `orchestrate file put hello.sh`, `orchestrate file put data run7/data --copies 2`.
    """
    from orchestrator.cli import fileview
    from orchestrator.client import Grid, copying

    async def act(grid: Connection, _: Named) -> list[dict[str, Any]]:
        size = sum(file.stat().st_size for file in copying.local(source).values())
        with fileview.progress(source.name, size * copies) as step:
            return await Grid.over(grid).files.put(source, lfn, se, copies, step)

    done = on_files(site, act)
    if as_json:
        print_json(done)
    for each in () if as_json else done:
        fileview.line(
            f"{each['lfn']} on {', '.join(each['se'])}" if each["new"] else f"{each['lfn']} is there"
        )
    if any(each["new"] and len(each["se"]) < copies for each in done):
        typer.echo(f"fewer than {copies} storage elements could take it", err=True)


def rm(
    lfns: Lfns,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Directories with all in them.")
    ] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """Remove files, empty directories, or with -r all below them. Example: `orchestrate file rm -r old`."""
    from orchestrator.catalogue import client

    _each(site, lfns, lambda grid, lfn: client.rm(grid.central, lfn, recursive), as_json)


def mkdir(lfns: Lfns, site: SiteOption = None, as_json: Json = False) -> None:
    """Make directories and those above them. Example: `orchestrate file mkdir results/2026`."""
    from orchestrator.catalogue import client

    _each(site, lfns, lambda grid, lfn: client.mkdir(grid.central, lfn), as_json)


def mv(
    lfn: Lfn,
    to: Annotated[str, typer.Argument(metavar="TO", help="The new name, or a directory to move it into.")],
    site: SiteOption = None,
) -> None:
    """Rename or move a file or directory. Example: `orchestrate file mv draft.txt papers/`."""
    from orchestrator.client import Grid

    on_files(site, lambda grid, _: Grid.over(grid).files.mv(lfn, to))


def stat(lfn: Lfn, site: SiteOption = None, as_json: Json = False) -> None:
    """Show all about one file or directory. Example: `orchestrate file stat results/stdout`."""
    from orchestrator.catalogue import client
    from orchestrator.cli import fileview

    async def act(grid: Connection, path: Named) -> None:
        entry = await client.stat(grid.central, path(lfn))
        if as_json:
            print_json(entry.to_json())
        else:
            fileview.entry(entry, grid.user)

    on_files(site, act)


def whereis(lfn: Lfn, site: SiteOption = None, as_json: Json = False) -> None:
    """Show where the copies of a file are. Example: `orchestrate file whereis results/stdout`."""
    from orchestrator.catalogue import client
    from orchestrator.cli import fileview

    found = on_files(site, lambda grid, path: client.whereis(grid.central, path(lfn)))
    print_json(found) if as_json else fileview.copies(found)


def find(
    lfn: Lfn,
    pattern: Annotated[str, typer.Argument(help="A name with * and ?, in quotes.")] = "*",
    where: Annotated[
        str, typer.Option("--where", "-w", metavar="CONDITION", help="What the tags must be, in quotes.")
    ] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="Owner, size and time too.")] = False,
    site: SiteOption = None,
    as_json: Json = False,
) -> None:
    """List the files below a directory whose names match, or with --where what has such tags.

    Examples: `orchestrate file find /`, `orchestrate file find results '*.root'`,
    `orchestrate file find /alice --where 'run > 1000 && pass == "p2"'`.
    """
    from orchestrator.catalogue import client
    from orchestrator.cli import fileview

    found = on_files(site, lambda grid, path: client.find(grid.central, path(lfn), pattern, where))
    if as_json:
        print_json([each.to_json() for each in found])
    elif long:
        fileview.table(found, full=True)
    else:
        fileview.names(found, full=True)


def _each(
    site: Path | None, lfns: list[str], act: Callable[[Any, str], Awaitable[Any]], as_json: bool
) -> None:
    """The same for every name; one that cannot be done is told, and the others are done all the same."""

    async def every(grid: Connection, path: Named) -> list[dict[str, Any]]:
        told = []
        for lfn in lfns:
            done: dict[str, Any] = {"lfn": path(lfn), "ok": True}
            try:
                await act(grid, path(lfn))
            except UserError as error:
                done |= {"ok": False, "message": error.message, "code": error.exit_code}
                if not as_json:
                    typer.echo(error.message, err=True)
            told.append(done)
        return told

    told = on_files(site, every)
    if as_json:
        print_json(told)
    if refused := [each for each in told if not each["ok"]]:
        raise typer.Exit(refused[0]["code"])
